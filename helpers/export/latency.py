"""How long one face takes."""

from __future__ import annotations

import time

import numpy as np

from helpers.metrics import Measure, percentile

_WARM_UP, _RUNS = 20, 200


def time_one_face(session, face: np.ndarray) -> Measure:
    """p95 in milliseconds of the whole graph for one uint8 face (H, W, 3), in a session with one CPU thread."""
    batch, milliseconds = face[None], []
    for _ in range(_WARM_UP + _RUNS):
        start = time.perf_counter()
        session.run(None, {"faces": batch})
        milliseconds.append(1000 * (time.perf_counter() - start))
    return percentile(np.array(milliseconds[_WARM_UP:]), 0.95)
