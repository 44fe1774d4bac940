"""The config refuses what it cannot use, in one sentence."""

import dataclasses
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from helpers.config import RECIPES, STARTS, LossConfig, PackConfig, TrainConfig, decide, earlier_runs, recipe, start_of
from helpers.files import InputError, read_json
from helpers.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent


def test_a_config_survives_being_saved_and_loaded(tmp_path):
    config = recipe("small", epochs=7, lr=2e-3)
    config.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epoch": 5}, ["'epoch'", "did you mean 'epochs'"]),
        ({"zebra": 5}, ["'zebra'", "--help lists"]),
        ({"self": 5}, ["'self'", "--help lists"]),
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
        TrainConfig().replace(**values)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and message[-1] in ".?"


def test_a_whole_number_is_taken_where_a_number_is_wanted():
    assert TrainConfig().replace(clip_norm=2).optimiser.clip_norm == 2.0


def test_every_knob_has_what_a_form_needs():
    for knob in (*TrainConfig.knobs().values(), *dataclasses.fields(PackConfig)):
        assert knob.metadata["label"] and knob.metadata["help"].endswith("."), knob.name
        numeric = not isinstance(knob.default, str | bool)
        assert numeric == ("low" in knob.metadata), f"{knob.name} needs a range where it is a number"


def test_recipes_are_valid_and_an_unknown_one_is_refused_with_the_list():
    for name, config in RECIPES.items():
        assert recipe(name) == config == TrainConfig().replace(**config.flat())
    with pytest.raises(InputError, match="There is no recipe 'best'; choose one of: seed, production, quick, small"):
        recipe("best")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=4))
def test_any_json_is_a_config_or_one_sentence(value):
    try:
        config = TrainConfig().replace(lr=value)
    except InputError as error:
        assert "'lr'" in str(error)
    else:
        assert 1e-6 <= config.optimiser.lr <= 0.1


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
    found = json.loads(json.dumps(RECIPES["seed"].flat()))
    assert {name: found[name] for name in wanted} == wanted


def test_a_config_in_sections_is_known_by_flat_names_that_no_two_sections_share():
    sections = [dataclasses.fields(section.default) for section in dataclasses.fields(TrainConfig)]
    names = [knob.name for section in sections for knob in section]
    assert len(set(names)) == len(names) and list(TrainConfig.knobs()) == names == list(TrainConfig().flat())
    changed = TrainConfig().replace(epochs=3, lr=2e-3, seed=7)
    assert (changed.schedule.epochs, changed.optimiser.lr, changed.run.seed) == (3, 2e-3, 7)
    different = {name for name, value in changed.flat().items() if value != TrainConfig().flat()[name]}
    assert different == {"epochs", "lr", "seed"}


def test_knobs_are_chosen_by_what_is_known_of_them():
    assert set(TrainConfig.knobs(fitted=True)) == {"batch_size"}
    assert set(TrainConfig.knobs(resumable=True)) == {"workers", "max_minutes"}
    assert not TrainConfig.knobs(fitted=True, resumable=True) and len(TrainConfig.knobs(first=True)) == 6


def test_each_task_has_a_knob_for_its_weight_and_a_new_head_would_bring_its_own():
    weights = {knob.name for knob in dataclasses.fields(LossConfig) if knob.name.endswith("_weight")}
    assert weights == {f"{task}_weight" for task in TASKS}
    changed = TrainConfig().replace(age_weight=0.3).loss
    assert changed.weight("age") == 0.3 and changed.weight("emotion") == TASKS["emotion"].weight

    code = """
import helpers.tasks
helpers.tasks.TASKS["glasses"] = helpers.tasks.Classes("glasses", ("no", "yes"), weight=0.25)
from helpers.config import TrainConfig
knobs = TrainConfig.knobs()
print(knobs["glasses_weight"].metadata["help"], "glasses_accuracy" in knobs["select_by"].metadata["choices"])
print(TrainConfig().loss.weight("glasses"), TrainConfig().replace(glasses_weight=0.5).loss.weight("glasses"))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["Factor of the glasses loss. True", "0.25 0.5"]


FITTED = {"batch_size": 128}
"""What fits some GPU; no recipe has it by itself."""


def test_a_recipe_that_is_named_is_taken_and_by_itself_it_is_production():
    assert decide("quick", {}) == RECIPES["quick"]
    assert decide(None, {}) == RECIPES["production"]
    assert decide("demo", {"epochs": 3}) == RECIPES["demo"].replace(epochs=3)


def test_auto_is_production_on_a_gpu_and_small_without_one():
    assert decide("auto", {}, fitted=FITTED) == RECIPES["production"].replace(batch_size=128)
    assert decide("auto", {}) == RECIPES["small"]


def test_what_fits_the_gpu_goes_into_the_recipes_for_gpus_alone_and_what_is_set_by_hand_wins():
    for name, base in RECIPES.items():
        wanted = 128 if name in ("seed", "production", "quick") else base.data.batch_size
        assert decide(name, {}, fitted=FITTED) == base.replace(batch_size=wanted), name
        assert decide(name, {"batch_size": 50}, fitted=FITTED) == base.replace(batch_size=50), name


def test_another_start_of_the_weights_brings_what_suits_it_but_not_to_seed_and_not_over_what_is_set_by_hand():
    for name, start in product(RECIPES, ("imagenet", "faces", "none")):
        base = RECIPES[name]
        suited = {} if name == "seed" or start == base.model.weights else STARTS[start]
        assert decide(name, {"weights": start}) == base.replace(weights=start, **suited), (name, start)
    by_hand = decide("production", {"weights": "none", "lr": 5e-4})
    assert (by_hand.optimiser.lr, by_hand.optimiser.backbone_lr, by_hand.schedule.head_epochs) == (5e-4, 1.0, 0)
    assert decide("production", {"weights": "imagenet", "lr": 5e-4}) == RECIPES["production"].replace(lr=5e-4)
    assert decide("seed", {"weights": "faces"}).model.backbone == RECIPES["seed"].model.backbone


@pytest.mark.parametrize("name", [None, "auto"])
def test_a_run_that_is_there_goes_on_with_all_that_it_has_and_the_changes_alone(name):
    existing = RECIPES["demo"].replace(batch_size=48, workers=3, max_minutes=20.0, lr=3e-4)
    assert decide(name, {}, fitted=FITTED, existing=existing) == existing
    changed = decide(name, {"workers": 0, "weights": "imagenet"}, fitted=FITTED, existing=existing)
    assert changed == existing.replace(workers=0, weights="imagenet"), "refused when it is trained, not made to suit"


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_asked_for_a_run_that_is_there_keeps_only_what_is_fitted_or_may_change(name):
    kept = {"batch_size": 48, "workers": 3, "max_minutes": 20.0}
    existing = RECIPES["demo"].replace(lr=3e-4, epochs=77, seed=5, **kept)
    assert decide(name, {}, fitted=FITTED, existing=existing) == RECIPES[name].replace(**kept)
    assert decide(name, {"workers": 1, "lr": 2e-4}, existing=existing) == RECIPES[name].replace(
        **kept | {"workers": 1, "lr": 2e-4}
    )


def test_a_run_of_a_recipe_goes_on_when_the_same_recipe_is_asked_for_on_another_gpu():
    first = decide("production", {}, fitted={"batch_size": 64})
    assert decide("production", {}, fitted={"batch_size": 128}, existing=first) == first
    assert decide("auto", {}, existing=first) == first, "without a GPU too"


@pytest.mark.parametrize("existing", [None, RECIPES["demo"]])
def test_a_recipe_or_a_knob_that_does_not_exist_is_refused_in_one_sentence(existing):
    with pytest.raises(InputError, match="There is no recipe 'best'; choose one of: seed, production, quick, small"):
        decide("best", {}, existing=existing)
    for name in (None, "auto", "seed"):
        with pytest.raises(InputError, match="unknown field 'machine'"):
            decide(name, {"machine": 1}, existing=existing)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=4))
def test_any_json_as_the_start_of_the_weights_is_a_config_or_one_sentence(value):
    try:
        config = decide("production", {"weights": value})
    except InputError as error:
        assert "'weights'" in str(error)
    else:
        assert config.model.weights in STARTS or start_of(config.model.weights) in ("run", "file")


@pytest.mark.parametrize("weights", ["imagnet", "run:", "lite0", "", "run"])
def test_a_start_of_the_weights_that_is_neither_a_choice_nor_a_run_nor_a_file_is_refused(weights):
    with pytest.raises(InputError, match="takes one of: imagenet, faces, none, run:<name>, or a file of weights"):
        recipe("production", weights=weights)


def test_a_start_from_an_earlier_run_brings_its_network_and_gentle_rates_but_not_over_what_is_set_by_hand():
    origin = RECIPES["demo"].replace(age_head="distribution", dropout_in=0.33)
    config = decide("production", {"weights": "run:mine", "dropout_in": 0.1}, origin=origin)
    assert (config.model.backbone, config.model.img_size, config.model.age_head) == ("test_resnet", 64, "distribution")
    assert (config.model.weights, config.model.dropout_in) == ("run:mine", 0.1)
    assert config.optimiser.lr == STARTS["run"]["lr"] < RECIPES["production"].optimiser.lr
    assert config.schedule == RECIPES["production"].schedule.__class__(**{
        **vars(RECIPES["production"].schedule), "head_epochs": 0})  # fmt: skip


@given(st.integers() | st.floats())
@example(10**400)
@example(float("nan"))
def test_any_number_for_a_knob_is_a_config_or_one_sentence(value):
    for knob in ("lr", "epochs"):
        try:
            config = recipe("production", **{knob: value})
        except InputError as error:
            assert f"'{knob}' is" in str(error)
        else:
            assert type(config.flat()[knob]) is type(RECIPES["production"].flat()[knob])


@pytest.mark.parametrize("changes", [3, "epochs=3", ["epochs", 3], {3: "epochs"}, None])
def test_changes_that_are_no_dict_of_knobs_are_refused_in_one_sentence(changes):
    # Incident: CHANGES = epochs=3, as Python reads it, ended in a bare TypeError.
    for ask in (earlier_runs, lambda changes: decide("small", changes)):
        with pytest.raises(
            InputError, match=r"^CHANGES is .*, but it takes a dict of knobs, such as {'epochs': 20}\.$"
        ):
            ask(changes)


def test_the_earlier_run_that_changed_weights_start_from_is_known_by_its_name():
    assert earlier_runs({"weights": "run:first", "lr": 1e-3}) == ["first"]
    assert earlier_runs({"weights": "imagenet"}) == earlier_runs({"weights": "faces/best.pt"}) == earlier_runs({}) == []
