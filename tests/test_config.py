"""The config refuses what it cannot use, in one sentence."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.config import RECIPES, InputError, TrainConfig, read_json, recipe


def test_a_config_survives_being_saved_and_loaded(tmp_path):
    config = recipe("small", epochs=7, lr=2e-3)
    config.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epoch": 5}, ["'epoch'", "did you mean 'epochs'"]),
        ({"zebra": 5}, ["'zebra'", "known fields are"]),
        ({"epochs": 0}, ["'epochs'", "0", "from 1 to 1000"]),
        ({"epochs": 2.5}, ["'epochs'", "2.5", "whole number"]),
        ({"epochs": True}, ["'epochs'", "True", "whole number"]),
        ({"lr": float("nan")}, ["'lr'", "nan", "1e-06 to 0.1"]),
        ({"lr": "fast"}, ["'lr'", "'fast'", "a number"]),
        ({"weights": "vggface"}, ["'weights'", "imagenet, faces, none"]),
        ({"backbone": 3}, ["'backbone'", "text"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(values, words):
    with pytest.raises(InputError) as caught:
        TrainConfig.from_dict(values)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and message[-1] in ".?"


def test_a_whole_number_is_taken_where_a_number_is_wanted():
    assert TrainConfig.from_dict({"clip_norm": 2}).clip_norm == 2.0


def test_every_knob_has_what_a_form_needs():
    for knob in dataclasses.fields(TrainConfig):
        assert knob.metadata["label"] and knob.metadata["help"].endswith("."), knob.name
        numeric = not isinstance(knob.default, str | bool)
        assert numeric == ("low" in knob.metadata), f"{knob.name} needs a range where it is a number"


def test_recipes_are_valid_and_an_unknown_one_is_refused_with_the_list():
    for name, config in RECIPES.items():
        assert recipe(name) == TrainConfig.from_dict(dataclasses.asdict(config))
    with pytest.raises(InputError, match="There is no recipe 'best'; choose one of: seed, production, quick, small"):
        recipe("best")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=4))
def test_any_json_is_a_config_or_one_sentence(value):
    try:
        config = TrainConfig.from_dict({"lr": value})
    except InputError as error:
        assert "'lr'" in str(error)
    else:
        assert 1e-6 <= config.lr <= 0.1


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\x00", "{'a': 1}"])
def test_a_file_that_is_no_json_object_is_refused_by_name(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"broken\.json"):
        read_json(path, "a config")


def test_the_seed_recipe_is_the_document_s():
    wanted = {"backbone": "efficientnet_b2", "weights": "imagenet", "batch_size": 64, "epochs": 100, "lr": 1e-4,
              "weight_decay": 1e-4, "t_0": 10, "t_mult": 2, "clip_norm": 1.0, "patience": 15, "min_delta": 0.001,
              "focal_alpha": 0.25, "focal_gamma": 2.0, "label_smoothing": 0.1, "dropout_in": 0.5,
              "dropout_hidden": 0.4, "mix_probability": 0.5, "select_by": "emotion_accuracy"}  # fmt: skip
    found = json.loads(json.dumps(dataclasses.asdict(RECIPES["seed"])))
    assert {name: found[name] for name in wanted} == wanted
