"""Rates, sizes and mixing are functions of the config and the step."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.config import STARTS, recipe
from helpers.training.model import create_model
from helpers.training.schedule import Rates, make_optimizer, mixing_at, size_at


def rates_of(config, steps, model=None):
    """The optimiser of a config, and the rates of its groups at every step, as ``[step][group]``."""
    model = model or create_model(config)
    optimizer = make_optimizer(model.backbone, model.heads, config)
    rates = Rates(optimizer, config, steps)
    found = []
    for step in range(steps * config.epochs):
        assert rates.set(step) == optimizer.param_groups[-1]["lr"]
        found.append([group["lr"] for group in optimizer.param_groups])
    return optimizer, found


def small(**changes):
    return recipe("production", backbone="test_resnet", img_size=32, **changes)


def test_the_cosine_rises_in_the_warm_up_and_falls_once_to_nothing():
    config = small(weights="none", epochs=4, warmup=0.5)
    _, found = rates_of(config, steps=10)
    heads = [rates[-1] for rates in found]
    warm = 5
    for step, rate in enumerate(heads):
        rising = config.lr / 100 + (config.lr - config.lr / 100) * step / warm
        falling = config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (40 - warm)))
        assert rate == pytest.approx(rising if step < warm else falling, rel=1e-6)
    assert max(heads) == config.lr and heads[-1] < config.lr / 100


def test_a_pretrained_backbone_waits_for_the_heads_and_then_learns_more_slowly_the_deeper_a_layer_lies():
    config = small(epochs=3, head_epochs=1, backbone_lr=0.1, layer_decay=0.5, warmup=0.0)
    assert (config.weights, config.lr) == ("imagenet", STARTS["imagenet"]["lr"])
    model = create_model(config, fetch_weights=False)
    optimizer, found = rates_of(config, 5, model)
    backbone = [number for number, group in enumerate(optimizer.param_groups) if group["backbone"]]
    assert all(found[4][number] == 0.0 for number in backbone) and found[4][-1] > 0
    shares = [found[5][number] / found[5][-1] for number in backbone]
    assert max(shares) == pytest.approx(0.1) and min(shares) < 0.02
    named = {id(value): name for name, value in model.backbone.named_parameters()}
    rate = {named[id(p)]: share for number, share in zip(backbone, shares, strict=True)
            for p in optimizer.param_groups[number]["params"]}  # fmt: skip
    first = next(iter(model.backbone.named_parameters()))[0]
    assert rate[first] == min(shares), "the layer that sees the face"


def test_biases_and_normalisation_do_not_decay_and_every_parameter_is_in_one_group():
    model = create_model(small(weights="none"))
    optimizer = make_optimizer(model.backbone, model.heads, small(weights="none"))
    seen = [id(value) for group in optimizer.param_groups for value in group["params"]]
    assert sorted(seen) == sorted(id(value) for value in model.parameters())
    for group in optimizer.param_groups:
        assert all((value.ndim <= 1) == (group["weight_decay"] == 0.0) for value in group["params"])


@given(st.integers(32, 512), st.floats(0.25, 1), st.integers(1, 100))
def test_the_size_grows_from_its_first_share_to_all_of_it_by_two_thirds_of_the_epochs(img_size, first, epochs):
    config = recipe("production", img_size=img_size, first_size=first, epochs=epochs)
    sizes = [size_at(config, epoch) for epoch in range(epochs)]
    assert sizes == sorted(sizes) and min(sizes) >= min(64, img_size) and max(sizes) <= img_size
    assert all(size_at(config, epoch) == img_size for epoch in range(epochs) if epoch >= 2 / 3 * epochs)
    assert abs(sizes[0] - min(img_size, max(64, first * img_size))) <= 16
    assert len(set(sizes)) <= 2 + img_size * 0.75 / 32


def test_production_begins_at_128_pixels_and_ends_at_224_and_small_faces_stay_as_they_are():
    config = recipe("production")
    assert sorted({size_at(config, epoch) for epoch in range(config.epochs)}) == [128, 160, 192, 224]
    assert size_at(config, config.epochs - 1) == 224
    for small in (recipe("production", first_size=1.0), recipe("production", img_size=64)):
        assert {size_at(small, epoch) for epoch in range(small.epochs)} == {small.img_size}


def test_mixing_rises_stays_and_fades_to_none():
    config = recipe("seed", epochs=100, mix_probability=0.5, mix_ramp=20, mix_fade=0.4)
    found = [mixing_at(config, epoch) for epoch in (0, 10, 20, 60, 80, 100)]
    assert found == pytest.approx([0.0, 0.25, 0.5, 0.5, 0.25, 0.0])
    assert {mixing_at(recipe("seed"), epoch) for epoch in (0, 50, 100)} == {0.5}, "the seed's stays"


def test_a_recipe_takes_what_suits_another_start_unless_it_is_given_and_the_seed_never_does():
    assert recipe("production", weights="none").lr == STARTS["none"]["lr"]
    assert recipe("production", weights="none", lr=1e-3).lr == 1e-3
    assert recipe("production", weights="faces").backbone == "tf_efficientnet_b2"
    assert recipe("seed", weights="none").lr == 1e-4
    assert recipe("production", weights="imagenet") == recipe("production")


def test_averaged_weights_follow_the_weights_and_are_what_is_measured(store, tiny_config):
    import dataclasses

    from helpers.data.loaders import train_loader
    from helpers.training.learner import Learner, make_accelerator

    config = dataclasses.replace(tiny_config, ema=0.5)
    torch.manual_seed(0)
    learner = Learner(config, create_model(config), 10, make_accelerator(config))
    expected = None
    for step, batch in enumerate(train_loader(store, store.rows("train"), config)):
        learner.train()
        learner.step(batch, 32)
        name, weights = "heads.emotion.1.weight", learner.state()["model"]
        now = weights[name].double()
        if step == 0:
            expected = now.clone()
        else:  # timm's warm-up: 1 - (1 + step) ** -2/3, until it reaches the decay
            decay = min(0.5, 1 - (1 + step - 0) ** (-2 / 3)) if step else 0.0
            expected = decay * expected + (1 - decay) * now
        if step == 3:
            break
    found = learner.measured.state_dict()[name].double()
    assert torch.allclose(found, expected, atol=1e-6) and not torch.equal(found, now)
