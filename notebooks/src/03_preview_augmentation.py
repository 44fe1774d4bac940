# %% [markdown]
# # 03 Preview the augmentation
#
# Shows what training does to the faces before the network sees them. It takes the packed store of notebook 02 and
# leaves nothing behind. It takes less than a minute on any machine.

# %% tags=["parameters"] cellView="form"
# @title Parameters
FACES = "faces"  # @param {type:"string"}
STRENGTH = 1.0  # @param {type:"slider", min:0.0, max:2.0, step:0.1}
LEAVE_OUT = ""  # @param {type:"string"}

# %% [markdown]
# ## Open the store

# %%
from helpers.data.store import FaceStore

workspace.restore(workspace.faces(FACES))
store = FaceStore.open(workspace.faces(FACES))
originals = [store.image(row) for row in store.examples("train", 1)]

# %% [markdown]
# ## Each technique on the same faces
#
# Five groups: geometric, colour, noise, blur and cutout. Under each name stands the most that it does at this strength.
# Faces are shown as they are stored, small and large ones, grey and coloured. If you cannot read the emotion any more,
# neither can the network: lower `STRENGTH`, or name what goes too far in `LEAVE_OUT`. A caption in red marks a face of
# which less than 70 % of the features are left.

# %%
from IPython.display import display

from helpers import plots
from helpers.data.augment import GROUPS, preview_techniques, techniques

used = techniques(LEAVE_OUT)
for group in GROUPS:
    if names := [name for name in used if used[name].group == group]:
        images, captions, marks = preview_techniques(originals, names, STRENGTH)
        display(plots.faces(images, captions, len(names) + 1, f"{group}, strength {STRENGTH:g}", marks))

# %% [markdown]
# ## Try one yourself
#
# Choose a technique and move the slider: each row is one face and four draws of the technique.

# %%
from helpers.ui.tryout import TryOut

TryOut(originals, STRENGTH)

# %% [markdown]
# ## As training draws them
#
# In training each technique is applied by its own probability, about three besides the flip, so a face hardly ever
# looks the same twice. To train with what you chose here, set `augment` and `augment_without` in notebook 04, for
# example `CHANGES = {"augment": 0.8, "augment_without": "hue, grey"}`.

# %%
from helpers.data.augment import Augmenter

augmenter = Augmenter(STRENGTH, LEAVE_OUT)
augmenter.reseed(0)
drawn = [augmenter.whole(face) for face in originals for _ in range(8)]
plots.faces(drawn, [""] * len(drawn), title="Eight draws of each face")

# %% [markdown]
# ## Mixup and CutMix
#
# Some steps mix each face with another one, and the labels in the same share: Mixup adds them up, CutMix pastes a part.

# %%
import numpy as np
import torch

from helpers.data.geometry import resize
from helpers.training.mixing import cutmix, mixup

batch = torch.cat([resize(torch.from_numpy(face)[None], 200) for face in originals])
partner = torch.arange(len(batch)).roll(-1)  # each face is mixed with the next one
pairs = {"Mixup": mixup(batch, partner, 0.7), "CutMix": cutmix(batch, partner, 0.7, np.random.default_rng(3))}
images = [pixels.permute(1, 2, 0).byte().numpy() for mixed, _ in pairs.values() for pixels in mixed]
titles = [f"{name} {share:.0%}" for name, (_, share) in pairs.items() for _ in originals]
plots.faces(images, titles, columns=len(originals), title="The share is that of the face itself")

# %% [markdown]
# ## What you should see
#
# Faces whose emotion, age and gender you can still tell, although none looks like the original any more.
