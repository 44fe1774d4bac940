"""Run the best epoch's network over every split and keep each answer. The test split is read here alone."""

from collections.abc import Callable

import pandas as pd
import torch

from helpers.data.audit import SPLITS
from helpers.data.store import FaceStore
from helpers.runs.run import Run
from helpers.session.progress import Progress, silent
from helpers.tasks import LABELS, TASKS
from helpers.training.predict import load_best, predict

SAMPLE_ROWS = 5000
"""Fixed training rows per task, without augmentation, on which the train-validation gap of the verdict is measured."""


def write_predictions(
    run: Run, store: FaceStore, progress: Callable[[str], Progress] = lambda split: silent
) -> pd.DataFrame:
    """Ask the best epoch of a run about every split; writes and returns ``predictions.parquet``, one row per face.

    The training split stands for a fixed sample of it. A row holds its ``split``, its ``row`` in the store, its
    ``dataset``, ``part`` and ``name``, the columns of every label, and those of every answer (see
    :mod:`helpers.tasks`).

    Args:
        progress: called with a split's name, gives the callback for reading it.

    Raises:
        InputError: the run has no complete epoch, or was trained on other faces.
    """
    run.check_store(store)
    model = load_best(run).to("cuda" if torch.cuda.is_available() else "cpu")
    tables, labels = [], [name for label in LABELS.values() for name in label.columns]
    for split in SPLITS:
        rows = store.fixed_sample("train", SAMPLE_ROWS) if split == "train" else store.rows(split)
        if len(rows):
            flip, workers = model.flip_test, run.config.data.workers
            found = predict(model, store, rows, flip=flip, workers=workers, progress=progress(split))
            table = store.faces.iloc[rows][["dataset", "part", "name", *labels]].reset_index(drop=True)
            answers = {k: v for name, task in TASKS.items() for k, v in task.columns_of(found.answers[name]).items()}
            tables.append(table.assign(split=split, row=rows, **answers))
    table = pd.concat(tables, ignore_index=True)
    table.to_parquet(run.folder / "predictions.parquet", index=False)
    run.log(f"{len(table)} predictions were written")
    return table
