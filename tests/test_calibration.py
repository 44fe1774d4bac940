"""A confidence is fitted on validation rows, measured on test rows, and believed as far as these bear it."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss
from tables import answered, blank

from helpers.evaluation.calibration import (
    calibrated,
    calibration_measures,
    coverage_curve,
    fit,
    fit_range,
    fit_temperature,
    reliability,
    threshold_for,
)
from helpers.metrics import proportion
from helpers.tasks import EMOTION, GENDER


def logits_and_codes(n: int, temperature: float, seed: int = 0):
    """Log-probabilities that are the truth's once they are divided by the temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    codes = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    scaled = logits * temperature
    return scaled - np.log(np.exp(scaled).sum(1, keepdims=True)), codes


def genders(n: int, split: str, right: float, confidence, seed: int = 0) -> pd.DataFrame:
    """Faces of which a share is answered right, all at one confidence or each at its own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    answers = np.where(rng.random(n) < right, labels, 1 - labels)
    return blank(n, split, gender=labels).assign(**answered(GENDER, answers, confidence))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_logits_is_found_and_no_other_has_less_loss(temperature):
    log_p, codes = logits_and_codes(20_000, temperature)
    found = fit_temperature(log_p.astype(np.float32), codes)
    assert found == pytest.approx(temperature, rel=0.03)

    def loss(t):
        p = np.exp(log_p / t)
        return log_loss(codes, p / p.sum(1, keepdims=True))

    grid = np.exp(np.linspace(np.log(0.3), np.log(5), 200))
    assert loss(found) <= min(map(loss, grid)) + 1e-6


def test_few_rows_and_perfect_answers_lead_to_no_end_of_the_range():
    assert fit_temperature(np.zeros((0, 4)), np.zeros(0, int)) == 1.0
    one = np.log([[0.7, 0.1, 0.1, 0.1]])
    assert 0.4 < fit_temperature(one, np.array([0])) < 1 < fit_temperature(one, np.array([1])) < 3
    sure, codes = np.log(np.full((500, 4), 0.001) + 0.996 * np.eye(4)[np.arange(500) % 4]), np.arange(500) % 4
    assert 0.2 < fit_temperature(sure, codes) < 1
    assert fit_temperature(sure, (codes + 1) % 4) == pytest.approx(20, rel=0.01), "always wrong and always sure"


def test_the_range_is_the_conformal_quantile_of_errors_over_spreads():
    # By hand: 1 2 2 3 6 7 8 9 10, of which the ⌈10 · 0.8⌉-th, the 8th, is 9.
    errors, spreads = np.array([1.0, -4, 3, 2, 10, 6, 7, 8, 9]), np.array([1.0, 2, 1, 1, 1, 1, 1, 1, 1])
    assert fit_range(errors, spreads) == 9
    assert fit_range(errors, spreads, share=0.5) == 6
    assert fit_range(errors[:4], spreads[:4]) == 3 and fit_range(errors[:3], spreads[:3]) == math.inf


def test_the_range_holds_the_truth_of_new_faces_as_often_as_it_says_also_after_few():
    rng, held = np.random.default_rng(0), []
    for _ in range(2000):
        spreads = rng.uniform(2, 8, 21)
        errors = rng.laplace(0, 3 * spreads)
        held.append(abs(errors[20]) <= fit_range(errors[:20], spreads[:20]) * spreads[20])
    assert 0.79 < np.mean(held) < 0.84  # 17 of 21 is 0.81; the plain quantile holds 0.77


def test_validation_rows_alone_are_fitted():
    rng = np.random.default_rng(0)
    ages = rng.uniform(10, 60, 300)
    validation = genders(300, "validation", 0.8, 0.99).assign(
        age_low=ages, age_high=ages, age_answer=ages + rng.normal(0, 4, 300)
    )
    fitted = fit(validation)
    assert set(fitted) == {"emotion", "age", "gender"} and fitted["emotion"] == 1, "no emotion is known"
    assert fitted["gender"] > 2, "sure in 99 % and right in 80 %"
    others = [genders(300, split, 0.1, 0.9).assign(age_low=9.0, age_high=9.0) for split in ("train", "test")]
    assert fit(pd.concat([*others, validation])) == fitted
    assert fit(pd.concat(others)) == {"emotion": 1.0, "gender": 1.0}
    assert "age" not in fit(validation.drop(columns="age_spread"))


def test_calibrated_probabilities_decide_as_before_and_sum_to_one():
    table = blank(50).assign(**answered(EMOTION, np.arange(50) % 7, np.linspace(0.3, 1, 50)))
    found = calibrated(table, {"emotion": 2.0, "age": 1.5})
    p, before = (one[[f"p_{name}" for name in EMOTION.classes]].to_numpy() for one in (found, table))
    assert np.array_equal(p.argmax(1), table["emotion_answer"]) and p.sum(1) == pytest.approx(1)
    wanted = np.sqrt(before[0]) / np.sqrt(before[0]).sum()
    assert p[0] == pytest.approx(wanted) and (p.max(1)[:-1] < before.max(1)[:-1]).all()
    assert (found["age_range"] == 7.5).all() and np.isfinite(p).all()
    assert "age_range" not in calibrated(table, {"emotion": 1.0})
    assert "p_happy" in table and "age_range" not in table, "the table that was given stays as it was"


def test_reliability_by_hand():
    confidence = np.array([0.9, 0.5, 0.6, 0.8, 0.7, 0.95, 0.55, 0.65, 0.75, 0.85, 0.99, 0.6])
    hits = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0], bool)
    low, middle, high = reliability(confidence, hits, bins=3)
    assert low["confidence"] == pytest.approx((0.5 + 0.55 + 0.6 + 0.6) / 4)
    assert (low["accuracy"], middle["accuracy"], high["accuracy"]) == tuple(proportion(k, 4) for k in (1, 3, 3))
    assert [one["n"] for one in (low, middle, high)] == [4, 4, 4]
    assert len(reliability(confidence[:2], hits[:2])) == 2


def test_the_curve_keeps_the_most_confident_first_and_equal_ones_at_once():
    share, accuracy = coverage_curve(np.array([0.5, 0.9, 0.8, 0.8]), np.array([False, True, False, True]))
    assert share.tolist() == [0.25, 0.75, 1.0] and accuracy == pytest.approx([1, 2 / 3, 0.5])


def test_a_threshold_is_the_lowest_whose_lower_bound_reaches_the_accuracy():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 400).round(2)
    hits = rng.random(400) < confidence
    for accuracy in (0.7, 0.8):
        reached = [c for c in np.unique(confidence)
                   if proportion(hits[confidence >= c].sum(), (confidence >= c).sum())["low"] >= accuracy]  # fmt: skip
        assert threshold_for(confidence, hits, accuracy) == min(reached)
    assert threshold_for(confidence, hits, 0.99) is None
    assert threshold_for(np.ones(5), np.ones(5, bool), 0.8) is None, "five of five prove 57 %"
    assert threshold_for(np.array([]), np.array([], bool), 0.8) is None


def test_an_overconfident_run_is_caught_by_its_calibration_error_and_mended_by_its_temperature():
    table = pd.concat([genders(2000, split, 0.8, 0.98, seed) for seed, split in enumerate(("validation", "test"))])
    fitted = fit(table)
    found = calibration_measures(table, fitted)["gender"]
    assert found["temperature"] == fitted["gender"] > 2
    assert found["ece_before"]["low"] > 0.15 and found["ece_after"]["high"] < 0.06
    assert found["thresholds"]["90%"] is None and found["thresholds"]["95%"] is None


def test_thresholds_come_from_validation_and_are_judged_on_test():
    parts = []
    for seed, split in enumerate(("validation", "test")):
        confidence = np.random.default_rng(seed).uniform(0.5, 1, 3000)
        parts.append(genders(3000, split, confidence, confidence, seed=seed + 5))
    table = pd.concat(parts)
    found = calibration_measures(table, {"gender": 1.0})["gender"]["thresholds"]["80%"]
    labels = parts[0]["gender"] == parts[0]["gender_answer"]
    p = parts[0][["p_male", "p_female"]].max(axis=1).to_numpy()
    assert found["confidence"] == pytest.approx(threshold_for(p, labels.to_numpy(), 0.8))
    assert found["kept"]["n"] == 3000 and found["accuracy"]["n"] == round(3000 * found["kept"]["value"])
    assert 0.78 < found["accuracy"]["value"] < 0.87


def test_the_truth_lies_in_the_age_range_in_four_of_five_test_faces():
    def aged(split, n, seed):
        rng = np.random.default_rng(seed)
        ages, spread = rng.uniform(10, 60, n), rng.uniform(2, 8, n)
        return blank(n, split, age_low=ages, age_high=ages, age_answer=ages + rng.normal(0, spread), age_spread=spread)

    table = pd.concat([aged("validation", 2000, 0), aged("test", 3000, 1)])
    found = calibration_measures(table, fit(table))
    assert found["age"]["factor"] == pytest.approx(1.2816, abs=0.1), "the normal distribution's"
    assert found["age"]["inside"]["n"] == 3000 and 0.77 < found["age"]["inside"]["value"] < 0.83
    assert found["gender"] == found["emotion"] == {"note": "not measurable: no test row carries its label"}
    alone = calibration_measures(table[table["split"] == "test"], {})
    assert alone["age"] == {"note": "not measurable: too few validation rows carry its label"}
