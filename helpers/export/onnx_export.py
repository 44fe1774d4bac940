"""Export the best epoch as one ONNX file with preprocessing inside, and prove that it answers as PyTorch does."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from helpers.config import EMOTIONS, GENDERS, InputError
from helpers.data.store import FaceStore
from helpers.export.latency import time_one_face
from helpers.training.fit import load_best
from helpers.training.model import Reader
from helpers.training.pretrained import FACES
from helpers.training.run import Run

OUTPUTS = ("emotion", "age", "gender")

CHECK_ROWS = 256
"""Validation faces per task on which the exported file is compared with PyTorch."""


def export(run: Run, store: FaceStore) -> dict:
    """Write ``model.onnx`` of the best epoch, check it, time it, and add the result to the run's metrics.

    The graph takes ``faces``, uint8 RGB (B, H, W, 3) with B, H and W free, and gives ``emotion`` (B, 7) and
    ``gender`` (B, 2) probabilities and ``age`` (B,) years. The file appears only once it has passed onnx's checker.

    Returns:
        ``metrics["onnx"]``: ``difference`` (largest absolute difference to PyTorch, in probability, or in years over
        100), ``milliseconds`` (p95 for one face), ``agreement`` (share of equal classes), ``bytes``.

    Raises:
        InputError: the run has no complete epoch, was trained on other faces, or its graph cannot be exported.
    """
    run.check_store(store)
    metrics = run.read_metrics()
    reader = Reader(load_best(run)).eval()
    path = run.folder / "model.onnx"
    partial = run.folder / ".model.onnx.partial"
    try:
        _write(reader, run, partial)
        session = open_session(partial)
        rows = store.fixed_sample("validation", CHECK_ROWS)
        faces = [store.image(row) for row in rows]
        result = _compare(reader, session, faces)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    largest = max(faces, key=lambda face: face.size)  # the resize inside the graph takes longest for it
    result |= {"milliseconds": time_one_face(session, largest), "bytes": path.stat().st_size}
    run.write_metrics(metrics | {"onnx": result})
    run.log(f"exported {path.name}: largest difference {result['difference']['value']:.1e}")
    return result


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU with a fixed number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _write(reader: Reader, run: Run, path: Path) -> None:
    """Trace the reader and save it as one file with the labels and the terms of the data in its metadata."""
    free = {axis: torch.export.Dim(name) for axis, name in enumerate(("B", "H", "W"))}
    example = torch.zeros(2, 50, 60, 3, dtype=torch.uint8)  # sizes that differ, so that none is taken for a constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                reader, (example,), dynamo=True, input_names=["faces"], output_names=list(OUTPUTS),
                dynamic_shapes=(free,), external_data=False, verbose=False,
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            raise InputError(f"The backbone {run.config.backbone!r} cannot be exported to ONNX: {error}.") from error
    model = program.model_proto
    about = {
        "emotion": ",".join(EMOTIONS),
        "gender": ",".join(GENDERS),
        "age": "years",
        "backbone": run.config.backbone,
        "terms_of_the_data": "; ".join(
            f"{name}: {about.get('terms', 'as published')}" for name, about in run.manifest["sources"].items()
        ),
        "started_from": FACES.terms if run.config.weights == "faces" else run.config.weights,
        "trained_on": ",".join(run.manifest["sources"]) + (" (drawn faces)" if run.manifest["drawn"] else ""),
    }
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _compare(reader: Reader, session: onnxruntime.InferenceSession, faces: list[np.ndarray]) -> dict:
    """The largest difference between both over faces at their own sizes, one by one and as batches."""
    sizes: dict[tuple, list[np.ndarray]] = {}
    for face in faces:
        sizes.setdefault(face.shape, []).append(face)
    batches = [np.stack(group) for group in sizes.values()] + [face[None] for face in faces[:16]]
    worst, equal, answers = 0.0, 0, 0
    for batch in batches:
        with torch.inference_mode():
            expected = [output.numpy() for output in reader(torch.from_numpy(batch))]
        for name, want, got in zip(OUTPUTS, expected, session.run(list(OUTPUTS), {"faces": batch}), strict=True):
            worst = max(worst, float(np.abs(want - got).max()) / (100.0 if name == "age" else 1.0))
            if name != "age":
                equal += int((want.argmax(axis=1) == got.argmax(axis=1)).sum())
                answers += len(batch)
    exact = {"value": worst, "low": worst, "high": worst, "n": len(faces)}  # a maximum has no interval
    return {"difference": exact, "agreement": equal / answers}
