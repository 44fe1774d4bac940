# %% [markdown]
# # 02 Download and pack the datasets
#
# Downloads the datasets from Kaggle, audits and splits them, and packs all faces into one store. It leaves the packed
# store (on Colab with a copy on Drive) and `dataset_paths.json`. Downloading and packing take some minutes on Colab.
# With `SOURCE = "sample"` it draws faces instead, in the same folder layouts, so that everything can be tried at once.

# %% tags=["parameters"] cellView="form"
# @title Parameters
SOURCE = "kaggle"  # @param ["kaggle", "sample"]
DATASETS = "fer2013, utkface"  # @param {type:"string"}
SAMPLE_FACES = 6000  # @param {type:"integer"}
FACES = "faces"  # @param {type:"string"}

# %% [markdown]
# ## Get the files
#
# Both datasets are public; no key is needed. One that cannot be had does not stop the others: the message says which.
# They have their own terms, which also bind what you make of them.

# %%
from helpers.data.sources import SOURCES, fetch_all, save_paths
from helpers.session.progress import bar

names = DATASETS.replace(",", " ").split()
folders, problems = fetch_all(SOURCE, names, workspace.folder, drawn=SAMPLE_FACES, progress=bar("Drawing faces"))
save_paths(workspace.paths_file, folders)
print(*problems, *(f"{name} ({SOURCES[name].terms}): {folder}" for name, folder in folders.items()), sep="\n")

# %% [markdown]
# ## Audit, split and pack
#
# A face's split depends only on the hash of its own pixels, so it never moves. Published test sets stay whole. Where
# identical pixels stand in two splits, the one in the lower split is left out: otherwise the test would ask what was
# learned by heart.

# %%
from helpers.data.audit import audit_table
from helpers.data.store import pack

store = pack(folders, workspace.faces(FACES), progress=lambda name: bar(f"Reading {name}"))
print(f"{len(store)} faces in {store.folder}")
audit_table(store.manifest["audit"])

# %% [markdown]
# ## What was rejected
#
# Nothing is skipped silently. Each file that cannot be used is listed with its reason.

# %%
import pandas as pd

audit = store.manifest["audit"]
rejected = [(name, *item) for name, found in audit.items() for item in found["rejected_files"]]
pd.DataFrame(rejected, columns=["dataset", "file", "reason"])

# %% [markdown]
# ## What arrived
#
# Faces per class in each split. Rare classes are learned last; keep them in mind when you read the confusion matrix.

# %%
from helpers import plots

plots.class_balance(audit, "Faces per class" + (" (drawn faces)" if store.drawn else ""))

# %%
from helpers.data.store import caption

rows = store.fixed_sample("train", 12)[:24]
plots.faces([store.image(row) for row in rows], [caption(store.faces.iloc[row]) for row in rows])

# %% [markdown]
# ## Keep it
#
# On Colab the store is copied to Drive as one verified file, so later notebooks open it in seconds on a new machine.

# %%
workspace.save(workspace.faces(FACES))
print(workspace.note)

# %% [markdown]
# ## What you should see
#
# A table with the faces of each split, a list of rejected files, the class balance, and two dozen faces whose labels
# you can check by eye.
