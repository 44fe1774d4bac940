# %% [markdown]
# # 02 Download and pack the datasets
#
# Downloads the datasets from Kaggle, audits and splits them, and packs all faces into one store. It leaves the packed
# store (on Colab with a copy on Drive) and `dataset_paths.json`. Downloading and packing take some minutes on Colab.
# With `SOURCE = "sample"` it draws faces instead, in the same folder layouts, so that everything can be tried at once.

# %% tags=["parameters"] cellView="form"
# @title Parameters
SOURCE = "kaggle"  # @param ["kaggle", "sample"]
DATASETS = "fer2013, utkface, rafdb, affectnet"  # @param {type:"string"}
AFFECTNET_LABELS = "agree"  # @param ["agree", "folder", "csv"]
OWN_FACES = ""  # @param {type:"string"}
GENDER_CODES = "ask"  # @param ["ask", "0=male 1=female", "0=female 1=male", "1=male 2=female"]
SAMPLE_FACES = 6000  # @param {type:"integer"}
FACES = "faces"  # @param {type:"string"}

# %% [markdown]
# ## Get the files
#
# The four datasets are public; no key is needed. One that cannot be had does not stop the others: the message says
# which. They have their own terms, which also bind what you make of them. FER2013's faces are grey: where they alone
# teach emotions, emotions are read from a grey view of each face; RAF-DB and AffectNet teach them in colour.
#
# `OWN_FACES` may name a CSV file of your own with the columns file, emotion, age and gender, any of the labels missing;
# it lies among or above the images. Emotions and genders are words, ages are years or ranges such as 20-29 or 70+. What
# a cell leaves open, or says wrongly, costs that label alone. Numbers for a gender mean different things in different
# datasets: a column male or is_female says which, or `GENDER_CODES` does. A column subject names the person, who then
# stays within one split; a column split holds train, validation or test where you have divided the faces yourself.

# %%
from helpers.config import PackConfig
from helpers.data.download import fetch_all
from helpers.data.sources import save_paths
from helpers.session.progress import bar

knobs = PackConfig(affectnet_labels=AFFECTNET_LABELS, gender_codes=GENDER_CODES)
options = {"own": OWN_FACES, "knobs": knobs, "drawn": SAMPLE_FACES, "progress": bar("Drawing faces")}
folders, problems = fetch_all(SOURCE, DATASETS.replace(",", " ").split(), workspace.folder, **options)
save_paths(workspace.paths_file, folders)
print(*problems, *(f"{name}: {place}" for name, place in folders.items()), sep="\n")

# %% [markdown]
# ## Audit, split and pack
#
# A face's split depends only on the hash of its own pixels, or of its person where one is named, so it never moves.
# Published validation and test sets stay whole. Where copies of one picture stand in two splits, the one in the lower
# split is left out: otherwise the test would ask what was learned by heart.

# %%
from helpers.data.audit import audit_table, rejects_table
from helpers.data.store import pack

workspace.restore(workspace.faces(FACES))
store = pack(folders, workspace.faces(FACES), knobs, progress=lambda name: bar(f"Reading {name}"))
audit = store.manifest["audit"]
print(f"{len(store)} faces in {store.folder}", "Terms of the faces:", sep="\n")
print(*(f"  {name}: {about['terms']}" for name, about in store.manifest["sources"].items()), sep="\n")
audit_table(audit)

# %% [markdown]
# ## What was left out
#
# Nothing is skipped silently: each reason is counted here with a few names, files and single labels apart, and the
# store's `manifest.json` lists every one. Every file below a dataset's folder is either read or named. RAF-DB's images
# are used where folder and CSV name the same class. AffectNet's two labels often differ, since the CSV's come from
# another model: `AFFECTNET_LABELS` says which to believe. Contempt is not among the emotions.

# %%
rejects_table(audit)

# %% [markdown]
# ## Twins
#
# Copies of one picture, by their dataset and the number of their group: the same pixels, or saved again at another
# size. A copy in a lower split than another is left out of training. Where copies carry different labels, the majority
# or the median age counts, or the label becomes unknown.

# %%
from helpers import plots
from helpers.data.store import twin_pictures

plots.faces(*twin_pictures(store), title="Twins and what each of them is called")

# %% [markdown]
# ## What arrived
#
# Faces per class in each split. Rare classes are learned last; keep them in mind when you read the confusion matrix.

# %%
plots.class_balance(audit, "Faces per class" + (" (drawn faces)" if store.drawn else ""))

# %%
from helpers.data.store import describe

rows = store.examples("train", 6)
captions = describe(store.faces.iloc[rows])
plots.faces([store.image(row) for row in rows], captions, columns=6, title=", ".join(store.manifest["sources"]))

# %% [markdown]
# ## Keep it
#
# On Colab the store is copied to Drive as one verified file, so later notebooks open it in seconds on a new machine.

# %% cellView="form"
# @title Copy the faces to Drive
workspace.save(workspace.faces(FACES))
print(workspace.note)

# %% [markdown]
# ## What you should see
#
# A table with the faces of each split, what was left out and why, some twins, the class balance, and six faces of each
# dataset whose labels you can check by eye.
