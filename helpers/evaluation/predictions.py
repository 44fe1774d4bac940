"""Run the best epoch's network over every split and keep each answer. The test split is read here alone."""

from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import torch

from helpers.data.audit import SPLITS
from helpers.data.store import FaceStore
from helpers.files import InputError, first_line, run_first, write_file
from helpers.runs.checkpoints import fingerprint
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

    Its ``attrs``, which the file keeps too, name the ``weights`` that answered by their SHA-256.

    The training split stands for a fixed sample of it. A row holds its ``split``, its ``row`` in the store, its
    ``dataset``, ``part`` and ``name``, whether it was published as a training face too (``copied``), the columns of
    every label, and those of every answer (see :mod:`helpers.tasks`).

    Args:
        progress: called with a split's name, gives the callback for reading it.

    Raises:
        InputError: the run has no complete epoch, was trained on other faces or is being evaluated elsewhere, the
            network answers with what is no number, or the file cannot be written.
    """
    with run.claim("evaluated"):
        run.check_store(store)
        run.read_metrics()  # where that is damaged, say so before the work
        table = _ask(run, store, progress)
        write_file(run.folder / "predictions.parquet", table.to_parquet(index=False, write_page_checksum=True))
    run.log(f"{len(table)} predictions were written")
    return table


def _ask(run: Run, store: FaceStore, progress: Callable[[str], Progress]) -> pd.DataFrame:
    model = load_best(run).to("cuda" if torch.cuda.is_available() else "cpu")
    tables, labels = [], [name for label in LABELS.values() for name in label.columns]
    for split in SPLITS:
        rows = store.fixed_sample("train", SAMPLE_ROWS) if split == "train" else store.rows(split)
        if len(rows):
            flip, workers = model.flip_test, run.config.data.workers
            found = predict(model, store, rows, flip=flip, workers=workers, progress=progress(split))
            table = store.faces.iloc[rows][["dataset", "part", "name", "copied", *labels]].reset_index(drop=True)
            answers = {k: v for name, task in TASKS.items() for k, v in task.columns_of(found.answers[name]).items()}
            tables.append(table.assign(split=split, row=rows, **answers))
    table = pd.concat(tables, ignore_index=True)
    table.attrs["weights"] = fingerprint(model.state_dict())
    return table


def read_predictions(run: Run) -> pd.DataFrame:
    """What :func:`write_predictions` wrote.

    Raises:
        InputError: it is not there, or damaged.
    """
    path, why = run.folder / "predictions.parquet", "it lacks columns, or the weights that answered"
    if not path.exists():
        raise run_first("05", f"{path} does not exist")
    try:
        table = pd.read_parquet(path, page_checksum_verification=True)
        if {"split", "row", "dataset", *(f"{task}_answer" for task in TASKS)} <= set(table) and table.attrs["weights"]:
            return table
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        why = first_line(error)
    raise InputError(f"{path} is damaged ({why}); run notebook 05 again, which writes it anew.")
