"""Loss and mixing formulas against references written out in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.config import AGE_SPREAD, TASKS, UNKNOWN, recipe
from helpers.data.loaders import Targets
from helpers.training.losses import age_loss, focal_loss, task_losses, total_loss
from helpers.training.mixing import cutmix, mix, mixup

CONFIG = recipe("seed")


def reference_focal(logits, label, alpha, gamma, smoothing):
    """Focal loss with smoothing of one row, in float64, term by term."""
    logits = np.asarray(logits, np.float64)
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    q = np.full(len(p), smoothing / len(p))
    q[label] += 1 - smoothing
    return alpha * (1 - p[label]) ** gamma * -(q * np.log(p)).sum()


def reference_smooth_l1(years, age):
    gap = abs(float(years) - float(age)) / AGE_SPREAD
    return 0.5 * gap * gap if gap < 1 else gap - 0.5


def random_batch(rng, size):
    """Outputs and partly unknown labels."""
    outputs = {
        "emotion": torch.from_numpy(rng.normal(0, 3, (size, 7))),
        "age": torch.from_numpy(rng.uniform(0, 100, size)),
        "gender": torch.from_numpy(rng.normal(0, 3, (size, 2))),
    }
    return outputs, random_targets(rng, size)


def random_targets(rng, size):
    age = rng.uniform(0, 100, size)
    age[rng.random(size) < 0.5] = np.nan
    return Targets(
        torch.from_numpy(rng.integers(-1, 7, size)), torch.from_numpy(age), torch.from_numpy(rng.integers(-1, 2, size))
    )


def reference_row(outputs, targets, task, row):
    """(known, loss) of one row of one task."""
    label = getattr(targets, task)[row].item()
    if task == "age":
        return (0.0, 0.0) if math.isnan(label) else (1.0, reference_smooth_l1(outputs["age"][row], label))
    if label == UNKNOWN:
        return 0.0, 0.0
    alpha, gamma = (CONFIG.focal_alpha, CONFIG.focal_gamma) if task == "emotion" else (1.0, 0.0)
    return 1.0, reference_focal(outputs[task][row].numpy(), label, alpha, gamma, CONFIG.label_smoothing)


@example([0.0, 0.0, 0.0, 0.0, 15.0], 1.0, 0.5, 0.5, 4)
@given(
    st.lists(st.floats(-20, 20), min_size=2, max_size=9),
    st.floats(0.1, 2),
    st.floats(0, 5),
    st.floats(0, 0.5),
    st.integers(0, 8),
)
def test_focal_loss_equals_the_formula(logits, alpha, gamma, smoothing, label):
    label %= len(logits)
    found = focal_loss(
        torch.tensor([logits], dtype=torch.float64), torch.tensor([label]), alpha=alpha, gamma=gamma,
        smoothing=smoothing,
    ).item()  # fmt: skip
    assert found == pytest.approx(reference_focal(logits, label, alpha, gamma, smoothing), rel=2e-3, abs=1e-5)


def test_focal_loss_without_focus_is_torch_s_smoothed_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels = torch.from_numpy(rng.normal(0, 2, (50, 7))).float(), torch.from_numpy(rng.integers(0, 7, 50))
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)
    assert torch.allclose(focal_loss(logits, labels, alpha=1.0, gamma=0.0, smoothing=0.1), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0, 500.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_stays_finite_even_where_the_network_is_certain(scale, gamma):
    logits = (torch.eye(7) * scale).requires_grad_()
    for labels in (torch.arange(7), torch.arange(7).roll(1)):
        focal_loss(logits, labels, alpha=0.25, gamma=gamma, smoothing=0.1).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_age_loss_is_smooth_l1_in_units_of_the_spread():
    years, ages = torch.tensor([30.0, 90.0, 5.0]), torch.tensor([32.0, 20.0, 5.0])
    expected = [reference_smooth_l1(y, a) for y, a in zip(years, ages, strict=True)]
    assert age_loss(years, ages).tolist() == pytest.approx(expected, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0, 1))
def test_mixed_losses_count_each_known_label_by_its_share(seed, size, share):
    rng = np.random.default_rng(seed)
    outputs, first = random_batch(rng, size)
    second = random_targets(rng, size)
    found = task_losses(outputs, [(share, first), (1 - share, second)], CONFIG)
    expected_total = 0.0
    for task in TASKS:
        top = bottom = 0.0
        for row in range(size):
            for part, targets in ((share, first), (1 - share, second)):
                known, loss = reference_row(outputs, targets, task, row)
                top, bottom = top + part * known * loss, bottom + part * known
        assert found[task][0].item() == pytest.approx(top, rel=1e-3, abs=1e-5)
        assert found[task][1].item() == pytest.approx(bottom, rel=1e-6, abs=1e-9)
        expected_total += top / bottom if bottom > 1e-6 else 0.0
    assert total_loss(found, CONFIG).item() == pytest.approx(expected_total, rel=1e-3, abs=1e-2)


def test_a_task_without_labels_has_no_loss_and_no_gradient():
    outputs, _ = random_batch(np.random.default_rng(1), 4)
    for value in outputs.values():
        value.requires_grad_()
    unknown = Targets(torch.full((4,), -1), torch.full((4,), math.nan, dtype=torch.float64), torch.tensor([0, 1, 0, 1]))
    total_loss(task_losses(outputs, [(1.0, unknown)], CONFIG), CONFIG).backward()
    assert outputs["emotion"].grad.abs().sum() == 0 and outputs["age"].grad.abs().sum() == 0
    assert outputs["gender"].grad.abs().sum() > 0


def test_mixup_adds_each_face_and_its_partner_by_their_shares():
    faces, partner = torch.rand(5, 3, 4, 4, dtype=torch.float64), torch.tensor([3, 0, 4, 1, 2])
    mixed, share = mixup(faces, partner, 0.3)
    assert share == 0.3
    assert np.allclose(mixed, 0.3 * faces.numpy() + 0.7 * faces.numpy()[partner])


@given(st.floats(0, 1), st.integers(0, 1000), st.integers(4, 40), st.integers(4, 40))
def test_cutmix_s_share_is_the_area_really_left(share, seed, height, width):
    faces = torch.stack([torch.zeros(3, height, width), torch.ones(3, height, width)])
    mixed, left = cutmix(faces, torch.tensor([1, 0]), share, np.random.default_rng(seed))
    assert left == pytest.approx(1.0 - mixed[0].mean().item(), abs=1e-5)
    assert torch.equal(mixed[1], 1 - mixed[0]) and torch.equal(faces[0], torch.zeros(3, height, width))


def test_mixing_is_a_function_of_seed_and_step_and_happens_as_often_as_asked():
    faces, (_, targets) = torch.rand(8, 3, 8, 8), random_batch(np.random.default_rng(2), 8)
    first, again = (mix(faces, targets, 5, CONFIG, CONFIG.mix_probability) for _ in range(2))
    assert torch.equal(first[0], again[0]) and [s for s, _ in first[1]] == [s for s, _ in again[1]]
    mixed = sum(len(mix(faces, targets, step, CONFIG, CONFIG.mix_probability)[1]) == 2 for step in range(1000))
    assert 450 < mixed < 550
    for step in range(30):
        shares = [share for share, _ in mix(faces, targets, step, CONFIG, CONFIG.mix_probability)[1]]
        assert sum(shares) == pytest.approx(1.0)
