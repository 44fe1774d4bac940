"""Rates, sizes and mixing are functions of the config and the step."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.config import RECIPES, STARTS, recipe
from helpers.training.loop import train_step
from helpers.training.model import create_model
from helpers.training.schedule import make_optimizer, make_rates, mixing_at, size_at
from helpers.training.state import build


def rates_of(config, steps, model=None):
    """The optimiser of a config, and the rates of its groups at every step, as ``[step][group]``."""
    model = model or create_model(config.model)
    optimizer = make_optimizer(model.backbone, model.heads, config.optimiser)
    rates = make_rates(optimizer, config.schedule, config.optimiser.lr, steps)
    found = []
    for step in range(steps * config.schedule.epochs):
        rates.step_update(step)
        found.append([group["lr"] for group in optimizer.param_groups])
    return optimizer, found


def small(**changes):
    return recipe("production", backbone="test_resnet", img_size=32, **changes)


def test_the_cosine_rises_in_the_warm_up_and_falls_once_to_nothing():
    config = small(weights="none", epochs=4, warmup=0.5)
    _, found = rates_of(config, steps=10)
    heads = [rates[-1] for rates in found]
    warm, lr = 5, config.optimiser.lr
    for step, rate in enumerate(heads):
        rising = lr / 100 + (lr - lr / 100) * step / warm
        falling = lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (40 - warm)))
        assert rate == pytest.approx(rising if step < warm else falling, rel=1e-6)
    assert max(heads) == lr and heads[-1] < lr / 100


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - {"seed"}))
@pytest.mark.parametrize("epochs", [1, 3, 20])
def test_the_schedule_of_every_recipe_but_seed_ends_with_its_epochs_however_many(name, epochs):
    # Incident: fewer epochs left the first cycle as it was, so the rate ended in mid-cycle.
    config = recipe(name, epochs=epochs, weights="none", backbone="test_resnet", img_size=32)
    _, found = rates_of(config, steps=100)
    rates = [step[-1] for step in found]
    peak = rates.index(max(rates))
    assert rates[-1] < 0.02 * max(rates) and rates[peak:] == sorted(rates[peak:], reverse=True)


def test_a_pretrained_backbone_learns_more_slowly_the_deeper_a_layer_lies():
    config = small(epochs=3, backbone_lr=0.1, layer_decay=0.5, warmup=0.0)
    assert (config.model.weights, config.optimiser.lr) == ("imagenet", STARTS["imagenet"]["lr"])
    model = create_model(config.model, fetch_weights=False)
    optimizer, found = rates_of(config, 5, model)
    mine = {id(value) for value in model.backbone.parameters()}
    backbone = [n for n, group in enumerate(optimizer.param_groups) if all(id(p) in mine for p in group["params"])]
    shares = [found[5][number] / found[5][-1] for number in backbone]
    assert max(shares) == pytest.approx(0.1) and min(shares) < 0.02
    named = {id(value): name for name, value in model.backbone.named_parameters()}
    rate = {named[id(p)]: share for number, share in zip(backbone, shares, strict=True)
            for p in optimizer.param_groups[number]["params"]}  # fmt: skip
    first = next(iter(model.backbone.named_parameters()))[0]
    assert rate[first] == min(shares), "the layer that sees the face"


def test_biases_and_normalisation_do_not_decay_and_every_parameter_is_in_one_group():
    model = create_model(small(weights="none").model)
    optimizer = make_optimizer(model.backbone, model.heads, small(weights="none").optimiser)
    seen = [id(value) for group in optimizer.param_groups for value in group["params"]]
    assert sorted(seen) == sorted(id(value) for value in model.parameters())
    for group in optimizer.param_groups:
        assert all((value.ndim <= 1) == (group["weight_decay"] == 0.0) for value in group["params"])


@given(st.integers(32, 512), st.floats(0.25, 1), st.integers(1, 100))
def test_the_size_grows_from_its_first_share_to_all_of_it_by_two_thirds_of_the_epochs(img_size, first, epochs):
    config = recipe("production", img_size=img_size, first_size=first, epochs=epochs)
    sizes = [size_at(epoch, img_size, config.schedule) for epoch in range(epochs)]
    assert sizes == sorted(sizes) and min(sizes) >= min(64, img_size) and max(sizes) <= img_size
    assert all(sizes[epoch] == img_size for epoch in range(epochs) if epoch >= 2 / 3 * epochs)
    assert abs(sizes[0] - min(img_size, max(64, first * img_size))) <= 16
    assert len(set(sizes)) <= 2 + (img_size - sizes[0]) / 32, "steps of 32 pixels, and the last one"


def test_production_begins_at_128_pixels_and_ends_at_224_and_small_faces_stay_as_they_are():
    def sizes(config):
        return [size_at(n, config.model.img_size, config.schedule) for n in range(config.schedule.epochs)]

    assert sorted(set(sizes(recipe("production")))) == [128, 160, 192, 224] and sizes(recipe("production"))[-1] == 224
    for small in (recipe("production", first_size=1.0), recipe("production", img_size=64)):
        assert set(sizes(small)) == {small.model.img_size}


def test_mixing_rises_stays_and_fades_to_none():
    augmentation = recipe("seed", mix_probability=0.5, mix_ramp=20, mix_fade=0.4).augmentation
    found = [mixing_at(epoch, 100, augmentation) for epoch in (0, 10, 20, 60, 80, 100)]
    assert found == pytest.approx([0.0, 0.25, 0.5, 0.5, 0.25, 0.0])
    assert {mixing_at(epoch, 100, recipe("seed").augmentation) for epoch in (0, 50, 100)} == {0.5}, "the seed's stays"


def test_a_recipe_takes_what_suits_another_start_unless_it_is_given_and_the_seed_never_does():
    assert recipe("production", weights="none").optimiser.lr == STARTS["none"]["lr"]
    assert recipe("production", weights="none", lr=1e-3).optimiser.lr == 1e-3
    assert recipe("production", weights="faces").model.backbone == "tf_efficientnet_b2"
    assert recipe("seed", weights="none").optimiser.lr == 1e-4
    assert recipe("production", weights="imagenet") == recipe("production")


def test_averaged_weights_follow_the_weights_and_are_what_is_measured(store, tiny_config):
    training = build(tiny_config.replace(ema=0.5), store)
    name, expected = "heads.emotion.1.weight", None
    for step, batch in enumerate(training.batches()):
        train_step(training, batch)
        now = training.model.state_dict()[name].double()
        if step == 0:
            expected = now.clone()
        else:  # timm's warm-up: 1 - (1 + step) ** -2/3, until it reaches the decay
            decay = min(0.5, 1 - (1 + step) ** (-2 / 3))
            expected = decay * expected + (1 - decay) * now
        if step == 3:
            break
    found = training.measured.state_dict()[name].double()
    assert torch.allclose(found, expected, atol=1e-6) and not torch.equal(found, now)
