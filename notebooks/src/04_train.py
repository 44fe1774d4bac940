# %% [markdown]
# # 04 Train
#
# Trains one network with three heads: emotion, age and gender. It takes the packed store of notebook 02 and leaves a
# run folder with the best checkpoint, the history and the curves (on Colab with a copy on Drive). How long it takes
# is estimated on your machine before it starts; a T4 has not been measured yet. When the session is cut, open this
# notebook again and choose Run all: it goes on where it was, to the same result as if nothing had happened.

# %% tags=["parameters"] cellView="form"
# @title Parameters
RECIPE = "auto"  # @param ["auto", "seed", "production", "quick", "small", "demo"]
RUN = "run-1"  # @param {type:"string"}
FACES = "faces"  # @param {type:"string"}
CHANGES = {}  # @param {type:"raw"}
TENSORBOARD = False  # @param {type:"boolean"}
RELEASE_GPU = False  # @param {type:"boolean"}

# %% [markdown]
# ## Open the store and what is there of the run

# %%
from helpers.data.store import FaceStore

workspace.restore(workspace.faces(FACES))
for name in (RUN, *[v.removeprefix("run:") for v in CHANGES.values() if str(v).startswith("run:")]):
    workspace.restore(workspace.run(name))
store = FaceStore.open(workspace.faces(FACES))

# %% [markdown]
# ## Choose the knobs
#
# The panel starts with the recipe: `production` (what `auto` takes on a GPU), `quick` (the same in about 15 minutes
# of a T4, unmeasured), `seed` (what this project grew from, for comparison), `small` (what `auto` takes without a
# GPU) or `demo` (for the drawn faces). The batch size fits the GPU, and `CHANGES` is a dict of fields that win over
# the recipe, for example `{"epochs": 20}`. `{"weights": "run:run-1"}` starts from the best epoch of that run, on other
# faces too, such as a few hundred of your own. Another start of the weights brings the learning rates that suit it. A
# run that is already there goes on with the config it was started with: changes to anything but `workers` and
# `max_minutes` are refused, and the difference is shown. Without a click the values stay as they are, so Run all
# works.

# %%
from helpers.config import decide
from helpers.runs.run import Run
from helpers.session.runtime import fitted_to
from helpers.ui.controls import ConfigPanel

machine = inspect_machine(workspace.folder)
runs = Run.configs(workspace.run(RUN), CHANGES)
panel = ConfigPanel(decide(RECIPE, CHANGES, fitted=fitted_to(machine), **runs))
panel

# %% [markdown]
# ## How long will it take?
#
# Some steps are tried out with these faces at each size, and thrown away: about a minute that tells you the hours,
# and on Colab the compute units, before you spend them.

# %%
from helpers.session.progress import bar
from helpers.training.estimate import estimate

print(estimate(panel.config, store, workspace.run(RUN), bar("Trying out")))

# %% [markdown]
# ## Train
#
# This is the whole loop: epochs, batches, a step for each, and a measurement after each epoch. `train_step` and
# `validate` are in `helpers/training/loop.py`: one step sets the learning rate, asks the network (forward), compares
# with the labels (loss), finds out which weight is to blame by how much (backward), and changes all of them a little
# (optimiser). `session` is what happens around it: checkpoints after each epoch and every five minutes, the log, the
# curves, your stop button. The best epoch is chosen on the validation split; the test split is not touched here.
#
# Stop with the cell's stop button whenever you like (or make a file called `stop` in the run's folder): the step
# under way is finished and everything is kept. Run the cell again to go on. On several GPUs, as on Kaggle, the command
# line trains in one process for each, and its output stands in for the live curves.

# %%
from helpers.training.launch import launch
from helpers.training.loop import train_step, training_session, validate
from helpers.ui.live import LiveTraining

view, folder = LiveTraining(panel.config, workspace, TENSORBOARD), workspace.run(RUN)
if len(machine.gpus) > 1:
    run = launch(panel.config, store, folder, len(machine.gpus), *["--tensorboard"] * TENSORBOARD)
    view.close(run)
else:
    with training_session(panel.config, store, folder, **view.hooks) as session:
        training, run = session.training, session.run
        while session.goes_on():  # until the epochs, the minutes or the patience are used up
            for batch in training.batches():  # what is left of this epoch
                train_step(training, batch)
                if session.after_step():  # shows it, now and then saves it; true after your stop button
                    break
            if training.epoch_is_complete:
                session.after_epoch(validate(training))  # keeps the best, saves, draws the curves

# %% [markdown]
# ## Curves
#
# Validation should follow training. Where the gap between them passes 10 points, the log says what to change.

# %%
from helpers import plots

plots.curves(run.history, run.title)

# %%
import pandas as pd

columns = ["epoch", "train_loss", "val_loss", "val_emotion_accuracy", "val_gender_accuracy", "val_age_mae", "best"]
pd.DataFrame(run.history, columns=columns).tail(5)

# %% [markdown]
# ## All runs side by side
#
# One line for each run that is on this machine, by its best epoch on the validation split; the last column names the
# knobs in which they differ.

# %%
from helpers.runs.compare import runs_table

runs_table(run.folder.parent)

# %% [markdown]
# ## TensorBoard
#
# With `TENSORBOARD = True` the same numbers are shown by TensorBoard.

# %%
if TENSORBOARD:
    get_ipython().run_line_magic("load_ext", "tensorboard")
    get_ipython().run_line_magic("tensorboard", f"--logdir '{run.folder / 'tensorboard'}'")

# %% [markdown]
# ## What you should see
#
# How long it will take; how many parameters the network has; two bars, for the epoch and for all of them; one line
# per epoch (with the GPU's temperature, and whether heat slows it down); six curves with a dashed line at the best
# epoch, the last epochs and all runs as tables. `results.json` and `train.log` in the run's folder hold the same for
# later.

# %% tags=["last"] cellView="form"
# @title Give the GPU back, if you asked for that
if RELEASE_GPU:
    print(workspace.release_machine())
