"""Loss and mixing formulas against references written out in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.config import recipe
from helpers.losses import EXPECTATION_WEIGHT, SIGMA, class_weights, distribution_loss, focal_loss, smooth_l1_loss
from helpers.tasks import AGE, AGE_BINS, AGE_CENTRE, AGE_RANGE, AGE_SPREAD, TASKS
from helpers.training.mixing import cutmix, mix, mixup
from helpers.training.objective import Objective

LOSS = recipe("seed").loss


def objective(weights=None):
    """The seed's objective, with the given weights of the emotions."""
    made = Objective(LOSS, {task: np.zeros(0, np.int8) for task in TASKS}, torch.device("cpu"))
    made._class_weights = {} if weights is None else {"emotion": weights}
    return made


def reference_focal(logits, label, alpha, gamma, smoothing):
    """Focal loss with smoothing of one row, in float64, term by term."""
    logits = np.asarray(logits, np.float64)
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    q = np.full(len(p), smoothing / len(p))
    q[label] += 1 - smoothing
    return alpha * (1 - p[label]) ** gamma * -(q * np.log(p)).sum()


def reference_distance(years, label):
    """Years outside an interval."""
    return max(float(label[0]) - float(years), float(years) - float(label[1]), 0.0)


def reference_smooth_l1(years, label):
    gap = reference_distance(years, label) / AGE_SPREAD
    return 0.5 * gap * gap if gap < 1 else gap - 0.5


def random_batch(rng, size):
    """Outputs and partly unknown labels, some of the ages intervals."""
    outputs = {
        "emotion": torch.from_numpy(rng.normal(0, 3, (size, 7))),
        "age": torch.from_numpy((rng.uniform(0, 100, (size, 1)) - AGE_CENTRE) / AGE_SPREAD),
        "gender": torch.from_numpy(rng.normal(0, 3, (size, 2))),
    }
    return outputs, random_labels(rng, size)


def random_labels(rng, size):
    low = rng.uniform(0, 100, size)
    low[rng.random(size) < 0.5] = np.nan
    age = np.stack([low, low + np.where(rng.random(size) < 0.5, 0.0, rng.uniform(0, 20, size))], axis=1)
    return {
        "emotion": torch.from_numpy(rng.integers(-1, 7, size)),
        "age": torch.from_numpy(age),
        "gender": torch.from_numpy(rng.integers(-1, 2, size)),
    }


def reference_row(outputs, labels, task, row):
    """(known, loss) of one row of one task."""
    label = labels[task][row].numpy()
    if task == "age":
        years = AGE_CENTRE + AGE_SPREAD * outputs["age"][row].item()
        return (0.0, 0.0) if np.isnan(label).any() else (1.0, reference_smooth_l1(years, label))
    if label < 0:
        return 0.0, 0.0
    alpha, gamma = (LOSS.focal_alpha, LOSS.focal_gamma) if task == "emotion" else (1.0, 0.0)
    return 1.0, reference_focal(outputs[task][row].numpy(), label, alpha, gamma, LOSS.label_smoothing)


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
    years, ages = torch.tensor([30.0, 90.0, 5.0]), torch.tensor([[32.0, 32.0], [20.0, 20.0], [5.0, 5.0]])
    expected = [reference_smooth_l1(y, a) for y, a in zip(years, ages, strict=True)]
    assert smooth_l1_loss(years, ages, AGE_SPREAD).tolist() == pytest.approx(expected, rel=1e-6)


def test_an_age_within_its_interval_costs_nothing_and_is_pulled_nowhere_and_outside_to_the_nearest_end():
    years = torch.tensor([25.0, 15.0, 40.0], requires_grad=True)
    loss = smooth_l1_loss(years, torch.tensor([[20.0, 29.0]] * 3), AGE_SPREAD)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.0, 0.5 * (5 / 20) ** 2, 0.5 * (11 / 20) ** 2])
    assert years.grad[0] == 0 and years.grad[1] < 0 < years.grad[2]


def reference_dldl(logits, label):
    """DLDL-v2's divergence and the weighted error of the expectation of one row, in float64, term by term."""
    logits, years = np.asarray(logits, np.float64), np.arange(AGE_BINS)
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    t = np.array([math.exp(-(reference_distance(year, label) ** 2) / (2 * SIGMA**2)) for year in years])
    t = t * p if label[0] < label[1] else t
    t /= t.sum()
    divergence = sum(tk * math.log(tk / pk) for tk, pk in zip(t, p, strict=True) if tk > 0)
    return divergence + EXPECTATION_WEIGHT * reference_distance((p * years).sum(), label)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0, AGE_RANGE[1]), st.sampled_from([0.0, 1.0, 9.0, 40.0]), st.floats(0.01, 8))
def test_the_loss_of_an_age_distribution_equals_the_formula(seed, low, width, scale):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, scale, (1, AGE_BINS)))
    years = (logits.softmax(dim=1) * torch.arange(AGE_BINS)).sum(dim=1)
    found = distribution_loss(logits, years, torch.tensor([[low, low + width]])).item()
    assert found == pytest.approx(reference_dldl(logits[0].numpy(), (low, low + width)), rel=1e-3, abs=1e-4)


def test_an_age_distribution_that_is_right_costs_nothing_and_its_gradient_is_finite_at_both_ends():
    for age in (0.0, 40.0, AGE_RANGE[1]):
        years = torch.arange(AGE_BINS, dtype=torch.float32)
        logits = (-((years - age) ** 2) / (2 * SIGMA**2))[None].requires_grad_()
        loss = distribution_loss(logits, torch.tensor([age]), torch.tensor([[age, age]]))
        loss.sum().backward()
        assert loss.item() == pytest.approx(0.0, abs=1e-5) and torch.isfinite(logits.grad).all()


def test_the_gradient_of_an_interval_is_that_of_its_probability_s_logarithm():
    logits = torch.randn(1, AGE_BINS, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = distribution_loss(logits, torch.tensor([45.0]), torch.tensor([[30.0, 60.0]]))
    (found,) = torch.autograd.grad(loss.sum(), logits)
    bins = torch.arange(AGE_BINS)
    outside = (30 - bins).clamp(min=0) + (bins - 60).clamp(min=0)
    soft = logits.log_softmax(dim=1) - outside**2 / (2 * SIGMA**2)
    (expected,) = torch.autograd.grad(-soft.logsumexp(dim=1).sum(), logits)
    assert torch.allclose(found, expected, atol=1e-6) and found.abs().max() > 1e-3


@given(st.lists(st.integers(0, 500), min_size=7, max_size=7), st.floats(0, 1))
def test_class_weights_follow_the_counts_and_keep_the_mean_over_the_rows(counts, power):
    labels = np.repeat(np.arange(-1, 7), [3, *counts])
    weights = class_weights(labels, 7, power)
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
    outputs, labels = random_batch(np.random.default_rng(5), 40)
    weights = torch.rand(7, dtype=torch.float64) + 0.1
    found = objective(weights).sums(outputs, [(1.0, labels)])
    plain = objective().sums(outputs, [(1.0, labels)])
    expected = sum(weights[labels["emotion"][row]] * reference_row(outputs, labels, "emotion", row)[1]
                   for row in range(40) if labels["emotion"][row] >= 0)  # fmt: skip
    assert found["emotion"][0].item() == pytest.approx(float(expected), rel=1e-3)
    assert found["emotion"][1] == plain["emotion"][1] and torch.equal(found["age"][0], plain["age"][0])


def test_class_weights_are_those_of_the_training_rows_and_of_the_emotions_alone():
    labels = {
        "emotion": np.array([0] * 30 + [1] * 10, np.int8),
        "age": np.zeros((0, 2)),
        "gender": np.zeros(5, np.int8),
    }
    config = recipe("seed", class_weights=1.0)
    made = Objective(config.loss, labels, torch.device("cpu"))._class_weights
    assert made["emotion"][:2].tolist() == pytest.approx([2 / 3, 2.0]) and set(made) == {"emotion"}


def test_parts_of_a_step_add_up_to_it_when_they_are_divided_by_the_count_of_the_whole():
    outputs, labels = random_batch(np.random.default_rng(6), 24)
    whole = objective().sums(outputs, [(1.0, labels)])
    counts = {task: int(count) for task, (_, count) in whole.items()}
    added = 0.0
    for part in (slice(0, 5), slice(5, 24)):
        some = objective().sums({name: value[part] for name, value in outputs.items()},
                                [(1.0, {name: value[part] for name, value in labels.items()})])  # fmt: skip
        added += objective().total(some, counts).item()
    assert added == pytest.approx(objective().total(whole).item(), rel=1e-6)


def test_mixing_leaves_the_count_of_each_label_as_it_is():
    rng = np.random.default_rng(7)
    outputs, labels = random_batch(rng, 16)
    for step in range(20):
        _, mixed = mix(torch.rand(16, 3, 8, 8), labels, step, 42, 1.0)
        plain, shared = (objective().sums(outputs, pairs) for pairs in ([(1.0, labels)], mixed))
        assert all(shared[task][1].item() == pytest.approx(plain[task][1].item()) for task in TASKS)


@example(seed=2, size=1, share=1e-06)
@example(seed=2, size=1, share=1e-20)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12), share=st.just(0.0) | st.floats(1e-30, 1))
def test_mixed_losses_count_each_known_label_by_its_share(seed, size, share):
    # Below 1e-30 float32 has not the digits to divide a loss by its share; no beta distribution of ours comes near it.
    rng = np.random.default_rng(seed)
    outputs, first = random_batch(rng, size)
    second = random_labels(rng, size)
    found = objective().sums(outputs, [(share, first), (1 - share, second)])
    expected_total = 0.0
    for task in TASKS:
        top = bottom = 0.0
        for row in range(size):
            for part, labels in ((share, first), (1 - share, second)):
                known, loss = reference_row(outputs, labels, task, row)
                top, bottom = top + part * known * loss, bottom + part * known
        assert found[task][0].item() == pytest.approx(top, rel=1e-3, abs=1e-5)
        assert found[task][1].item() == pytest.approx(bottom, rel=1e-6, abs=1e-9)
        expected_total += top / bottom if bottom else 0.0
    assert objective().total(found).item() == pytest.approx(expected_total, rel=1e-3, abs=1e-2)


def test_a_task_without_labels_has_no_loss_and_no_gradient():
    outputs, _ = random_batch(np.random.default_rng(1), 4)
    for value in outputs.values():
        value.requires_grad_()
    unknown = {"emotion": torch.full((4,), -1), "age": torch.full((4, 2), math.nan, dtype=torch.float64),
               "gender": torch.tensor([0, 1, 0, 1])}  # fmt: skip
    objective().total(objective().sums(outputs, [(1.0, unknown)])).backward()
    assert outputs["emotion"].grad.abs().sum() == 0 and outputs["age"].grad.abs().sum() == 0
    assert outputs["gender"].grad.abs().sum() > 0


def test_a_network_of_years_answers_their_expectation_within_the_range():
    logits = torch.zeros(1, AGE_BINS)
    logits[0, [30, 40]] = 20.0
    assert AGE.answer(logits)[0, 0].item() == pytest.approx(35.0, abs=1e-3)
    assert AGE.answer(torch.tensor([[9.0], [-9.0]]))[:, 0].tolist() == list(reversed(AGE_RANGE))


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
    faces, (_, labels) = torch.rand(8, 3, 8, 8), random_batch(np.random.default_rng(2), 8)
    first, again = (mix(faces, labels, 5, 42, 0.5) for _ in range(2))
    assert torch.equal(first[0], again[0]) and [s for s, _ in first[1]] == [s for s, _ in again[1]]
    mixed = sum(len(mix(faces, labels, step, 42, 0.5)[1]) == 2 for step in range(1000))
    assert 450 < mixed < 550
    for step in range(30):
        shares = [share for share, _ in mix(faces, labels, step, 42, 0.5)[1]]
        assert sum(shares) == pytest.approx(1.0)
