# %% [markdown]
# # 07 Try it
#
# Reads the faces in your pictures, in a video, or before the camera of your browser. It needs no training: without a
# run it takes the model that comes with this project. With a run of notebook 06 it takes that, and shows what the
# earlier one said of the same faces. It takes less than a minute on any machine.

# %% tags=["parameters"] cellView="form"
# @title Parameters
RUN = ""  # @param {type:"string"}
BEFORE = ""  # @param {type:"string"}
UPLOAD = False  # @param {type:"boolean"}
PICTURE = ""  # @param {type:"string"}
VIDEO = ""  # @param {type:"string"}

# %% tags=["first"] cellView="form"
# @title Install what exporting needs, where it is missing
install.bring("requirements-export.txt")

# %% [markdown]
# ## Which model?
#
# `RUN` names a run that notebook 06 has exported; left empty, it is the model that comes with this project. The file
# knows what it was trained on, and below which probability its answer is called unsure.

# %%
from helpers.ui.pictures import choose_models, choose_pictures, open_predictor, show_answers

model, earlier = choose_models(workspace, RUN, BEFORE)
predictor = open_predictor(model)
print(f"{model}: trained on {predictor.about['trained_on']}")
print(*(f"unsure of {task} below {least:.0%}" for task, least in predictor.thresholds.items()), sep=", ")

# %% [markdown]
# ## What does it see?
#
# With `UPLOAD` Colab asks for pictures of yours; elsewhere `PICTURE` is the path of one, or of a folder. Without both
# it reads a group of drawn people, of whom a model of real faces knows little. A detector finds the faces, and each
# one's expression, gender and age are read. An expression is not a feeling: the model must not decide about people.

# %%
pictures = choose_pictures(workspace, PICTURE, UPLOAD)
show_answers(predictor, pictures)

# %% [markdown]
# ## Before and after
#
# The same pictures, read by the run that `BEFORE` names, or by the model that comes with this project.

# %%
if earlier:
    print(f"Before, with {earlier}:")
    show_answers(open_predictor(earlier), pictures)
else:
    print("There is one model only: name a run of yours in RUN to see what it has learned.")

# %% [markdown]
# ## A video
#
# `VIDEO` is the path of one. Each frame is read by itself, and written with its faces and answers.

# %%
from IPython.display import Video, display

if VIDEO:
    rate = predictor.write_video(VIDEO, workspace.folder / "predicted.webm")
    print(f"{rate:.0f} frames a second were read, answered and drawn")
    display(Video(workspace.folder / "predicted.webm", embed=True))
else:
    print("VIDEO names no file, so there is nothing to do here.")

# %% [markdown]
# ## The camera
#
# One page that holds the model and all it needs; without `RUN` the smaller of the two that come with this project,
# which keeps up with a camera. Colab opens it in a window; everywhere you can download it and open it in a browser: it
# asks for the camera or takes pictures, and nothing leaves your device.

# %%
from helpers.export.page import SHIPPED_CAMERA_MODEL, open_page, write_page
from helpers.session.workspace import offer_download

page = write_page(model if RUN else SHIPPED_CAMERA_MODEL, workspace.folder / "try_it.html")
print(f"{page} has {page.stat().st_size / 1e6:.1f} MB")
offer_download(page)
open_page(page)

# %% [markdown]
# ## What you should see
#
# Your pictures with a box and an answer for each face, once for each model, and a page for the camera. From a terminal
# the same is `python -m helpers predict photo.jpg`.
