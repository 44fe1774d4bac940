# %% [markdown]
# # 00 Run all: from nothing to a finished model
#
# Does every step in one session: choose *Runtime > Run all*, allow the access to Google Drive when you are asked, and
# come back to a trained, measured and exported model.
#
# - **What will happen.** The four datasets are downloaded from Kaggle (no key is needed), audited and packed; one
#   network is trained to read emotion, age and gender; it is measured on faces that it has never seen; it is exported
#   as one file, `model.onnx`, and that file is checked. Everything goes to Drive on the way.
# - **How long.** On a free T4 training takes at most about {t4_hours}: computed from a published benchmark of another
#   GPU, not measured. Downloading and packing, and measuring and exporting, have not been measured on a T4. Before it
#   trains, the notebook tries some steps and says how long your own machine will take. Without a GPU it takes a small
#   network, for about half an hour on two CPU cores (computed from measured faces per second).
# - **What it costs.** Nothing on Colab's free tier, which ends a session after 12 hours at most. With paid compute
#   units about {t4_units} for a T4 ({t4_rate} an hour, as users published).
# - **When it is cut.** Choose Run all again on the next machine: it goes on where it was.
# - **Only to try it?** `SOURCE = "sample"` below draws faces instead: nothing is downloaded, and all steps take 2.4
#   to 9 minutes on two CPU cores (measured).

# %% cellView="form"
# @title Drawn faces get names of their own, so that they never meet real ones, and the recipe that is made for them
if SOURCE == "sample":
    RUN, FACES = (name.removesuffix("-sample") + "-sample" for name in (RUN, FACES))
    RECIPE = "demo" if RECIPE == "auto" else RECIPE
