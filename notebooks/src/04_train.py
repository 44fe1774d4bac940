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

# %% [markdown]
# ## Open the store and what is there of the run

# %%
from helpers.data.store import FaceStore

workspace.restore(workspace.faces(FACES))
workspace.restore(workspace.run(RUN))
store = FaceStore.open(workspace.faces(FACES))

# %% [markdown]
# ## Choose the knobs
#
# The panel starts with the recipe: `production` (what `auto` takes on a GPU), `quick` (the same in about 15 minutes
# of a T4, unmeasured), `seed` (what this project grew from, for comparison), `small` (what `auto` takes without a
# GPU) or `demo` (for the drawn faces). The batch size fits the GPU, and `CHANGES` is a dict of fields that win over
# the recipe, for example `{"epochs": 20}`. Another start of the weights brings the learning rates that suit it. A run
# that is already there goes on with the config it was started with: changes to anything but `workers` and
# `max_minutes` are refused, and the difference is shown. Without a click the values stay as they are, so Run all
# works.

# %%
from helpers.training.run import Run
from helpers.ui.controls import ConfigPanel

panel = ConfigPanel(Run.config_in(workspace.run(RUN), RECIPE, **CHANGES))
panel

# %% [markdown]
# ## How long will it take?
#
# Some steps are tried out with these faces at each size, and thrown away: about a minute that tells you the hours,
# and on Colab the compute units, before you spend them.

# %%
from helpers.ui.live import LiveTraining

live = LiveTraining(panel.config, store, workspace, RUN, board=TENSORBOARD)
print(live.estimate())

# %% [markdown]
# ## Train
#
# Stop with the cell's stop button whenever you like (or make a file called `stop` in the run's folder): the step
# under way is finished and everything is kept. Run the cell again to go on. Checkpoints are written after each epoch
# and every five minutes. The best one is chosen on the validation split; the test split is not touched here. On
# several GPUs, as on Kaggle, each gets its own process, and the log stands in for the live curves.

# %%
run = live.train()

# %% [markdown]
# ## Curves
#
# Validation should follow training. Where the gap between them passes 10 points, the log says what to change.

# %%
from helpers import plots

plots.curves(run.history, f"Run {RUN}" + (" (drawn faces)" if store.drawn else ""))

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
from helpers.training.compare import runs_table

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
