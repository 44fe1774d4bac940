# %% [markdown]
# # 05 Evaluate
#
# Measures the best checkpoint on the test split, which nothing has seen before. It takes the run of notebook 04 and
# leaves `metrics.json`, every single prediction and the figures. It takes minutes on a T4 or a CPU.

# %% tags=["parameters"] cellView="form"
# @title Parameters
RUN = "run-1"  # @param {type:"string"}
FACES = "faces"  # @param {type:"string"}

# %% [markdown]
# ## Measure
#
# Every number comes with its count of faces and a 95 % interval. Training stands for 5,000 fixed faces per task, read
# without augmentation, so that the gap to validation compares like with like.

# %%
from helpers.data.store import FaceStore
from helpers.evaluation.report import evaluate, summary
from helpers.session.progress import bar
from helpers.training.run import Run

workspace.restore(workspace.faces(FACES))
workspace.restore(workspace.run(RUN))
run = Run.open(workspace.run(RUN))
metrics = evaluate(run, FaceStore.open(workspace.faces(FACES)), progress=bar)

# %%
summary(metrics)

# %% [markdown]
# ## Confusion matrices and figures
#
# Rows are the truth, columns the answer. What the network takes for what is more telling than the accuracy alone.

# %%
from IPython.display import Image, display

for picture in sorted((run.folder / "figures").glob("*.png")):
    display(Image(filename=str(picture)))

# %% [markdown]
# ## The verdict so far
#
# A criterion is passed only where the interval's bound lies on the safe side, and never on drawn faces. The last two
# lines are measured in notebook 06.

# %%
from helpers.evaluation.verdict import verdict, verdict_table

workspace.save(run.folder)
verdict_table(verdict(metrics, run.manifest["drawn"]))

# %% [markdown]
# ## What you should see
#
# A table per split and dataset, the figures, and six criteria of which four are judged.
