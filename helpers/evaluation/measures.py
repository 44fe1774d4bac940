"""Measures of the table of predictions, pure functions of it; each with its count and its 95 % interval."""

import numpy as np
import pandas as pd

from helpers.config import CRITERIA
from helpers.data.audit import SPLITS
from helpers.evaluation.calibration import calibration_measures, fit
from helpers.evaluation.groups import by_group
from helpers.metrics import Measure, difference
from helpers.tasks import TASKS, Task


def measure(table: pd.DataFrame) -> dict:
    """All measures of a run.

    Args:
        table: as :func:`helpers.evaluation.predictions.write_predictions` gives it.

    Returns:
        ``split -> task -> measure`` over all datasets; each task also has ``by_dataset`` and ``by_part``, and in the
        test split, where the table tells which faces are ``copied``, ``without_copies``: the same measures of faces
        that the published training sets do not hold; None where none is left. ``gap`` is
        the measure of its criterion's task in training minus validation, and ``weights`` the SHA-256 of what answered.
        ``calibration`` holds what was ``fitted`` and what it is worth, ``groups`` the measures by group of people.
        A task that no row of a split carries is left out of that split.
    """
    metrics: dict = {"weights": table.attrs["weights"]}
    metrics |= {split: {} for split in SPLITS if (table["split"] == split).any()}
    for name, task in TASKS.items():
        known = table[task.known(task.read(table))]
        training = task.read(known[known["split"] == "train"])
        for split, rows in known.groupby("split"):
            metrics[str(split)][name] = _measure(rows, task, training)
    fitted = fit(table)
    metrics["calibration"] = {"fitted": fitted} | calibration_measures(table, fitted)
    metrics["groups"] = by_group(table)
    judged = TASKS[CRITERIA["gap"].task]
    pair = [metrics.get(split, {}).get(judged.name) for split in ("train", "validation")]
    return metrics | ({"gap": difference(*(found[judged.measure] for found in pair))} if all(pair) else {})


def _measure(table: pd.DataFrame, task: Task, training: np.ndarray) -> dict:
    """The task's measures over rows that carry its label, and the same ``by_dataset`` and ``by_part`` of one."""

    def measures(rows: pd.DataFrame) -> dict:
        return task.measures(task.read(rows), rows[f"{task.name}_answer"].to_numpy(), training)

    datasets = {name: measures(rows) for name, rows in table.groupby("dataset")}
    parts = {" ".join(names): measures(rows) for names, rows in table.groupby(["dataset", "part"])}
    found = measures(table) | {"by_dataset": datasets, "by_part": parts}
    if "copied" in table and (table["split"] == "test").all():
        new = table[~table["copied"].astype(bool)]
        found["without_copies"] = measures(new) if len(new) else None
    return found


def details(metrics: dict) -> pd.DataFrame:
    """Every further measure of the test split as a table: dataset or part, measure, value, 95 % interval, count.

    ``without copies`` are the faces that no training set was published with as well.
    """
    lines = []
    for name, found in metrics.get("test", {}).items():
        parts = {"all": found, "without copies": found.get("without_copies"), **found["by_dataset"], **found["by_part"]}
        for dataset, part in parts.items():
            for measure_, about in (part or {}).items():
                if not isinstance(about, dict) or "value" not in about:
                    continue
                unit, scale = (" %", 100.0) if TASKS[name].classes or measure_ == "cs5" else (" years", 1.0)
                lines.append((dataset, f"{name} {measure_.replace('_', ' ')}", *_shown(about, scale, unit)))
    return pd.DataFrame(lines, columns=["test faces", "measure", "value", "95 % interval", "faces"])


def _shown(one: Measure, scale: float, unit: str) -> tuple[str, str, float]:
    """A measure's value with its unit, its interval, and its count; null in a file is shown as nan."""
    value, low, high = scale * np.array([one[end] for end in ("value", "low", "high")], float)
    return f"{value:.1f}{unit}", f"{low:.1f} to {high:.1f}", one["n"]


def summary(metrics: dict) -> pd.DataFrame:
    """The main measures as a table to read: split, dataset, measure, value with its interval, count."""
    lines = []
    for split in SPLITS:
        for name, found in metrics.get(split, {}).items():
            task = TASKS[name]
            parts = found["by_dataset"] | ({"all": found} if len(found["by_dataset"]) > 1 else {}) | found["by_part"]
            for dataset, part in parts.items():
                lines.append((split, dataset, task.title, *_shown(part[task.measure], task.scale, task.unit)))
    return pd.DataFrame(lines, columns=["split", "dataset", "measure", "value", "95 % interval", "faces"])
