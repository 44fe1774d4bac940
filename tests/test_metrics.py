"""Measures and intervals against references and by what an interval promises."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_recall_fscore_support

from helpers.metrics import (
    calibration_error,
    classification,
    difference,
    equal_mass,
    mean,
    percentile,
    proportion,
    share,
)


def test_wilson_s_interval_equals_published_values():
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611),
                               (1, 29, 0.0061, 0.1718)):  # fmt: skip
        found = proportion(hits, n)
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_a_difference_equals_published_values():
    # Newcombe 1998, table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/20.
    for a, b, low, high in (((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090),
                            ((10, 10), (0, 20), 0.6791, 1.0)):  # fmt: skip
        found = difference(proportion(*a), proportion(*b))
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000), st.data())
def test_a_proportion_lies_in_its_interval_within_0_and_1(n, data):
    found = proportion(data.draw(st.integers(0, n)), n)
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1


def test_nothing_measured_is_not_a_number_and_anything_is_possible():
    found = proportion(0, 0)
    assert math.isnan(found["value"]) and (found["low"], found["high"], found["n"]) == (0.0, 1.0, 0)


def test_intervals_of_means_and_percentiles_hold_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    samples = rng.normal(3.0, 2.0, (2000, 60))
    held = np.mean([found["low"] <= 3.0 <= found["high"] for found in map(mean, samples)])
    assert 0.92 < held < 0.97
    uniform = rng.random((2000, 200))
    held = np.mean([f["low"] <= 0.95 <= f["high"] for f in (percentile(row, 0.95) for row in uniform)])
    assert 0.93 < held < 0.99


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.floats(0.05, 0.95))
def test_a_percentile_lies_in_its_interval_within_the_values(values, q):
    found = percentile(np.array(values), q)
    assert min(values) <= found["low"] <= found["value"] <= found["high"] <= max(values)


def test_a_percentile_s_interval_equals_published_ranks():
    # Tables of the distribution-free interval of a median, which holds it 97.9, 96.5, 95.1 and 95.9 times in 100.
    for n, low, high in ((10, 2, 9), (15, 4, 12), (17, 5, 13), (20, 6, 15)):
        found = percentile(np.arange(1, n + 1), 0.5)
        assert (found["low"], found["high"]) == (low, high)


def test_a_percentile_of_few_values_reaches_to_the_smallest_and_the_largest():
    assert percentile(np.array([3.0]), 0.95) == {"value": 3.0, "low": 3.0, "high": 3.0, "n": 1}
    found = percentile(np.arange(1.0, 5.0), 0.5)
    assert (found["low"], found["high"]) == (1.0, 4.0)


def test_the_mean_of_equal_values_is_certain_and_that_of_one_value_is_not():
    assert mean(np.full(9, 2.0)) == {"value": 2.0, "low": 2.0, "high": 2.0, "n": 9}
    found = mean(np.array([2.0]))
    assert (found["value"], found["low"], found["high"], found["n"]) == (2.0, -math.inf, math.inf, 1)


@given(st.integers(0, 10**6), st.integers(2, 300))
def test_per_class_figures_equal_scikit_learn_s(seed, n):
    rng = np.random.default_rng(seed)
    labels, answers = rng.integers(0, 3, n), rng.integers(0, 3, n)
    found = classification(labels, answers, ("a", "b", "c"))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, answers, labels=[0, 1, 2], zero_division=np.nan
    )
    for i, part in enumerate(found["per_class"].values()):
        assert part["recall"]["n"] == support[i]
        assert part["recall"]["value"] == pytest.approx(recall[i], nan_ok=True)
        assert part["precision"]["value"] == pytest.approx(precision[i], nan_ok=True)
        assert part["f1"]["value"] == pytest.approx(f1[i] if support[i] else math.nan, nan_ok=True)
    assert found["accuracy"]["value"] == pytest.approx((labels == answers).mean())
    if len(present := np.unique(labels)) == 1:
        assert found["macro_f1"] is found["balanced_accuracy"] is None and found["note"] == "one class only"
    else:
        expected = f1_score(labels, answers, labels=present, average="macro", zero_division=0)
        assert found["macro_f1"]["value"] == pytest.approx(expected) and "note" not in found
        assert found["balanced_accuracy"]["value"] == pytest.approx(recall[support > 0].mean())
    assert np.array(found["confusion"]).sum() == n


def test_the_bootstrap_interval_of_f1_is_near_a_direct_resampling_of_rows():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 400)
    answers = np.where(rng.random(400) < 0.7, labels, rng.integers(0, 3, 400))
    found = classification(labels, answers, ("a", "b", "c"))["macro_f1"]
    draws = rng.integers(0, 400, (800, 400))
    direct = np.quantile([f1_score(labels[d], answers[d], average="macro") for d in draws], [0.025, 0.975])
    assert (found["low"], found["high"]) == pytest.approx(tuple(direct), abs=0.015)


def test_a_dozen_answers_measured_by_hand():
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    answers = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 2, 0])
    found = classification(labels, answers, ("a", "b", "c"))
    assert found["confusion"] == [[5, 1, 0], [1, 3, 0], [1, 0, 1]]
    assert found["accuracy"]["value"] == 9 / 12
    balanced = balanced_accuracy_score(labels, answers)
    assert found["balanced_accuracy"]["value"] == pytest.approx((5 / 6 + 3 / 4 + 1 / 2) / 3) == pytest.approx(balanced)
    assert found["macro_f1"]["value"] == pytest.approx((10 / 13 + 6 / 8 + 2 / 3) / 3)
    # Wilson's interval of 5 of 8 is 0.3057 to 0.8632.
    assert found["per_class"]["a"]["f1"] == pytest.approx(
        {"value": 10 / 13, "low": 0.4683, "high": 0.9266, "n": 6}, abs=1e-4
    )
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert 0 <= found[name]["low"] < found[name]["value"] < found[name]["high"] <= 1 and found[name]["n"] == 12


def test_a_mean_of_recalls_has_the_interval_of_two_joined_ones():
    # Of two classes it is half of a sum, whose interval is that of a difference to the share of misses.
    labels, answers = np.repeat([0, 1], [70, 80]), np.r_[np.repeat([0, 1], [56, 14]), np.repeat([1, 0], [48, 32])]
    found = classification(labels, answers, ("a", "b"))["balanced_accuracy"]
    wanted = difference(proportion(56, 70), proportion(32, 80))
    assert [found[end] for end in ("value", "low", "high")] == pytest.approx(
        [(1 + wanted[end]) / 2 for end in ("value", "low", "high")]
    )


def test_answers_without_a_mistake_are_not_certain():
    labels = np.repeat([0, 1], 6)
    found = classification(labels, labels, ("a", "b"))
    for one in (found["balanced_accuracy"], found["macro_f1"], found["per_class"]["a"]["f1"]):
        assert one["value"] == one["high"] == 1 and 0.6 < one["low"] < 0.9


def test_one_class_or_none_has_no_mean_over_classes_but_a_reason():
    alone = classification(np.ones(9, int), np.array([1] * 8 + [0]), ("a", "b"))
    assert (alone["note"], alone["macro_f1"], alone["balanced_accuracy"]) == ("one class only", None, None)
    assert alone["accuracy"]["value"] == 8 / 9 and math.isnan(alone["per_class"]["a"]["recall"]["value"])
    assert math.isnan(alone["per_class"]["a"]["f1"]["value"]), "a class that no row has is not wrong in all of them"
    none = classification(np.array([], int), np.array([], int), ("a", "b"))
    assert none["note"] == "no rows" and none["macro_f1"] is None and math.isnan(none["accuracy"]["value"])
    assert none["confusion"] == [[0, 0], [0, 0]] and math.isnan(percentile(np.array([]), 0.5)["value"])


def test_always_the_most_frequent_class_is_caught_by_the_means_over_classes():
    labels = np.repeat([0, 1, 2], [90, 5, 5])
    found = classification(labels, np.zeros(100, int), ("a", "b", "c"))
    assert found["accuracy"]["value"] == 0.9
    assert found["balanced_accuracy"]["value"] == pytest.approx(1 / 3) and found["balanced_accuracy"]["high"] < 0.7
    assert found["macro_f1"]["value"] == pytest.approx(2 * 90 / 190 / 3)


def test_shuffled_labels_are_right_no_more_often_than_chance():
    labels = np.random.default_rng(0).integers(0, 4, 2000)
    found = classification(np.random.default_rng(1).permutation(labels), labels, tuple("abcd"))
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert found[name]["low"] < 0.25 < found[name]["high"] < 0.29


def test_bins_of_equal_mass_hold_each_row_once_from_the_least_confident_on():
    confidence = np.random.default_rng(0).random(103)
    bins = equal_mass(confidence, 10)
    assert {len(rows) for rows in bins} == {10, 11} and sorted(np.concatenate(bins)) == list(range(103))
    assert all(confidence[a].max() <= confidence[b].min() for a, b in pairwise(bins))
    assert [list(rows) for rows in equal_mass(np.array([0.5, 0.2]), 10)] == [[1], [0]]


def test_the_calibration_error_of_bins_far_off_is_their_weighted_distance():
    # By hand: four bins of 500 rows; said 0.6, 0.7, 0.8 and 0.9, right 0.3, 0.4, 0.9 and 0.6: (0.3+0.3+0.1+0.3)/4.
    confidence = np.repeat([0.6, 0.7, 0.8, 0.9], 500)
    hits = np.concatenate([np.arange(500) < 500 * right for right in (0.3, 0.4, 0.9, 0.6)])
    found = calibration_error(confidence, hits, bins=4)
    assert found["value"] == pytest.approx(0.25, abs=0.002) and found["n"] == 2000
    assert 0.22 < found["low"] < 0.25 < found["high"] < 0.28


def test_calibrated_confidences_may_have_no_calibration_error_and_few_rows_tell_nothing():
    rng, plain, below = np.random.default_rng(0), [], 0
    for _ in range(100):
        confidence = rng.beta(4, 1.5, 300)
        hits = rng.random(300) < confidence
        found = calibration_error(confidence, hits)
        below += found["low"] == 0
        gaps = [abs((confidence[rows] - hits[rows]).mean()) for rows in equal_mass(confidence)]
        plain.append(np.mean(gaps) - found["value"])
        assert found["low"] <= found["value"] <= found["high"]
    assert below >= 90 and np.mean(plain) > 0.015, "the plain figure is larger by what chance adds"
    few = calibration_error(np.full(19, 0.9), np.ones(19, bool))
    assert math.isnan(few["value"]) and (few["low"], few["high"], few["n"]) == (0, 1, 19)


def test_a_share_counts_what_is_true():
    assert share(np.array([True, False, True, True])) == proportion(3, 4) and share(np.array([]))["n"] == 0


def test_intervals_over_classes_and_of_calibration_hold_the_truth_about_as_often_as_they_say():
    rng, prior, held = np.random.default_rng(3), np.array([0.5, 0.3, 0.2]), []
    kernel = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    joint = prior[:, None] * kernel
    macro = np.mean(2 * np.diag(joint) / (joint.sum(0) + joint.sum(1)))
    for _ in range(300):
        cells = rng.choice(9, 200, p=joint.ravel())
        found = classification(cells // 3, cells % 3, ("a", "b", "c"))
        confidence = rng.uniform(0.6, 1, 500)
        error = calibration_error(confidence, rng.random(500) < confidence - 0.15)
        truths = ((found["accuracy"], np.trace(joint)), (found["balanced_accuracy"], np.diag(kernel).mean()),
                  (found["macro_f1"], macro), (error, 0.15))  # fmt: skip
        held.append([one["low"] <= truth <= one["high"] for one, truth in truths])
    assert (np.mean(held, axis=0) > 0.89).all()
