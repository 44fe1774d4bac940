"""Loss and mixing formulas against references written out in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.config import AGE_BINS, AGE_RANGE, AGE_SPREAD, TASKS, UNKNOWN, recipe
from helpers.data.loaders import Targets
from helpers.training.losses import (
    AGE_SIGMA,
    EXPECTATION_WEIGHT,
    age_distribution_loss,
    age_loss,
    class_weights,
    focal_loss,
    task_losses,
    total_loss,
)
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


def reference_dldl(logits, age):
    """DLDL-v2's divergence and the weighted error of the expectation of one row, in float64, term by term."""
    logits, years = np.asarray(logits, np.float64), np.arange(AGE_BINS)
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    t = np.exp(-((years - age) ** 2) / (2 * AGE_SIGMA**2))
    t /= t.sum()
    divergence = sum(tk * math.log(tk / pk) for tk, pk in zip(t, p, strict=True) if tk > 0)
    return divergence + EXPECTATION_WEIGHT * abs((p * years).sum() - age)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0, AGE_RANGE[1]), st.floats(0.01, 8))
def test_the_loss_of_an_age_distribution_equals_the_formula(seed, age, scale):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, scale, (1, AGE_BINS)))
    years = (logits.softmax(dim=1) * torch.arange(AGE_BINS)).sum(dim=1)
    found = age_distribution_loss(logits, years, torch.tensor([age])).item()
    assert found == pytest.approx(reference_dldl(logits[0].numpy(), age), rel=1e-3, abs=1e-4)


def test_an_age_distribution_that_is_right_costs_nothing_and_its_gradient_is_finite_at_both_ends():
    for age in (0.0, 40.0, AGE_RANGE[1]):
        years = torch.arange(AGE_BINS, dtype=torch.float32)
        logits = (-((years - age) ** 2) / (2 * AGE_SIGMA**2))[None].requires_grad_()
        loss = age_distribution_loss(logits, torch.tensor([age]), torch.tensor([age]))
        loss.sum().backward()
        assert loss.item() == pytest.approx(0.0, abs=1e-5) and torch.isfinite(logits.grad).all()


@given(st.lists(st.integers(0, 500), min_size=7, max_size=7), st.floats(0, 1))
def test_class_weights_follow_the_counts_and_keep_the_mean_over_the_rows(counts, power):
    labels = np.repeat(np.arange(-1, 7), [3, *counts])
    weights = class_weights(labels, power)
    if power == 0 or not sum(counts):
        assert weights is None
        return
    known = labels[labels >= 0]
    assert weights[known].double().mean().item() == pytest.approx(1.0, rel=1e-4)
    for first in range(7):
        for second in range(7):
            if counts[first] and counts[second]:
                wanted = (counts[second] / counts[first]) ** power
                assert (weights[first] / weights[second]).item() == pytest.approx(wanted, rel=1e-3)
        assert counts[first] or weights[first] == 0


def test_weighted_emotions_count_by_their_weight_and_the_count_of_rows_stays():
    outputs, targets = random_batch(np.random.default_rng(5), 40)
    weights = torch.rand(7, dtype=torch.float64) + 0.1
    found = task_losses(outputs, [(1.0, targets)], CONFIG, weights)
    plain = task_losses(outputs, [(1.0, targets)], CONFIG)
    expected = sum(weights[targets.emotion[row]] * reference_row(outputs, targets, "emotion", row)[1]
                   for row in range(40) if targets.emotion[row] >= 0)  # fmt: skip
    assert found["emotion"][0].item() == pytest.approx(float(expected), rel=1e-3)
    assert found["emotion"][1] == plain["emotion"][1] and torch.equal(found["age"][0], plain["age"][0])


def test_parts_of_a_step_add_up_to_it_when_they_are_divided_by_the_count_of_the_whole():
    outputs, targets = random_batch(np.random.default_rng(6), 24)
    whole = task_losses(outputs, [(1.0, targets)], CONFIG)
    counts = {task: int(count) for task, (_, count) in whole.items()}
    added = 0.0
    for part in (slice(0, 5), slice(5, 24)):
        some = task_losses({name: value[part] for name, value in outputs.items()},
                           [(1.0, targets.map(lambda labels, part=part: labels[part]))], CONFIG)  # fmt: skip
        added += total_loss({task: (total, counts[task]) for task, (total, _) in some.items()}, CONFIG).item()
    assert added == pytest.approx(total_loss(whole, CONFIG).item(), rel=1e-6)


def test_mixing_leaves_the_count_of_each_label_as_it_is():
    rng = np.random.default_rng(7)
    outputs, targets = random_batch(rng, 16)
    for step in range(20):
        _, shares = mix(torch.rand(16, 3, 8, 8), targets, step, CONFIG, 1.0)
        plain, mixed = (task_losses(outputs, s, CONFIG) for s in ([(1.0, targets)], shares))
        assert all(mixed[task][1].item() == pytest.approx(plain[task][1].item()) for task in TASKS)


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
