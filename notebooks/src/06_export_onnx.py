# %% [markdown]
# # 06 Export to ONNX
#
# Writes the best checkpoint as one ONNX file with preprocessing inside and proves that it answers as PyTorch does. It
# takes the run of notebook 05 and leaves `model.onnx` and the full verdict. It takes about a minute on any machine.

# %% tags=["parameters"] cellView="form"
# @title Parameters
RUN = "run-1"  # @param {type:"string"}
FACES = "faces"  # @param {type:"string"}

# %% tags=["first"] cellView="form"
# @title Install what exporting needs, where it is missing
install.bring("requirements-export.txt")

# %% [markdown]
# ## Export and check
#
# The graph takes uint8 RGB faces of any size and any number, and gives probabilities and years.

# %%
from helpers.data.store import FaceStore
from helpers.export.check import check_graph
from helpers.export.graph import export_graph
from helpers.export.latency import time_graph
from helpers.runs.run import Run

workspace.restore(workspace.faces(FACES))
workspace.restore(workspace.run(RUN))
run, store = Run.open(workspace.run(RUN)), FaceStore.open(workspace.faces(FACES))

# %%
path = export_graph(run)
result = check_graph(run, store) | time_graph(run, store) | {"bytes": path.stat().st_size}
run.write_metrics("export", result)
print(f"largest difference to PyTorch {result['difference']['value']:.1e}, {result['bytes'] / 1e6:.1f} MB")

# %% [markdown]
# ## Use it
#
# ONNX Runtime and numpy are all that the file needs.

# %%
from helpers import plots
from helpers.export.graph import open_session
from helpers.tasks import EMOTIONS, GENDERS

session, captions = open_session(run.folder / "model.onnx"), []
images = [store.image(row) for row in store.fixed_sample("validation", 8)]
for image in images:
    emotion, age, gender = session.run(["emotion", "age", "gender"], {"faces": image[None]})
    captions.append(f"{EMOTIONS[emotion.argmax()]}\n{GENDERS[gender.argmax()]}, {age[0]:.0f}")
plots.faces(images, captions, title="Validation faces and what the exported model says")

# %% [markdown]
# ## The verdict

# %%
from helpers.evaluation.verdict import verdict, verdict_table

verdict_table(verdict(run.read_metrics(), run.manifest["drawn"], run.weights))

# %% [markdown]
# ## Take it with you
#
# The model file and the report lie in the run's folder; on Colab the browser is offered the model as a download.

# %% cellView="form"
# @title Copy all to Drive and offer the model as a download
from helpers.session.workspace import offer_download

workspace.save(run.folder)
print(*(f"{path.name}: {path}" for path in sorted(run.folder.glob("[!.]*"))), sep="\n")
offer_download(run.folder / "model.onnx")

# %% [markdown]
# ## What you should see
#
# A difference far below 0.001, faces with answers, six criteria with a verdict each, and the list of files.
