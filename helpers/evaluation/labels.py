"""Labels that look wrong: what networks contradict that were not trained on the face (confident learning)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from helpers.config import TrainConfig
from helpers.data.audit import split_keys
from helpers.data.store import FaceStore
from helpers.data.twins import likeness, twin_groups
from helpers.files import InputError, write_file
from helpers.tasks import TASKS
from helpers.training.loop import fit
from helpers.training.predict import load_best, predict

FOLDS = 3
"""Networks that are trained, each on all but one part of the faces."""

COLUMNS = ("dataset", "name", "sha", "task", "label", "answered", "probability", "row")


def fold_stores(store: FaceStore, folds: int = FOLDS) -> Iterator[FaceStore]:
    """The store as often as there are folds, with another part of its training and validation faces for validation.

    The parts follow the hash of a face's pixels, or of its person, for copies of one picture that of one of them: who
    has learned a copy by heart repeats its label. Test faces stay what they are: nothing looks at them, and their
    labels are never doubted here.
    """
    split, keys = store.faces["split"].to_numpy(object), split_keys(store.faces).to_numpy()
    outlines, thumbnails = zip(*(likeness(store.image(row)) for row in range(len(store))), strict=True)
    twins = twin_groups(store.faces["sha"].to_numpy(), np.stack(outlines), np.stack(thumbnails))
    _, first, group = np.unique(twins, return_index=True, return_inverse=True)
    parts = np.array([int(key[-8:], 16) % folds for key in keys[first]])[group]
    at = store.table.schema.get_field_index("split")
    for part in range(folds):
        given = np.where(split == "test", "test", np.where(parts == part, "validation", "train"))
        manifest = store.manifest | {"identity": f"{store.identity}-{part + 1}-of-{folds}"}
        yield FaceStore(store.folder, manifest, store.table.set_column(at, "split", pa.array(given, pa.string())))


def answers_of_others(config: TrainConfig, store: FaceStore, folder: Path, folds: int = FOLDS, **hooks) -> pd.DataFrame:
    """What a network that was not trained on it says of every training and validation face.

    Args:
        config: of each training; it goes on where it stopped.
        folder: where the runs lie, one for each fold.
        hooks: see :func:`helpers.training.session.training_session`.

    Returns:
        ``row`` in the store, and for each class of each such task its log-probability, ``p_<class>``.

    Raises:
        InputError: as training does, or training was stopped before its end.
    """
    found = []
    for part, fold in enumerate(fold_stores(store, folds), start=1):
        run = fit(config, fold, folder / f"{part}-of-{folds}", **hooks)
        if not run.history or not run.read_results()["finished"]:
            raise InputError(f"The training {run.folder} is not at its end yet; run the same command again to go on.")
        said = predict(load_best(run), fold, fold.rows("validation"), flip=config.model.flip_test)
        columns = {"row": said.rows}
        for name, task in TASKS.items():
            if task.classes:
                columns |= {f"p_{one}": said.answers[name][:, code] for code, one in enumerate(task.classes)}
        found.append(pd.DataFrame(columns))
    return pd.concat(found, ignore_index=True)


def suspicious_labels(store: FaceStore, answers: pd.DataFrame) -> pd.DataFrame:
    """The faces whose labels are most likely wrong, the surest first, by confident learning (arXiv 1911.00068).

    Args:
        answers: of :func:`answers_of_others`.

    Returns:
        COLUMNS: where the face is from, its task, label and the network's answer in words, the answer's probability,
        and the row in the store.

    Raises:
        InputError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise InputError("Looking for wrong labels needs cleanlab; install it with: pip install cleanlab") from None
    lines = []
    for name, task in TASKS.items():
        known = answers[task.known(store.labels(name)[answers["row"]])] if task.classes else answers[:0]
        if known.empty:
            continue
        codes = store.labels(name)[known["row"]].astype(int)
        present = np.unique(codes)  # cleanlab wants each class to have a face
        chances = np.exp(known[[f"p_{task.classes[code]}" for code in present]].to_numpy(float))
        chances /= chances.sum(axis=1, keepdims=True)
        given = np.searchsorted(present, codes)
        ranked = find_label_issues(given, chances, return_indices_ranked_by="normalized_margin", n_jobs=1)
        for at in ranked:
            face, said = store.faces.iloc[int(known["row"].iloc[at])], present[chances[at].argmax()]
            words = task.describe(codes[at]), task.describe(said), round(float(chances[at].max()), 4)
            lines.append((face["dataset"], face["name"], face["sha"], name, *words, int(known["row"].iloc[at])))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def write_labels(path: Path, found: pd.DataFrame) -> None:
    """Write the table as CSV, which packing takes as ``leave_out``."""
    write_file(path, found.drop(columns="row").to_csv(index=False))
