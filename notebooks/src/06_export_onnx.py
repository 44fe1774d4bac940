# %% [markdown]
# # 06 Export to ONNX
#
# Writes the best checkpoint as one ONNX file with preprocessing inside and proves that it answers as PyTorch does. It
# takes the run of notebook 05 and leaves `model.onnx`, the full verdict and one zip to take with you. It takes about a
# minute on any machine.

# %% tags=["parameters"] cellView="form"
# @title Parameters
RUN = "run-1"  # @param {type:"string"}
FACES = "faces"  # @param {type:"string"}
VARIANTS = False  # @param {type:"boolean"}

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
# ## What does it say?
#
# Eight validation faces, each with the answers, how sure they are, and what is true where that is known.

# %%
from helpers.export.finish import answered_faces, finish_card

answered_faces(run, store)

# %% [markdown]
# ## The verdict

# %%
from helpers.evaluation.verdict import verdict, verdict_table

verdict_table(verdict(run.read_metrics(), run.manifest["drawn"], run.weights))

# %% [markdown]
# ## Smaller or faster?
#
# With `VARIANTS` the model is also written with half the bytes for its weights, without the mirror image, for smaller
# faces, and with whole numbers in its widest layers, and all of them read every validation face. Offered is what is
# smaller or faster and loses at most half a point and a tenth of a year; recommended is the fastest of these, and of
# equally fast ones the smallest. It takes some minutes.

# %%
from helpers.export.variants import compare_variants
from helpers.session.progress import bar

compare_variants(run, store, run.folder, bar) if VARIANTS else "VARIANTS is off, so there is nothing to do here."

# %% [markdown]
# ## Take it with you
#
# One zip holds the model, the face detector, the names of the classes, the model card, the measured results, a page
# for the camera of any browser, and a short example. It lies in the run's folder; on Colab a copy of the run goes to
# Drive, and the browser is offered the zip as a download.

# %% cellView="form"
# @title Write the bundle, copy all to Drive, and offer it as a download
from helpers.export.bundle import write_bundle
from helpers.export.page import write_page
from helpers.session.workspace import offer_download

write_page(path, run.folder / "try_it.html")
bundle = write_bundle(run)
workspace.save(run.folder)
offer_download(bundle)
finish_card(run, bundle)

# %% [markdown]
# ## What you should see
#
# A difference far below 0.001, faces with answers, six criteria with a verdict each, and a card that says what was
# reached and where it lies.
