"""Proof that the exported file answers as the trained network does."""

import json

import numpy as np
import torch

from helpers.data.store import FaceStore
from helpers.export.graph import EXPORTS, open_session
from helpers.files import InputError
from helpers.runs.checkpoints import fingerprint
from helpers.runs.run import Run
from helpers.tasks import TASKS
from helpers.training.model import Reader
from helpers.training.predict import load_best

ROWS = 256
"""Validation faces per task on which the exported file is compared with PyTorch."""

_ALONE = 16  # faces that are also given one by one


def check_graph(run: Run, store: FaceStore) -> dict:
    """Compare ``model.onnx`` with the best epoch's network, on faces at their own sizes, in batches and one by one.

    Returns:
        ``difference``: the largest absolute one, in probability, or in years over 100; ``agreement``: the share of
        equal classes; ``weights``: the SHA-256 of those that both have.

    Raises:
        InputError: the run has no complete epoch or was trained on other faces, or the file is of other weights.
    """
    run.check_store(store)
    best, session = load_best(run), open_session(run.folder / "model.onnx")
    about, weights = session.get_modelmeta().custom_metadata_map, fingerprint(best.state_dict())
    reader = Reader(best, json.loads(about.get("calibration", "{}"))).eval()
    if about.get("weights") != weights:
        raise InputError(
            f"{run.folder / 'model.onnx'} is of other weights than the best epoch has now; export the run again "
            "(notebook 06)."
        )
    faces = [store.image(row) for row in store.fixed_sample("validation", ROWS)]
    sizes: dict[tuple, list[np.ndarray]] = {}
    for face in faces:
        sizes.setdefault(face.shape, []).append(face)
    worst, equal = 0.0, list[bool]()
    for number, group in enumerate([*sizes.values(), *([face] for face in faces[:_ALONE])]):
        batch = np.stack(group)
        with torch.inference_mode():
            wanted = [output.numpy() for output in reader(torch.from_numpy(batch))]
        for name, want, got in zip(EXPORTS, wanted, session.run(EXPORTS, {"faces": batch}), strict=True):
            task = next(task for task in TASKS.values() if name in task.exports)
            # What is no number differs without bound, where a maximum would pass it by.
            worst = max(worst, float(np.nan_to_num(np.abs(want - got), nan=np.inf).max()) / task.parity_unit)
            if task.classes and number < len(sizes):  # those that are given alone have been counted
                finite = np.isfinite(want + got).all(axis=1)
                equal += (finite & (want.argmax(axis=1) == got.argmax(axis=1))).tolist()
    exact = {"value": worst, "low": worst, "high": worst, "n": len(faces)}  # a maximum has no interval
    return {"weights": weights, "difference": exact, "agreement": float(np.mean(equal))}
