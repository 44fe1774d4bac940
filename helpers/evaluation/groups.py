"""Whether a run serves some people worse than others: each task's first measure on test rows, by group of people."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import chi2_contingency, fisher_exact, ttest_ind
from statsmodels.stats.multitest import multipletests

from helpers.metrics import Measure, difference, mean, share
from helpers.tasks import AGE, GENDER, RACE, TASKS, Task

SMALL = 30
"""Faces below which a group is shown, and marked, but never named the worst."""

AGE_STARTS = (0, 3, 10, 20, 30, 40, 50, 60, 70)
"""The first year of each age band; the last has no end."""

AGE_BANDS = (*(f"{low}-{high - 1}" for low, high in pairwise(AGE_STARTS)), f"{AGE_STARTS[-1]}+")

_ALPHA = 0.05


def by_group(table: pd.DataFrame) -> dict:
    """Each task's first measure by ``gender``, ``age`` (band of the label's middle) and ``race`` of test rows.

    Args:
        table: of predictions; labels say who belongs to a group, answers never do.

    Returns:
        ``task -> grouping -> group ->`` its ``measure``, whether it is ``small`` (below SMALL faces), its
        ``difference`` to all other faces with a known group, and ``p``: of the two-proportion test, Fisher's where an
        expected count is below 5, or Welch's t of errors, corrected by Holm (1979) over all groups of the task; None
        where nothing can be tested. A grouping that cannot be measured has only a ``note`` with the reason.
        ``task -> worst`` is the ``grouping`` and ``group`` with the largest shortfall among those that are not small
        and have p < 0.05, or None.
    """
    test = table[table["split"] == "test"]
    return {name: _of_task(test[task.known(task.read(test))], task) for name, task in TASKS.items()}


def _of_task(table: pd.DataFrame, task: Task) -> dict:
    scores = task.scores(task.read(table), table[f"{task.name}_answer"].to_numpy())
    found: dict = {label.name: _grouped(table, label, names, scores, task)
                   for label, names in ((GENDER, GENDER.classes), (AGE, AGE_BANDS), (RACE, RACE.classes))}  # fmt: skip
    tested = [(grouping, group) for grouping, groups in found.items() for group in groups
              if group != "note" and groups[group]["p"] is not None]  # fmt: skip
    p_values = [found[grouping][group]["p"] for grouping, group in tested]
    corrected = multipletests(p_values, method="holm")[1] if p_values else []
    worst, sign = [], 1 if task.larger_is_better else -1
    for (grouping, group), p in zip(tested, corrected, strict=True):
        part = found[grouping][group]
        part["p"], behind = float(p), -sign * part["difference"]["value"]
        if p < _ALPHA and behind > 0 and not part["small"]:
            worst.append((behind, {"grouping": grouping, "group": group}))
    return found | {"worst": max(worst, key=lambda one: one[0])[1] if worst else None}


def _grouped(table: pd.DataFrame, label: Task, names: tuple[str, ...], scores: np.ndarray, task: Task) -> dict:
    """The groups of one grouping, each against the others."""
    if not set(label.columns) <= set(table):
        return {"note": f"not measurable: the table has no column {label.columns[0]}"}
    labels = label.read(table)
    known = label.known(labels)
    if not known.any():
        return {"note": f"not measurable: {label.name} is not known of any test row with this task's label"}
    labels, scores = labels[known], scores[known]
    codes = labels if label.classes else np.digitize(labels.mean(axis=1), AGE_STARTS) - 1
    groups = {}
    for code in np.unique(codes):
        inside, others = scores[codes == code], scores[codes != code]
        measured = (share if task.classes else mean)(inside)
        apart, p = (_shares if task.classes else _means)(inside, others)
        told = {"measure": measured, "small": len(inside) < SMALL, "difference": apart}
        groups[names[code]] = told | {"p": p if math.isfinite(p) else None}
    return groups


def _shares(inside: np.ndarray, others: np.ndarray) -> tuple[Measure, float]:
    """The difference of two shares, and the p of the pooled two-proportion test, or Fisher's where counts are small."""
    counts = np.array([[hits.sum(), len(hits) - hits.sum()] for hits in (inside, others)])
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    if not len(others):
        p = math.nan
    elif expected.min() < 5:
        p = fisher_exact(counts)[1]
    else:
        p = chi2_contingency(counts, correction=False)[1]  # whose root is the z of two proportions
    return difference(share(inside), share(others)), p


def _means(inside: np.ndarray, others: np.ndarray) -> tuple[Measure, float]:
    """The difference of two mean errors and its p, by Welch's t; of one face or of equal errors nothing is known."""
    n = min(len(inside), len(others))
    found: Measure = {"value": math.nan, "low": -math.inf, "high": math.inf, "n": n}
    if n:
        found["value"] = float(inside.mean() - others.mean())
    if n < 2 or min(inside.std(), others.std()) == 0:
        return found, math.nan
    test = ttest_ind(inside, others, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return found | {"low": float(low), "high": float(high)}, test.pvalue
