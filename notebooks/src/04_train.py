# %% [markdown]
# # 04 Train
#
# Trains one network with three heads: emotion, age and gender. It takes the packed store of notebook 02 and leaves a
# run folder with the best checkpoint, the history and the curves (on Colab with a copy on Drive). How long it takes on
# a T4 has not been measured yet. When the session is cut, open this notebook again and choose Run all: it goes on.

# %% tags=["parameters"] cellView="form"
# @title Parameters
RECIPE = "auto"  # @param ["auto", "seed", "small", "demo"]
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
# The panel starts with the recipe (`auto`: `seed` on a GPU, `small` without one), a batch size that fits the GPU (64 on
# a T4, 128 on larger ones) and `CHANGES`, a dict of fields, for example `{"epochs": 20}`; a run that is already there
# keeps the config it was started with, but for `workers` and `max_minutes`. Without a click the values stay as they
# are, so Run all works.

# %%
from helpers.session.runtime import config_for
from helpers.training.run import Run
from helpers.ui.controls import ConfigPanel

wanted = config_for(inspect_machine(), RECIPE, **CHANGES)
panel = ConfigPanel(Run.config_in(workspace.run(RUN), otherwise=wanted))
panel

# %% [markdown]
# ## Train
#
# Stop with the cell's stop button whenever you like: the step under way is finished and everything is kept. Run the
# cell again to go on. The best checkpoint is chosen on the validation split; the test split is not touched here.

# %%
from helpers.training.fit import fit
from helpers.ui.live import LiveTraining

live, folder = LiveTraining(workspace, board=TENSORBOARD), workspace.run(RUN)
run = fit(panel.config, store, folder, on_step=live.on_step, on_epoch=live.on_epoch, on_log=live.on_log)
live.finish(run)

# %% [markdown]
# ## Curves
#
# Validation should follow training. When the gap between them grows, raise the augmentation or stop earlier.

# %%
from helpers import plots

plots.curves(run.history, f"Run {RUN}" + (" (drawn faces)" if store.drawn else ""))

# %%
import pandas as pd

columns = ["epoch", "train_loss", "val_loss", "val_emotion_accuracy", "val_gender_accuracy", "val_age_mae", "best"]
pd.DataFrame(run.history, columns=columns).tail(5)

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
# How many parameters the network has, one line per epoch (with the GPU's temperature, and whether heat slows it down),
# six curves with a dashed line at the best epoch, and the last epochs as a table. `results.json` and `train.log` in the
# run's folder hold the same for later.
