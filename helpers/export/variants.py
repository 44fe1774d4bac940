"""Smaller and faster forms of the exported graph, offered only where they are so and answer as well."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from helpers.data.store import FaceStore
from helpers.export.graph import build_graph, open_session, quiet
from helpers.files import write_file
from helpers.runs.run import Run
from helpers.session.progress import Progress, silent
from helpers.tasks import TASKS

ALLOWED = {"accuracy": 0.005, "mae": 0.1}
"""How much worse than the whole graph a variant may answer, by a task's measure: half a point, a tenth of a year."""

COLUMNS = ("variant", "MB", "p50 ms", "p95 ms", *(task.key for task in TASKS.values()), "offered", "recommended")

_CALIBRATION_FACES, _ROUNDS = 128, 120
_WIDE = 64
"""Channels, in and out, from which a pointwise convolution in int8 gains more than its conversions cost."""


def variants(run: Run, store: FaceStore) -> Iterator[tuple[str, onnx.ModelProto]]:
    """The graph as it is, and what may be smaller or faster, one after another."""
    whole, model = build_graph(run), run.config.model
    yield "fp32", whole
    yield "fp16 weights", halved(whole)
    if model.flip_test:
        yield "no mirror", build_graph(run, flip_test=False)
    for size in sorted({round(model.img_size * part / 8) * 8 for part in (0.7, 0.86)} - {model.img_size}):
        yield f"{size} px", build_graph(run, img_size=size)
    faces = [store.image(row) for row in store.fixed_sample("train", _CALIBRATION_FACES)]
    if (small := quantized(whole, faces)) is not None:
        yield "int8", small


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its float32 weights stored as float16 and widened when it is opened: half the file."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    weights = [one for one in found.graph.initializer if one.data_type == TensorProto.FLOAT and np.prod(one.dims) > 64]
    casts = []
    for weight in weights:
        narrow = f"{weight.name}_fp16"
        casts.append(helper.make_node("Cast", [narrow], [weight.name], to=TensorProto.FLOAT))
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), narrow))
    nodes = list(found.graph.node)
    del found.graph.node[:]
    found.graph.node.extend(casts + nodes)
    onnx.checker.check_model(found, full_check=True)
    return found


def quantized(model: onnx.ModelProto, faces: Iterable[np.ndarray]) -> onnx.ModelProto | None:
    """The same graph with its wide pointwise convolutions in int8, scaled by what they meet on ``faces``.

    Returns None where there is no such convolution.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Faces(CalibrationDataReader):
        left = iter(faces)

        def get_next(self) -> dict | None:
            face = next(self.left, None)
            return None if face is None else {"faces": face[None]}

    with tempfile.TemporaryDirectory() as folder, quiet():
        source, target = Path(folder) / "whole.onnx", Path(folder) / "int8.onnx"
        options = onnxruntime.SessionOptions()  # which puts normalisation into the convolutions
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(source)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(source).graph
        shapes = {one.name: tuple(one.dims) for one in graph.initializer}
        wide = [node.name for node in graph.node if node.op_type == "Conv" and _is_wide(shapes.get(node.input[1]))]
        if not wide:
            return None
        quantize_static(source, target, Faces(), quant_format=QuantFormat.QDQ, per_channel=True, nodes_to_quantize=wide)
        return onnx.load(target)


def _is_wide(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and shape[2:] == (1, 1) and min(shape[:2]) >= _WIDE


def compare_variants(
    run: Run, store: FaceStore, folder: Path, progress: Callable[[str], Progress] = lambda name: silent
) -> pd.DataFrame:
    """Write each variant and measure all of them in one go: size, time, and what they answer on validation faces.

    Offered is what is smaller or faster than the graph as it is, by a tenth at least, and within ALLOWED of its
    answers; recommended is the fastest of these by the median, and of those as fast (within a tenth) the smallest.

    Args:
        run: evaluated, so that the calibration is in the graphs.
        store: that it was trained on.
        folder: where the files go, ``model_<variant>.onnx``.
        progress: called with a variant's name, gives the callback for reading the faces.

    Returns:
        COLUMNS: milliseconds of one face on one thread, rounds of all variants taking turns; accuracies and years.
    """
    run.check_store(store)
    rows, sessions, lines = store.rows("validation"), {}, []
    for name, model in variants(run, store):
        path = folder / f"model_{name.replace(' ', '_')}.onnx"
        write_file(path, model.SerializeToString())
        sessions[name] = open_session(path)
        measured = _scores(sessions[name], store, rows, progress(name))
        lines.append({"variant": name, "MB": path.stat().st_size / 1e6, **measured})
    table, largest = pd.DataFrame(lines), max((store.image(row) for row in rows[:512]), key=lambda face: face.size)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    order = np.random.default_rng(0)
    for _ in range(_ROUNDS):
        for name in order.permutation(list(sessions)):  # none always runs after the same other one
            session = sessions[name]
            start = time.perf_counter()
            session.run(None, {"faces": largest[None]})
            times[name].append(1000 * (time.perf_counter() - start))
    for column, q in (("p50 ms", 50), ("p95 ms", 95)):
        table[column] = [np.percentile(times[name][_ROUNDS // 6 :], q) for name in table["variant"]]
    return offered(table)[list(COLUMNS)]


def offered(table: pd.DataFrame) -> pd.DataFrame:
    """The table of what was measured, with what is ``offered`` and ``recommended``, by the rule above; the first row is
    the graph as it is."""
    good = pd.Series(True, table.index)
    for task in TASKS.values():
        worse = (table[task.key] - table[task.key][0]) * (-1 if task.larger_is_better else 1)
        good &= ~(worse > ALLOWED[task.measure])  # what no validation face tells is no objection
    gains = (table[["MB", "p50 ms"]] < 0.9 * table[["MB", "p50 ms"]].iloc[0]).any(axis=1)
    found = table.assign(offered=good & gains | (table.index == 0))
    times = found["p50 ms"].where(found["offered"])
    return found.assign(recommended=found.index == found["MB"].where(times <= 1.1 * times.min()).idxmin())


def _scores(session, store: FaceStore, rows: np.ndarray, progress: Progress) -> dict[str, float]:
    """Each task's measure of a session's answers to some rows; NaN where none carries its label."""
    said: dict[str, list] = {name: [] for name in TASKS}
    for done, row in enumerate(rows, start=1):
        found = session.run(list(TASKS), {"faces": store.image(row)[None]})
        for (name, task), answer in zip(TASKS.items(), found, strict=True):
            said[name].append(answer[0].argmax() if task.classes else answer[0])
        progress(done, len(rows))
    scores = {}
    for name, task in TASKS.items():
        labels = store.labels(name)[rows]
        known = task.known(labels)
        right = task.scores(labels[known], np.array(said[name])[known])
        scores[task.key] = float(right.mean()) if known.any() else float("nan")
    return scores
