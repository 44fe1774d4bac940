"""Measure a run on every split, keep each prediction, and draw the figures. The test split is read here alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from helpers import plots
from helpers.config import AGE_RANGE, EMOTIONS, GENDERS, SPLITS, TASKS, TRAIN_SAMPLE_ROWS, UNKNOWN
from helpers.data.store import FaceStore
from helpers.metrics import classification, difference, mean
from helpers.session.progress import Progress, silent
from helpers.training.fit import load_best
from helpers.training.predict import Predictions, predict
from helpers.training.run import Run


def evaluate(run: Run, store: FaceStore, progress: Callable[[str], Progress] = lambda split: silent) -> dict:
    """Measure the best epoch of a run; writes ``metrics.json``, ``predictions.parquet`` and ``figures/``.

    The training split stands for a fixed sample of it, read without augmentation.

    Args:
        progress: called with a split's name, gives the callback for reading it.

    Returns:
        ``split -> task -> measure`` over all datasets; each task also has ``by_dataset``, and ``gap`` is emotion
        accuracy in training minus validation. A task no row of a split carries is left out of that split.

    Raises:
        InputError: the run has no complete epoch, or was trained on other faces.
    """
    run.check_store(store)
    model = load_best(run).to("cuda" if torch.cuda.is_available() else "cpu")
    metrics, tables = {}, []
    median = float(np.nanmedian(store.faces["age"][store.rows("train")])) if store.known("age").any() else np.nan
    for split in SPLITS:
        rows = store.fixed_sample("train", TRAIN_SAMPLE_ROWS) if split == "train" else store.rows(split)
        if not len(rows):
            continue
        about = {"flip": model.flip_test, "workers": run.config.workers, "progress": progress(split)}
        found = predict(model, store, rows, **about)
        table = _table(found, store, split)
        tables.append(table)
        metrics[split] = {task: _measure(table, task, median) for task in TASKS if _known(table, task).any()}
    if all("emotion" in metrics.get(split, {}) for split in ("train", "validation")):
        train, validation = (metrics[split]["emotion"]["accuracy"] for split in ("train", "validation"))
        metrics["gap"] = difference(train, validation)
    table = pd.concat(tables, ignore_index=True)
    table.to_parquet(run.folder / "predictions.parquet", index=False)
    run.write_metrics(metrics)
    _draw(run, metrics, table)
    run.log(f"evaluated: {len(table)} predictions")
    return metrics


def _table(found: Predictions, store: FaceStore, split: str) -> pd.DataFrame:
    """One row per face: name, labels, probabilities, and what the exported model would answer."""
    faces = store.faces.iloc[found.rows]
    table = faces[["dataset", "part", "name", "emotion", "age", "gender", "race"]].reset_index(drop=True)
    table.insert(0, "split", split)
    for task, names in (("emotion", EMOTIONS), ("gender", GENDERS)):
        probabilities = found.outputs[task].exp().numpy()
        table[f"{task}_answer"] = probabilities.argmax(axis=1).astype(np.int8)
        for code, name in enumerate(names):
            table[f"p_{name}"] = probabilities[:, code]
    table["age_answer"] = found.outputs["age"].numpy().clip(*AGE_RANGE)
    return table


def _known(table: pd.DataFrame, task: str) -> pd.Series:
    return table["age"].notna() if task == "age" else table[task] != UNKNOWN


def _measure(table: pd.DataFrame, task: str, median_age: float) -> dict:
    """The task's measures over all rows that carry its label, and the same ``by_dataset`` and ``by_part`` of one."""

    def measure(part: pd.DataFrame) -> dict:
        if task == "age":
            error = (part["age_answer"] - part["age"]).to_numpy()
            return {
                "mae": mean(np.abs(error)),
                "bias": mean(error),
                "median_mae": mean(np.abs(part["age"].to_numpy() - median_age)),
            }
        names = EMOTIONS if task == "emotion" else GENDERS
        return classification(part[task].to_numpy(), part[f"{task}_answer"].to_numpy(), names)

    labelled = table[_known(table, task)]
    datasets = {name: measure(rows) for name, rows in labelled.groupby("dataset")}
    parts = {" ".join(names): measure(rows) for names, rows in labelled.groupby(["dataset", "part"])}
    return measure(labelled) | {"by_dataset": datasets, "by_part": parts}


def _draw(run: Run, metrics: dict, table: pd.DataFrame) -> None:
    """Write the figures, each of which says which split it shows and whether its faces are drawn."""
    drawn = " (drawn faces)" if run.manifest["drawn"] else ""
    test = metrics.get("test", {})
    figures = {"curves": plots.curves(run.history, f"Run {run.folder.name}{drawn}")}
    for task, names in (("emotion", EMOTIONS), ("gender", GENDERS)):
        if task in test:
            title = f"{task.capitalize()}, test split{drawn}"
            figures[f"confusion_{task}"] = plots.confusion(test[task]["confusion"], names, title)
            figures[f"classes_{task}"] = plots.per_class(test[task]["per_class"], title)
    if "age" in test:
        ages = table[(table["split"] == "test") & table["age"].notna()]
        figures["age"] = plots.ages(ages["age"].to_numpy(), ages["age_answer"].to_numpy(), f"Age, test split{drawn}")
    plots.save_all(figures, run.folder / "figures")


def summary(metrics: dict) -> pd.DataFrame:
    """The main measures as a table to read: split, dataset, task, value with its interval, count."""
    lines = []
    for split in SPLITS:
        for task, found in metrics.get(split, {}).items():
            name, scale, unit = ("mae", 1.0, " years") if task == "age" else ("accuracy", 100.0, " %")
            parts = found["by_dataset"] | ({"all": found} if len(found["by_dataset"]) > 1 else {}) | found["by_part"]
            for dataset, part in parts.items():
                value, low, high = (
                    np.nan if part[name][key] is None else part[name][key] * scale for key in ("value", "low", "high")
                )
                shown = f"{value:.1f}{unit}", f"{low:.1f} to {high:.1f}"
                title = "age error" if task == "age" else f"{task} accuracy"
                lines.append((split, dataset, title, *shown, part[name]["n"]))
    return pd.DataFrame(lines, columns=["split", "dataset", "measure", "value", "95 % interval", "faces"])
