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
from helpers.config import earlier_runs
from helpers.data.store import FaceStore

workspace.restore(workspace.faces(FACES))
for name in (RUN, *earlier_runs(CHANGES)):
    workspace.restore(workspace.run(name))
store = FaceStore.open(workspace.faces(FACES))

# %% [markdown]
# ## Choose the knobs
#
# The panel starts with the recipe: `production` (what `auto` takes on a GPU), `quick` (the same in about 15 minutes
# of a T4, unmeasured), `seed` (what this project grew from, for comparison), `small` (what `auto` takes without a
# GPU) or `demo` (for the drawn faces). The batch size fits the GPU, and `CHANGES` is a dict of fields that win over
# the recipe, for example `{"epochs": 20}`. `{"weights": "run:run-1"}` starts from the best epoch of that run, on other
# faces too, such as a few hundred of your own. Another start of the weights brings the learning rates that suit it.
# The first line says what will be trained and in what that differs from the recipe; a value that cannot be used is
# marked beside its box, and the others count. What you change is still there when you run the cell again. A run that
# is already there goes on with the config it was started with: only `workers` and `max_minutes` may change, and for
# anything else a button goes on from its best epoch under a new name. Save writes a file for
# `python -m helpers train --config config.json`. Without a click the values stay as they are, so Run all works.

# %%
from helpers.session.runtime import fitted_to
from helpers.ui.controls import ConfigPanel

machine = inspect_machine(workspace.folder)
panel = ConfigPanel(RECIPE, CHANGES, workspace.run(RUN), fitted_to(machine), store)
panel

# %% [markdown]
# ## How long will it take?
#
# Some steps are tried out with these faces at each size, and thrown away: about a minute that tells you the hours,
# on Colab the compute units, and the memory, before you spend them. The panel's buttons do the same for what it shows,
# and look for a learning rate: a hundred steps in which the rate rises until the loss does, thrown away too.

# %%
from helpers.training.estimate import estimate
from helpers.ui.live import shown_bar

print(estimate(panel.config, store, panel.folder, shown_bar("Trying out")))

# %% [markdown]
# ## Train
#
# This is the whole loop: epochs, batches, a step for each, and a measurement after each epoch. `train_step` and
# `validate` are in `helpers/training/loop.py`: one step sets the learning rate, asks the network (forward), compares
# with the labels (loss), finds out which weight is to blame by how much (backward), and changes all of them a little
# (optimiser). `session` is what happens around it: checkpoints after each epoch and every five minutes, the log, the
# curves, your stop button. The best epoch is chosen on the validation split; the test split is not touched here. Below
# the curves are eight validation faces with what the network says of them after each epoch.
#
# Stop with the cell's stop button whenever you like (or make a file called `stop` in the run's folder): the step
# under way is finished and everything is kept. Run the cell again to go on; all that was shown is there again. Do so
# too where the page was loaded again meanwhile: the training goes on unseen, and stop and run shows it. On several
# GPUs, as on Kaggle, the command line trains in one process for each, and its output stands in for the live curves.

# %%
from helpers.training.launch import launch
from helpers.training.loop import train_step, training_session, validate
from helpers.ui.live import LiveTraining

view, folder = LiveTraining(panel.config, store, workspace, TENSORBOARD), panel.folder
if len(machine.gpus) > 1:
    run = launch(panel.config, store, folder, len(machine.gpus), *["--tensorboard"] * TENSORBOARD)
    view.show(run)
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
# One line for each run on this machine or on Drive, by its best epoch on the validation split; the last column names
# the knobs in which they differ.

# %%
from helpers.runs.compare import runs_table

runs_table(*workspace.run_folders())

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
# How long it will take; two bars, for the epoch and for all of them, with the time of the end; six curves with a dashed
# line at the best epoch; eight faces, more and more of them read right; the log, with one line per epoch (with the
# GPU's temperature, and whether heat slows it down); the last epochs and all runs as tables. `results.json` and
# `train.log` in the run's folder hold the same for later.

# %% tags=["last"] cellView="form"
# @title Give the GPU back, if you asked for that
if RELEASE_GPU:
    print(workspace.release_machine())
