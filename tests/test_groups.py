"""Who is served worse is named where the faces prove it, and nowhere else."""

import math

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind
from tables import answered, blank

from helpers.evaluation.groups import AGE_BANDS, by_group
from helpers.metrics import proportion
from helpers.tasks import AGE, EMOTION, GENDER, RACES


def faces(n: int = 1000, seed: int = 0):
    """Test faces of all groups with all labels, and which of them is answered right: 80 % everywhere."""
    rng = np.random.default_rng(seed)
    ages = rng.integers(0, 90, n).astype(float)
    table = blank(n, age_low=ages, age_high=ages, gender=rng.integers(0, 2, n), race=rng.integers(0, 5, n),
                  emotion=rng.integers(0, 7, n), age_answer=ages + rng.normal(0, 5, n))  # fmt: skip
    return table, rng.random(n) < 0.8


def answer(table, right):
    """The same faces with emotion and gender answered right or wrong."""
    for task in (EMOTION, GENDER):
        wrong = (table[task.name] + 1) % len(task.classes)
        table = table.assign(**answered(task, np.where(right, table[task.name], wrong)))
    return table


def test_a_run_that_serves_all_alike_has_no_worst_group():
    worst = [found["worst"] for seed in range(8) for found in by_group(answer(*faces(seed=seed))).values()]
    assert sum(one is not None for one in worst) <= 4  # of 24, each named by chance in 5 of 100


def test_a_run_that_is_blind_to_a_group_is_caught_by_that_group():
    table, right = faces()
    blind = (table["race"] == RACES.index("Black")).to_numpy()
    table = answer(table, np.where(blind, np.arange(len(table)) % 2 == 0, right))
    table["age_answer"] += np.where(blind, 20, 0)
    for task, sign in (("emotion", -1), ("gender", -1), ("age", 1)):
        found = by_group(table)[task]
        assert found["worst"] == {"grouping": "race", "group": "Black"}
        one = found["race"]["Black"]
        assert one["p"] < 0.001 and one["measure"]["n"] == blind.sum() and not one["small"]
        assert min(sign * one["difference"][end] for end in ("low", "high")) > 0


def test_a_group_that_is_served_better_is_not_the_worst():
    table, right = faces()
    found = by_group(answer(table, (table["race"] == RACES.index("Asian")).to_numpy() | right))["gender"]
    assert found["race"]["Asian"]["measure"]["value"] == 1 and found["race"]["Asian"]["p"] < 1e-6
    assert found["worst"] is None


def test_shares_are_tested_by_two_proportions_and_few_faces_by_fisher_s_exact_test():
    # 56 of 70 against 48 of 80: z = 0.2/√(0.6933·0.3067·(1/70 + 1/80)) = 2.650; two equal p, doubled by Holm.
    table = blank(150, gender=np.repeat([0, 1], [70, 80]), emotion=3)
    right = np.r_[np.arange(70) < 56, np.arange(80) < 48]
    found = by_group(answer(table, right))["emotion"]["gender"]
    z = 0.2 / math.sqrt(104 / 150 * 46 / 150 * (1 / 70 + 1 / 80))
    assert found["male"]["p"] == found["female"]["p"] == pytest.approx(2 * 2 * norm.sf(z))
    assert found["male"]["measure"] == proportion(56, 70)
    assert found["male"]["difference"] == pytest.approx(
        {"value": 0.2, "low": 0.0524, "high": 0.3339, "n": 70}, abs=5e-5
    )
    # Fisher's tea: 3 of 4 against 1 of 4, p = 34/70, doubled.
    tea = by_group(answer(blank(8, gender=np.repeat([0, 1], 4), emotion=3), np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)))
    assert tea["emotion"]["gender"]["male"]["p"] == pytest.approx(2 * 34 / 70)
    assert tea["emotion"]["worst"] is None


def test_age_errors_are_tested_by_welch_s_t():
    first, second = np.array([1.0, 2, 3, 4, 5, 6]), np.array([2.0, 9, 4, 8, 12, 3])
    table = blank(12, age_low=40.0, age_high=40.0, gender=np.repeat([0, 1], 6), age_answer=40 + np.r_[first, -second])
    found = by_group(table)["age"]
    v = first.var(ddof=1) / 6, second.var(ddof=1) / 6
    t = (first.mean() - second.mean()) / math.sqrt(sum(v))
    assert ttest_ind(first, second, equal_var=False).statistic == pytest.approx(t)
    assert found["gender"]["male"]["difference"]["value"] == pytest.approx(first.mean() - second.mean())
    assert found["gender"]["male"]["p"] == pytest.approx(2 * ttest_ind(first, second, equal_var=False).pvalue)
    assert found["age"]["40-49"]["p"] is None, "no other faces"


def test_small_groups_are_shown_and_marked_but_never_named():
    table = answer(blank(229, emotion=3, race=np.repeat([0, 1], [200, 29])), np.arange(229) < 195)
    found = by_group(table)["emotion"]
    assert found["race"]["Black"]["small"] and found["race"]["Black"]["p"] < 1e-9
    assert found["race"]["Black"]["measure"]["value"] == 0 and found["worst"] is None


def test_ages_count_in_the_band_of_the_middle_of_their_label():
    lows = np.array([0, 2, 3, 9, 10, 20, 60, 69, 70, 116, 0, np.nan])
    highs = np.array([2, 2, 9, 9, 19, 29, 69, 69, 70, 116, 116, np.nan])
    found = by_group(blank(12, emotion=3, age_low=lows, age_high=highs))["emotion"]["age"]
    assert {name: one["measure"]["n"] for name, one in found.items()} == {
        "0-2": 2, "3-9": 2, "10-19": 1, "20-29": 1, "50-59": 1, "60-69": 2, "70+": 2}  # fmt: skip
    assert AGE_BANDS == ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")


def test_what_is_not_known_is_not_measurable_and_says_why():
    table, right = faces(100)
    table = answer(table, right)
    missing = by_group(table.drop(columns="race"))["emotion"]["race"]
    assert missing == {"note": "not measurable: the table has no column race"}
    unknown = by_group(table.assign(race=-1))["emotion"]["race"]
    assert unknown == {"note": "not measurable: race is not known of any test row with this task's label"}
    empty = by_group(table.assign(split="train"))
    assert all("note" in empty[task][by] for task in empty for by in ("gender", "age", "race"))
    assert empty["age"]["worst"] is None and AGE.name in empty
