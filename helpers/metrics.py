"""Measures and their 95 % intervals over plain arrays. A measure is ``{"value", "low", "high", "n"}``."""

from __future__ import annotations

import math

import numpy as np
from sklearn.metrics import confusion_matrix

Measure = dict[str, float]

Z = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""

_RESAMPLES = 2000


def proportion(hits: int, n: int) -> Measure:
    """A share with Wilson's score interval (1927), which stays within 0 to 1 and is honest at the ends.

    Args:
        hits: successes, 0 to n.
        n: trials; at 0 nothing is known: the value is NaN and the interval 0 to 1.
    """
    if n == 0:
        return _measure(math.nan, 0.0, 1.0, 0)
    share, z2 = hits / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At 0 and n hits the formula gives 0 and 1 but for rounding.
    low = 0.0 if hits == 0 else max(0.0, centre - half)
    return _measure(share, low, 1.0 if hits == n else min(1.0, centre + half), n)


def mean(values: np.ndarray) -> Measure:
    """A mean with the normal interval, value ± Z·s/√n; with fewer than two values it reaches from -inf to inf."""
    n = len(values)
    if n < 2:
        return _measure(float(values[0]) if n else math.nan, -math.inf, math.inf, n)
    values = np.asarray(values, np.float64)
    half = Z * values.std(ddof=1) / math.sqrt(n)
    return _measure(values.mean(), values.mean() - half, values.mean() + half, n)


def difference(first: Measure, second: Measure) -> Measure:
    """``first - second`` of two independent shares; Newcombe's hybrid score interval (1998, method 10)."""
    value = first["value"] - second["value"]
    low = value - math.hypot(first["value"] - first["low"], second["high"] - second["value"])
    high = value + math.hypot(first["high"] - first["value"], second["value"] - second["low"])
    return _measure(value, low, high, min(first["n"], second["n"]))


def percentile(values: np.ndarray, q: float) -> Measure:
    """The q-quantile (0 to 1) with an interval between order statistics (normal approximation of the binomial)."""
    ordered, n = np.sort(values), len(values)
    half = Z * math.sqrt(n * q * (1 - q))
    ends = np.clip([math.floor(n * q - half) - 1, math.ceil(n * q + half)], 0, n - 1)
    return _measure(np.quantile(ordered, q), ordered[ends[0]], ordered[ends[1]], n)


def classification(labels: np.ndarray, answers: np.ndarray, names: tuple[str, ...]) -> dict:
    """Accuracy, macro F1, per-class recall, precision and F1, and the confusion matrix (rows: the truth).

    Shares have Wilson's interval; F1 has the percentile bootstrap over resampled confusion matrices. A class that
    the labels do not hold is left out of the macro mean.
    """
    matrix = confusion_matrix(labels, answers, labels=range(len(names)))
    draws = np.random.default_rng(0).multinomial(matrix.sum(), (matrix / matrix.sum()).ravel(), size=_RESAMPLES)
    scores, resampled = _f1(matrix[None])[0], _f1(draws.reshape(-1, *matrix.shape))
    present = matrix.sum(axis=1) > 0
    macro = resampled[:, present].mean(axis=1)
    n = int(matrix.sum())
    return {
        "accuracy": proportion(int(np.trace(matrix)), n),
        "macro_f1": _measure(scores[present].mean(), *np.quantile(macro, [0.025, 0.975]), n),
        "per_class": {
            name: {
                "recall": proportion(int(matrix[i, i]), int(matrix[i].sum())),
                "precision": proportion(int(matrix[i, i]), int(matrix[:, i].sum())),
                "f1": _measure(scores[i], *np.quantile(resampled[:, i], [0.025, 0.975]), int(matrix[i].sum())),
            }
            for i, name in enumerate(names)
        },
        "confusion": matrix.tolist(),
    }


def _f1(matrices: np.ndarray) -> np.ndarray:
    """F1 per class, (R, C), of confusion matrices (R, C, C); 0 where a class is neither true nor answered."""
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    return 2 * hits / np.maximum(matrices.sum(axis=1) + matrices.sum(axis=2), 1)


def _measure(value: float, low: float, high: float, n: int) -> Measure:
    return {"value": float(value), "low": float(low), "high": float(high), "n": int(n)}
