"""Measures and intervals against references and by what an interval promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_fscore_support

from helpers.metrics import classification, difference, mean, percentile, proportion


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
        assert part["f1"]["value"] == pytest.approx(np.nan_to_num(f1[i]))
    assert found["accuracy"]["value"] == pytest.approx((labels == answers).mean())
    present = np.unique(labels)
    expected = f1_score(labels, answers, labels=present, average="macro", zero_division=0)
    assert found["macro_f1"]["value"] == pytest.approx(expected)
    assert np.array(found["confusion"]).sum() == n


def test_the_bootstrap_interval_of_f1_is_near_a_direct_resampling_of_rows():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 400)
    answers = np.where(rng.random(400) < 0.7, labels, rng.integers(0, 3, 400))
    found = classification(labels, answers, ("a", "b", "c"))["macro_f1"]
    draws = rng.integers(0, 400, (800, 400))
    direct = np.quantile([f1_score(labels[d], answers[d], average="macro") for d in draws], [0.025, 0.975])
    assert (found["low"], found["high"]) == pytest.approx(tuple(direct), abs=0.015)
