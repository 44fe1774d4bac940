# %% [markdown]
# # 01 Set-up and GPU check
#
# Finds out where you are and what this machine can do. It takes nothing in, leaves an opened workspace, and takes
# about a minute on any machine. Every notebook of the series starts with the same set-up cell, so each one can be
# opened on a new machine.

# %% [markdown]
# ## What this machine means for you
#
# The network learns from tens of thousands of faces many times over. A GPU does that in hours, a CPU in days, so the
# series picks its recipe by what is here.

# %%
from helpers.config import decide
from helpers.session.runtime import advice, fitted_to, machine_table

machine = inspect_machine(workspace.folder)
print(*(advice(machine) or ["All is well: nothing stands in the way of training here."]), sep="\n")
config = decide("auto", {}, fitted=fitted_to(machine))
print(f"To start with: {config.model.backbone} at {config.model.img_size} px, batch_size {config.data.batch_size}")
machine_table(machine)

# %% [markdown]
# ## Which GPU to ask for
#
# Hours and compute units of the whole `production` recipe on all four datasets, at most: its faces are smaller at
# first, and early stopping may end it sooner. They are computed from a published benchmark of another GPU, not
# measured. Units per hour are what users published, and change; *View resources* in Colab's menu shows yours.

# %%
from helpers.session.gpu import gpus_table

gpus_table().drop(columns="source")

# %% [markdown]
# ## The recipes
#
# A recipe is a full set of settings. You need not choose: `auto` does. Notebook 04 lets you change any of them, and the
# [reference page]({repository}/blob/{branch}/docs/REFERENCE.md) explains all.
#
# {recipes}

# %% [markdown]
# ## What you should see
#
# A sentence on what to do where something is missing, a table of the machine, and what each GPU would cost. When no GPU
# was found on Colab, choose *Runtime > Change runtime type > T4 GPU* and *Run all* again.
