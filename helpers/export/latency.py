"""How long one face takes."""

import time

import numpy as np

from helpers.data.store import FaceStore
from helpers.export.check import ROWS
from helpers.export.graph import open_session
from helpers.metrics import Measure, percentile
from helpers.runs.run import Run

_WARM_UP, _RUNS = 20, 200


def time_graph(run: Run, store: FaceStore) -> dict[str, Measure]:
    """``milliseconds``: p95 of ``model.onnx`` with one CPU thread, for the largest of some validation faces.

    The largest, since the resize inside the graph takes longest for it.
    """
    faces = [store.image(row) for row in store.fixed_sample("validation", ROWS)]
    session, batch = open_session(run.folder / "model.onnx"), max(faces, key=lambda face: face.size)[None]
    milliseconds = []
    for _ in range(_WARM_UP + _RUNS):
        start = time.perf_counter()
        session.run(None, {"faces": batch})
        milliseconds.append(1000 * (time.perf_counter() - start))
    return {"milliseconds": percentile(np.array(milliseconds[_WARM_UP:]), 0.95)}
