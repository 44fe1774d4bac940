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
from helpers.evaluation.measures import measure, summary
from helpers.evaluation.predictions import write_predictions
from helpers.runs.run import Run
from helpers.session.progress import bar

workspace.restore(workspace.faces(FACES))
workspace.restore(workspace.run(RUN))
run = Run.open(workspace.run(RUN))

# %%
table = write_predictions(run, FaceStore.open(workspace.faces(FACES)), progress=bar)
metrics = measure(table)
run.write_metrics("evaluation", metrics)
summary(metrics)

# %% [markdown]
# ## Emotion
#
# Rows are the truth, columns the answer. What the network takes for what is more telling than the accuracy alone.
# Below, for each emotion: how many of its faces were found (recall), how many of the faces that were called so are so
# (precision), and both in one number (F1).

# %%
from IPython.display import display

from helpers.evaluation.figures import task_figures

display(*task_figures("emotion", metrics, table, run.manifest["drawn"]).values())

# %% [markdown]
# ## Age
#
# Left, each face: on the line its age was answered rightly. Right, how far off the answers are, by decade.

# %%
display(*task_figures("age", metrics, table, run.manifest["drawn"]).values())

# %% [markdown]
# ## Gender

# %%
display(*task_figures("gender", metrics, table, run.manifest["drawn"]).values())

# %% [markdown]
# ## How it was learned

# %%
from helpers import plots

plots.curves(run.history, run.title)

# %% [markdown]
# ## The verdict so far
#
# A criterion is passed only where the interval's bound lies on the safe side, and never on drawn faces. The last two
# lines are measured in notebook 06.

# %%
from helpers.evaluation.verdict import verdict, verdict_table

verdict_table(verdict(run.read_metrics(), run.manifest["drawn"], run.weights))

# %% [markdown]
# ## Keep it
#
# The figures go into the run's folder, and on Colab a copy of the run goes to Drive.

# %%
from helpers.evaluation.figures import all_figures

plots.save_all(all_figures(run, metrics, table), run.folder / "figures")
workspace.save(run.folder)
print(f"Everything is in {run.folder}.")

# %% [markdown]
# ## What you should see
#
# A table per split and dataset, the figures, and six criteria of which four are judged.
