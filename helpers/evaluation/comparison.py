"""Runs against each other on the same faces."""

import math
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binomtest, bootstrap, norm

from helpers.evaluation.predictions import read_predictions
from helpers.files import InputError
from helpers.metrics import Measure, mean
from helpers.runs.run import Run
from helpers.tasks import TASKS


def compare_runs(runs: list[Run]) -> pd.DataFrame:
    """:func:`compare` of evaluated runs; of one run, an empty table."""
    return compare({run.folder.name: read_predictions(run) for run in runs}) if len(runs) > 1 else pd.DataFrame()


def compare(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Each pair of runs on the test rows, by dataset and name, that all of them answered.

    Args:
        tables: of predictions, by the run's name.

    Returns:
        A row for each task and pair: ``task``, ``first``, ``second``, their measures' ``first_value`` and
        ``second_value``, the ``difference`` first minus second, its paired 95 % interval ``low`` to ``high``, ``p`` and
        ``n`` rows that carry the label. Of classes p is McNemar's exact one and the interval Agresti and Min's
        (2005); of years both are of the bootstrap over faces. ``attrs["shared"]`` is the count of rows that are shared.

    Raises:
        InputError: there are fewer than two runs, they share no test row, or a row has different labels in two of them.
    """
    if len(tables) < 2:
        raise InputError(f"Comparing needs two runs or more, and there are {len(tables)}: name another run.")
    keyed = {run: _test(table) for run, table in tables.items()}
    shared = sorted(set.intersection(*(set(rows.index) for rows in keyed.values())))
    if not shared:
        raise InputError(f"The runs {_listed(tables)} share no test face: compare runs of the same datasets.")
    keyed = {run: rows.loc[shared] for run, rows in keyed.items()}
    lines = []
    for name, task in TASKS.items():
        (one, labels), *others = ((run, task.read(rows)) for run, rows in keyed.items())
        for run, found in others:
            if (unlike := (found != labels) & ((found == found) | (labels == labels))).any():
                face = " ".join(shared[np.flatnonzero(unlike.reshape(len(shared), -1).any(axis=1))[0]])
                why = f"have different labels for {name} of {face}: evaluate both on one store."
                raise InputError(f"The runs {_listed((one, run))} {why}")
        if not (known := task.known(labels)).any():
            continue
        scores = {
            run: task.scores(labels[known], rows[f"{name}_answer"].to_numpy()[known]) for run, rows in keyed.items()
        }
        for first, second in combinations(tables, 2):
            apart, p = (_shares if task.classes else _means)(scores[first], scores[second])
            values = scores[first].mean(), scores[second].mean()
            lines.append((name, first, second, *values, apart["value"], apart["low"], apart["high"], p, apart["n"]))
    columns = ["task", "first", "second", "first_value", "second_value", "difference", "low", "high", "p", "n"]
    found = pd.DataFrame(lines, columns=columns)
    found.attrs["shared"] = len(shared)
    return found


def _test(table: pd.DataFrame) -> pd.DataFrame:
    """Test rows by dataset and name; of rows that have both in common the first."""
    rows = table[table["split"] == "test"].set_index(["dataset", "name"])
    return rows[~rows.index.duplicated()]


def _listed(runs: Iterable[str]) -> str:
    return " and ".join(map(repr, runs))


def _shares(first: np.ndarray, second: np.ndarray) -> tuple[Measure, float]:
    """The difference of two shares of the same rows, and its p."""
    n, better, worse = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    # Half a row more in each of the four cells keeps the interval honest where runs hardly differ.
    centre = (better - worse) / (n + 2)
    half = norm.ppf(0.975) * math.sqrt((better + worse + 1) / (n + 2) - centre**2) / math.sqrt(n + 2)
    p = binomtest(better, better + worse).pvalue if better + worse else 1.0
    low, high = max(centre - half, -1.0), min(centre + half, 1.0)
    return {"value": (better - worse) / n, "low": low, "high": high, "n": n}, float(p)


def _means(first: np.ndarray, second: np.ndarray) -> tuple[Measure, float]:
    """The difference of two mean errors of the same rows, and its p: twice the share of resamples beyond 0."""
    apart = np.asarray(first, np.float64) - second
    found = mean(apart)
    if len(apart) < 2:
        return found, math.nan
    test = bootstrap((apart,), np.mean, n_resamples=999, batch=100, method="percentile", rng=0)
    drawn, (low, high) = test.bootstrap_distribution, test.confidence_interval
    p = 2 * (min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1) / (len(drawn) + 1)
    return found | {"low": float(low), "high": float(high)}, min(float(p), 1.0)
