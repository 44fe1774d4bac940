"""Runs are compared on the faces that all of them answered, in pairs of answers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from tables import answered, blank

from helpers.evaluation.comparison import _shares, compare
from helpers.files import InputError
from helpers.tasks import GENDER


def genders(right: np.ndarray, names=None) -> pd.DataFrame:
    """Women who are answered right or not."""
    table = blank(len(right), gender=1).assign(**answered(GENDER, np.asarray(right, int)))
    return table if names is None else table.assign(name=names)


def ages(errors: np.ndarray) -> pd.DataFrame:
    return blank(len(errors), age_low=40.0, age_high=40.0, age_answer=40 + np.asarray(errors))


def test_a_dozen_faces_compared_by_hand():
    first = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1])
    second = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1])
    found = compare({"a": genders(first), "b": genders(second)})
    (line,) = found.to_dict("records")
    assert found.attrs["shared"] == 12 and (line["task"], line["first"], line["second"], line["n"]) == (
        "gender", "a", "b", 12)  # fmt: skip
    assert (line["first_value"], line["second_value"]) == (9 / 12, 5 / 12) and line["difference"] == pytest.approx(
        4 / 12
    )
    # McNemar: of six that differ one is b's; twice the chance of one or none of six. Agresti and Min: 4/14 ± 1.96·SE.
    assert line["p"] == pytest.approx(2 * binom.cdf(1, 6, 0.5)) == pytest.approx(14 / 64)
    half = 1.959964 * np.sqrt((6.5 + 0.5) - 16 / 14) / 14
    assert (line["low"], line["high"]) == pytest.approx((4 / 14 - half, 4 / 14 + half), abs=1e-6)


def test_equal_runs_do_not_differ_and_are_not_certain():
    right = np.arange(50) % 5 > 0
    (line,) = compare({"a": genders(right), "b": genders(right)}).to_dict("records")
    assert (line["difference"], line["p"]) == (0, 1) and line["low"] == -line["high"] < 0


def test_age_errors_have_the_interval_of_a_bootstrap_over_faces_the_same_each_time():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 5, 500), rng.normal(0, 5, 500)
    tables = {"a": ages(one), "b": ages(other), "worse": ages(one + np.sign(one))}
    found = compare(tables).set_index(["first", "second"])
    apart = np.abs(one) - np.abs(other)
    line = found.loc["a", "b"]
    draws = apart[np.random.default_rng(9).integers(0, 500, (2000, 500))].mean(1)
    assert line["difference"] == pytest.approx(apart.mean())
    assert (line["low"], line["high"]) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.05)
    worse = found.loc["a", "worse"]
    assert (worse["low"], worse["high"], worse["p"]) == pytest.approx((-1, -1, 0.002)), "one year on each face"
    assert len(found) == 3 and compare(tables).equals(compare(tables))


def test_faces_are_matched_by_dataset_and_name_in_any_order():
    first = genders([1, 1, 0, 1], ["w", "x", "y", "z"])
    second = genders([0, 1, 1, 1], ["new", "z", "x", "y"])
    found = compare({"a": first, "b": second})
    (line,) = found.to_dict("records")
    assert found.attrs["shared"] == line["n"] == 3
    assert (line["first_value"], line["second_value"]) == (pytest.approx(2 / 3), 1)
    train = blank(4, "train", gender=1).assign(name=["w", "x", "y", "z"])
    with pytest.raises(InputError, match=r"^The runs 'a' and 'b' share no test face: .*\.$"):
        compare({"a": first, "b": train})
    with pytest.raises(InputError, match="share no test face"):
        compare({"a": first, "b": second.assign(dataset="other")})


def test_runs_with_different_labels_for_a_face_are_refused_by_its_name():
    first = genders([1, 1, 0])
    for label in (0, -1):
        other = first.assign(gender=[1, 1, label])
        with pytest.raises(InputError, match=r"'a' and 'b' have different labels for gender of own test/2\.png"):
            compare({"a": first, "b": other})
    with pytest.raises(InputError, match=r"labels for age of own test/1\.png"):
        compare({"a": first, "b": first.assign(age_high=[np.nan, 9, np.nan])})
    with pytest.raises(InputError, match="needs two runs or more, and there are 1"):
        compare({"a": first})


def test_paired_intervals_hold_the_truth_about_95_times_in_100():
    rng, held = np.random.default_rng(0), []
    for _ in range(300):
        hard = rng.random(200)
        first, second = hard < 0.8, (hard + rng.normal(0, 0.05, 200)) < 0.75
        found, _ = _shares(first, second)
        held.append(found["low"] <= 0.05 <= found["high"])
    assert np.mean(held) > 0.91
