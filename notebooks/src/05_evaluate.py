# %% [markdown]
# # 05 Evaluate
#
# Measures the best checkpoint on the test split, which nothing has seen before. It takes the run of notebook 04 and
# leaves `metrics.json`, `MODEL_CARD.md`, every single prediction and the figures. It takes minutes on a T4 or a CPU.

# %% tags=["parameters"] cellView="form"
# @title Parameters
RUN = "run-1"  # @param {type:"string"}
FACES = "faces"  # @param {type:"string"}
COMPARE_WITH = ""  # @param {type:"string"}

# %% [markdown]
# ## How good is it?
#
# A card for each task: its test result with the 95 % interval, on how many faces, and how its criterion judges it.
# Below, faces that it read right, and its surest mistakes in red.

# %%
from IPython.display import display

from helpers.data.store import FaceStore
from helpers.evaluation.figures import face_figures, headline
from helpers.evaluation.measures import measure, summary
from helpers.evaluation.predictions import write_predictions
from helpers.runs.run import Run
from helpers.session.progress import bar

workspace.restore(workspace.faces(FACES))
workspace.restore(workspace.run(RUN))
run, store = Run.open(workspace.run(RUN)), FaceStore.open(workspace.faces(FACES))

# %%
table = write_predictions(run, store, progress=bar)
metrics = measure(table)
run.write_metrics("evaluation", metrics)
faces = face_figures(run, store, table)
display(headline(run, metrics), *(faces[name] for name in faces if name.startswith("faces_")))

# %% [markdown]
# ## Where do the numbers come from?
#
# Every number with its data, its count of faces and a 95 % interval. Training stands for 5,000 fixed faces per task,
# read without augmentation, so that the gap to validation compares like with like. On FER2013 one annotator agrees with
# the majority of nine others on 70 to 73 % of faces, and the folder's label is the clear majority of ten annotators for
# 64 %: about 70 % is what one person reaches.

# %%
summary(metrics)

# %% [markdown]
# And every further measure of the test split. Balanced accuracy and macro F1 count each class alike, however rare; cs5
# is the share of ages within five years, which papers report. The lines "without copies" leave out test faces that a
# training set was published with as well.

# %%
from helpers.evaluation.measures import details

details(metrics)

# %% [markdown]
# ## Which emotions are confused?
#
# Rows are the truth, columns the answer. What the network takes for what is more telling than the accuracy alone.
# Below, for each emotion: how many of its faces were found (recall), how many of the faces that were called so are so
# (precision), and both in one number (F1).

# %%
from helpers.evaluation.figures import task_figures

display(*task_figures("emotion", metrics, table, run.manifest["drawn"]).values())

# %% [markdown]
# ## How far off are ages?
#
# Left, each face: on the line its age was answered rightly. Right, how far off the answers are, by decade.

# %%
display(*task_figures("age", metrics, table, run.manifest["drawn"]).values())

# %% [markdown]
# ## And gender?

# %%
display(*task_figures("gender", metrics, table, run.manifest["drawn"]).values())

# %% [markdown]
# ## Is it as good for everyone?
#
# Each measure by gender, age and UTKFace's race field, with intervals. Groups of fewer than 30 faces are grey, and no
# group is called the worst unless it stands out after correction for how many groups were looked at.

# %%
from helpers.evaluation.figures import confidence_figures, group_figures

display(*group_figures(metrics).values())

# %% [markdown]
# ## Can its confidence be trusted?
#
# Left, how often it is right where it says so many percent: on the line it is honest. Its confidence was set right by
# one number, fitted on validation faces, which the exported file applies too. Right, how accurate it is where only the
# surest answers count.

# %%
display(*confidence_figures(table, metrics["calibration"]["fitted"]).values())

# %% [markdown]
# ## Where does it fail?
#
# Its surest mistakes, and beside each in warm colours what counted most for the answer (Grad-CAM). Then choose what it
# is and what was answered, and page through those faces.

# %%
from helpers.ui.failures import FailureBrowser

display(*(faces[name] for name in faces if name.startswith("mistakes_")))
FailureBrowser(table, store)

# %% [markdown]
# ## Is it better than my last run?
#
# `COMPARE_WITH` names other evaluated runs, separated by commas: all are compared on the same test faces, in pairs. A
# difference whose interval holds 0 may be chance. Below, all runs on this machine and, on Colab, those on Drive, with
# the knobs in which they differ.

# %%
from helpers import plots
from helpers.evaluation.comparison import compare_runs
from helpers.runs.compare import runs_table

names = COMPARE_WITH.replace(",", " ").split()
for name in names:
    workspace.restore(workspace.run(name))
compared = [run, *(Run.open(workspace.run(name)) for name in names)]
compare_runs(compared)

# %%
plots.curves_of_runs({one.folder.name: one.history for one in compared})

# %%
runs_table(*workspace.run_folders())

# %% [markdown]
# ## How was it learned?

# %%
plots.curves(run.history, run.title)

# %% [markdown]
# ## What now?
#
# A criterion is passed only where the interval's bound lies on the safe side, and never on drawn faces. The last two
# lines are measured in notebook 06. The last column says what to change next, by the names of the fields.

# %%
from helpers.evaluation.verdict import verdict, verdict_table

verdict_table(verdict(run.read_metrics(), run.manifest["drawn"], run.weights))

# %% [markdown]
# ## Keep it
#
# The figures and the model card go into the run's folder, and on Colab a copy of the run goes to Drive.

# %% cellView="form"
# @title Write the model card and the figures, and copy all to Drive
from helpers.evaluation.card import write_card
from helpers.evaluation.figures import all_figures

plots.save_all(all_figures(run, metrics, table) | faces, run.folder / "figures")
print(f"Everything is in {run.folder}; read {write_card(run).name} before you hand the model to anyone.")
workspace.save(run.folder)

# %% [markdown]
# ## What you should see
#
# Three cards, faces with answers, a table per split and dataset, the figures, and six criteria, of which four are
# judged.
