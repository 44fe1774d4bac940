"""The learning-rate finder suggests a rate by a stated rule, and leaves no trace."""

import random

import numpy as np
import pytest
import torch

from helpers import plots
from helpers.config import TrainConfig
from helpers.training.rate_finder import HIGHEST, LOWEST, STEPS, RangeTest, find_rate


def test_a_tenth_of_the_rate_of_the_lowest_loss_is_suggested():
    found = RangeTest([4 - 3 * np.exp(-(((step - 60) / 15) ** 2)) for step in range(STEPS)])
    assert found.suggestion == pytest.approx(found.rates[found.smooth.argmin()] / 10, rel=0.05)
    assert LOWEST < found.suggestion <= 0.1 and f"lr = {found.suggestion:g}" in found.describe()
    TrainConfig().replace(lr=found.suggestion)


def test_the_smoothed_loss_is_the_mean_whose_weights_fall_by_a_tenth_a_step():
    losses = np.random.default_rng(0).random(30)
    weights = 0.9 ** np.arange(30)[::-1]
    assert RangeTest(list(losses)).smooth[-1] == pytest.approx((weights * losses).sum() / weights.sum())


@pytest.mark.parametrize("losses", [[2.0] * STEPS, list(np.linspace(1, 9, STEPS)), [1.0], []])
def test_of_a_loss_that_does_not_fall_nothing_can_be_suggested(losses):
    found = RangeTest(losses)
    assert found.suggestion is None and "Nothing can be suggested" in found.describe()
    if losses:
        assert plots.rates(found.rates, losses, found.smooth, None).png().startswith(b"\x89PNG")


def test_chance_is_seldom_taken_for_a_fall():
    noise = np.random.default_rng(0).normal(2, 0.3, (200, STEPS))
    suggested = sum(RangeTest(list(losses)).suggestion is not None for losses in noise)
    assert suggested < 20, suggested


def seed_all():
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)


def test_steps_that_are_thrown_away_leave_the_run_the_weights_and_the_draws_alone(store, tiny_config, trained):
    before = {path: path.read_bytes() for path in trained.folder.rglob("*") if path.is_file()}
    seed_all()
    draws = torch.rand(3), np.random.rand(3), random.random()
    seed_all()
    seen = []
    steps = find_rate(tiny_config, store, trained.folder, lambda done, total: seen.append((done, total)))
    again = torch.rand(3), np.random.rand(3), random.random()
    assert torch.equal(draws[0], again[0]) and (draws[1] == again[1]).all() and draws[2] == again[2]
    assert {path: path.read_bytes() for path in trained.folder.rglob("*") if path.is_file()} == before
    assert steps.rates[0] == LOWEST and seen[-1] == (STEPS, STEPS) and np.isfinite(steps.smooth).all()
    assert steps.suggestion is None or LOWEST <= steps.suggestion <= HIGHEST / 10
