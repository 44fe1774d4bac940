"""The panel edits the config, never holds an invalid one, and needs no click."""

import numpy as np

from drawn_faces.face import draw_face
from helpers.config import TrainConfig, recipe
from helpers.data.augment import TECHNIQUES
from helpers.ui.controls import ConfigPanel
from helpers.ui.tryout import TryOut

SHOWN = TrainConfig.knobs(panel=True)


def test_without_a_click_the_config_is_the_one_it_started_with():
    config = recipe("small", epochs=3)
    panel = ConfigPanel(config)
    assert panel.config == config
    assert {name: box.value for name, box in panel.inputs.items()} == {name: config.flat()[name] for name in SHOWN}


def test_every_widget_is_labelled_and_explained_from_the_config_s_own_fields():
    panel = ConfigPanel(TrainConfig())
    for name, row in zip(panel.inputs, panel.view.children, strict=False):
        about = SHOWN[name].metadata
        box, text = row.children
        assert box.description == about["label"] and about["help"] in text.value
        if "choices" in about:
            assert tuple(box.options) == about["choices"]


def test_each_widget_changes_its_field_and_no_other():
    changes = {"epochs": 5, "lr": 3e-4, "backbone": "resnet18", "augment": 0.3, "flip_test": True, "schedule": "cosine"}
    for name, value in changes.items():
        panel = ConfigPanel(TrainConfig())
        panel.inputs[name].value = value
        assert panel.config == TrainConfig().replace(**{name: value}) and panel.message.value == ""


def test_another_start_of_the_weights_brings_the_rates_that_suit_it():
    panel = ConfigPanel(recipe("production"))
    panel.inputs["weights"].value = "faces"
    assert panel.config == recipe("production", weights="faces") and panel.config.model.backbone == "tf_efficientnet_b2"
    assert panel.inputs["backbone"].value == "tf_efficientnet_b2"
    panel.inputs["weights"].value = "none"
    optimiser = panel.config.optimiser
    assert (optimiser.lr, optimiser.backbone_lr, panel.config.schedule.head_epochs) == (3e-3, 1.0, 0)
    assert panel.inputs["lr"].value == 3e-3 and panel.message.value == ""


def test_a_refused_value_is_said_and_the_last_good_config_stays():
    panel = ConfigPanel(TrainConfig())
    panel.inputs["lr"].value = 5.0
    assert panel.config == TrainConfig() and "'lr' is 5.0" in panel.message.value
    panel.inputs["lr"].value = 1e-3
    assert panel.config.optimiser.lr == 1e-3 and panel.message.value == ""


def test_the_try_out_draws_every_technique_and_says_what_is_too_strong():
    faces = [draw_face(np.random.default_rng(seed), seed, 30, 0, size) for seed, size in ((0, 48), (1, 96))]
    panel = TryOut(faces)
    seen = {panel.picture.value}
    assert panel.picture.value.startswith(b"\x89PNG") and "readable" in panel.message.value
    for name in TECHNIQUES:
        panel.technique.value = name
        seen.add(panel.picture.value)
    assert len(seen) == len(TECHNIQUES), "each choice draws another picture"
    panel.technique.value, panel.strength.value = "shift", 2.0
    assert "Too strong" in panel.message.value
    panel.strength.value = 0.0
    assert "readable" in panel.message.value
