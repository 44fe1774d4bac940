"""How far a confidence can be believed: fitted on validation rows, measured on test rows."""

import math

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import norm

from helpers.metrics import calibration_error, equal_mass, share
from helpers.tasks import TASKS, Task

THRESHOLDS = (0.80, 0.90, 0.95)
"""Accuracies for which a confidence is looked for."""


def fit_temperature(log_p: np.ndarray, codes: np.ndarray) -> float:
    """The temperature, 0.05 to 20, by which logits are divided for the least negative log-likelihood (Guo et al. 2017).

    Half of log(T)² is added to the sum, as much as one row can weigh: a few rows, or many without one mistake, then do
    not lead to the end of the range.

    Args:
        log_p: log-probabilities, (N, C); N may be 0, which gives 1.
        codes: the true classes, int (N,).
    """

    def loss(log_t: float) -> float:
        true = log_softmax(log_p / math.exp(log_t), axis=1)[np.arange(len(codes)), codes]
        return -true.sum() + log_t**2 / 2

    log_p = np.asarray(log_p, np.float64)
    if not len(log_p):
        return 1.0
    return math.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x)


def fit_range(errors: np.ndarray, spreads: np.ndarray, share: float = 0.8) -> float:
    """The factor with which ``answer ± factor·spread`` holds the truth of a new face in ``share`` of cases.

    It is the split conformal quantile of ``|error| / spread``, the ⌈(N + 1)·share⌉-th smallest (Lei et al. 2018,
    algorithm 2), which needs no more than that the new face is drawn like these; infinite where N is too few.

    Args:
        errors: in years, (N,).
        spreads: how unsure each answer is, in years, (N,), above 0.
    """
    rank = math.ceil((len(errors) + 1) * share)
    return float(np.sort(np.abs(errors) / spreads)[rank - 1]) if rank <= len(errors) else math.inf


def fit(table: pd.DataFrame) -> dict[str, float]:
    """A temperature for each task of classes, and a factor of the 80 % range for each of years, by the task's name.

    Only validation rows are looked at. Where none carries a task's label its temperature is 1, and its range is left
    out; so it is where the rows are too few or the table has no spreads.
    """
    fitted = {}
    for name, task in TASKS.items():
        rows = _known(table, task, "validation")
        if task.classes:
            fitted[name] = fit_temperature(_log_p(rows, task), task.read(rows).astype(int))
        elif f"{name}_spread" in rows:
            fitted[name] = fit_range(_errors(rows, task), rows[f"{name}_spread"].to_numpy())
    return {name: number for name, number in fitted.items() if math.isfinite(number)}


def calibrated(table: pd.DataFrame, fitted: dict[str, float]) -> pd.DataFrame:
    """The table with calibrated probabilities in the columns ``p_<class>``, which decide as before.

    Each task of years with a range has a column ``<task>_range``, half of the width of the 80 % range in years.
    """
    columns: dict[str, np.ndarray] = {}
    for name, task in TASKS.items():
        if task.classes:
            p = np.exp(log_softmax(_log_p(table, task) / fitted.get(name, 1.0), axis=1))
            columns |= {f"p_{word}": p[:, code] for code, word in enumerate(task.classes)}
        elif name in fitted:
            columns[f"{name}_range"] = fitted[name] * table[f"{name}_spread"].to_numpy()
    return table.assign(**columns)


def reliability(confidence: np.ndarray, hits: np.ndarray, bins: int = 10) -> list[dict]:
    """Of each equal-mass bin the mean ``confidence``, the ``accuracy`` with Wilson's interval, and its rows ``n``."""
    return [{"confidence": float(confidence[rows].mean()), "accuracy": share(hits[rows]), "n": len(rows)}
            for rows in equal_mass(confidence, bins)]  # fmt: skip


def coverage_curve(confidence: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share of faces that are kept, the most confident first, and the accuracy among them; equal ones at once."""
    _, kept, right = _kept(confidence, hits)
    return kept / len(hits), right / kept


def threshold_for(confidence: np.ndarray, hits: np.ndarray, accuracy: float) -> float | None:
    """The lowest confidence from which on the lower bound of Wilson's interval reaches ``accuracy``; None if none does.

    Wilson's interval is the score test turned round, so the test is looked at, of all confidences at once.
    """
    confidences, kept, right = _kept(confidence, hits)
    enough = right / kept - accuracy >= norm.ppf(0.975) * np.sqrt(accuracy * (1 - accuracy) / kept)
    return float(confidences[enough].min()) if enough.any() else None


def calibration_measures(table: pd.DataFrame, fitted: dict[str, float]) -> dict:
    """What :func:`fit` found, and what it is worth on test rows.

    Returns:
        Of each task of classes its ``temperature``, ``ece_before`` and ``ece_after`` it, and ``thresholds``: for 80, 90
        and 95 % the ``confidence`` that validation rows ask for, and on test rows the share that it ``kept`` and the
        ``accuracy`` among them; None where no confidence reaches it. Of each task of years the ``factor`` and how often
        the truth is ``inside`` the 80 % range. What cannot be measured has a ``note`` with the reason.
    """
    found: dict[str, dict] = {}
    after = calibrated(table, fitted)
    for name, task in TASKS.items():
        rows, validation = _known(after, task, "test"), _known(after, task, "validation")
        if not len(rows) or name not in fitted:
            why = "no test row carries its label" if name in fitted else "too few validation rows carry its label"
            found[name] = {"note": f"not measurable: {why}"}
        elif task.classes:
            before, (confidence, hits) = _answers(_known(table, task, "test"), task)[0], _answers(rows, task)
            thresholds: dict[str, dict | None] = {}
            for accuracy in THRESHOLDS:
                lowest = threshold_for(*_answers(validation, task), accuracy)
                kept = confidence >= (math.inf if lowest is None else lowest)
                told = {"confidence": lowest, "kept": share(kept), "accuracy": share(hits[kept])}
                thresholds[f"{accuracy:.0%}"] = None if lowest is None else told
            errors = {"ece_before": calibration_error(before, hits), "ece_after": calibration_error(confidence, hits)}
            found[name] = {"temperature": fitted[name], **errors, "thresholds": thresholds}
        else:
            inside = np.abs(_errors(rows, task)) <= rows[f"{name}_range"].to_numpy()
            found[name] = {"factor": fitted[name], "inside": share(inside)}
    return found


def _known(table: pd.DataFrame, task: Task, split: str) -> pd.DataFrame:
    """Rows of a split that carry the task's label."""
    return table[task.known(task.read(table)) & (table["split"] == split).to_numpy()]


def _log_p(table: pd.DataFrame, task: Task) -> np.ndarray:
    """Log-probabilities, float64 (N, C); what was rounded to 0 is the least that float32 can tell from it."""
    p = table[[f"p_{word}" for word in task.classes]].to_numpy(np.float64)
    return np.log(np.maximum(p, np.finfo(np.float32).tiny))


def _errors(table: pd.DataFrame, task: Task) -> np.ndarray:
    """Each answer's distance from its label, in years."""
    return task.scores(task.read(table), table[f"{task.name}_answer"].to_numpy())


def _answers(table: pd.DataFrame, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each decision, and whether it is right."""
    hits = task.scores(task.read(table), table[f"{task.name}_answer"].to_numpy())
    return table[[f"p_{word}" for word in task.classes]].to_numpy().max(axis=1, initial=0), hits


def _kept(confidence: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each confidence that occurs, from the largest on, how many rows have as much or more, and how many are right."""
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(-confidence[order], append=math.inf) > 0)
    return confidence[order][last], last + 1, np.cumsum(hits[order])[last]
