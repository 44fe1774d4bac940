"""The best epoch as one ONNX file with preprocessing inside."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnxruntime
import torch

from helpers.evaluation.calibration import THRESHOLDS
from helpers.evaluation.card import starting_terms
from helpers.export.predictor import PredictorError, open_graph
from helpers.files import InputError, run_first, write_file
from helpers.runs.checkpoints import fingerprint
from helpers.runs.run import Run
from helpers.tasks import TASKS
from helpers.training.model import Reader
from helpers.training.predict import load_best

_OPSET = 18
"""The lowest that the exporter itself writes; each later one shuts out a year of runtimes."""

_OLDEST = "1.15.1"
"""The earliest ONNX Runtime that such files were tried in, six backbones with equal answers; there is none earlier for
the Python that this project needs."""


EXPORTS = [name for task in TASKS.values() for name in task.exports]
"""What the graph gives, in this order."""


def export_graph(run: Run) -> Path:
    """Write ``model.onnx`` of the best epoch; it appears only once it has passed onnx's checker.

    The graph takes ``faces``, uint8 RGB (B, H, W, 3) with B, H and W free, and gives what each task exports:
    ``emotion`` (B, 7) and ``gender`` (B, 2) probabilities, ``age`` (B,) years, ``age_range`` (B, 2) the years within
    which 80 of 100 true ages lie. They are calibrated where these weights have been evaluated.

    Raises:
        InputError: the run has no complete epoch or is being exported elsewhere, its graph cannot be exported, or the
            file cannot be written.
    """
    path = run.folder / "model.onnx"
    with run.claim("exported"):
        write_file(path, build_graph(run).SerializeToString())
    run.log(f"exported {path.name}")
    return path


def build_graph(run: Run, img_size: int | None = None, flip_test: bool | None = None) -> onnx.ModelProto:
    """The graph of the best epoch, checked by onnx; where they are given with another size or mirror than the run's."""
    measured = run.read_metrics().get("evaluation", {})
    best = load_best(run)
    weights = fingerprint(best.state_dict())
    calibration = measured.get("calibration", {}) if measured.get("weights") == weights else {}
    fitted = calibration.get("fitted", {})
    best.img_size = img_size or best.img_size
    best.flip_test = best.flip_test if flip_test is None else flip_test
    model = _trace(Reader(best, fitted).eval(), run.config.model.backbone)
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    known = {"calibration": json.dumps(fitted), "threshold": json.dumps(unsure_below(calibration))}
    onnx.helper.set_model_props(model, _about(run) | known | {"weights": weights})
    onnx.checker.check_model(model, full_check=True)
    return model


def unsure_below(calibration: dict) -> dict[str, float]:
    """For each task of classes the probability below which an answer is to be called unsure.

    It is the lowest from which on the lower bound of validation's accuracy reaches 80 %, the first of THRESHOLDS; 1,
    so that nothing is sure, where none does. A task that was not evaluated is left out, and never unsure.

    Args:
        calibration: what :func:`helpers.evaluation.calibration.calibration_measures` gave.
    """
    first = f"{THRESHOLDS[0]:.0%}"
    reached = {name: found["thresholds"][first] for name, found in calibration.items() if "thresholds" in found}
    return {name: found["confidence"] if found else 1.0 for name, found in reached.items()}


def open_session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU with a fixed number of threads.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    if not path.exists():
        raise run_first("06", f"{path} does not exist (git checkout models brings back what comes along)")
    try:
        return open_graph(path, threads=threads)
    except PredictorError as error:
        raise InputError(str(error)) from error


def _trace(reader: Reader, backbone: str) -> onnx.ModelProto:
    free = {axis: torch.export.Dim(name) for axis, name in enumerate(("B", "H", "W"))}
    example = torch.zeros(2, 50, 60, 3, dtype=torch.uint8)  # sizes that differ, so that none is taken for a constant
    with quiet():
        try:
            program = torch.onnx.export(
                reader, (example,), dynamo=True, input_names=["faces"], output_names=EXPORTS,
                dynamic_shapes=(free,), external_data=False, verbose=False, opset_version=_OPSET,
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            raise InputError(f"The backbone {backbone!r} cannot be exported to ONNX: {error}.") from error
    assert program is not None, "only an older way of exporting returns nothing"
    return without_traces(program.model_proto)


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without what the exporter notes beside each node: which file, and so whose folder, it is from."""
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.graph.input,
                 *model.graph.output, *model.functions):  # fmt: skip
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter and the quantizer warn of, which are their own internals."""
    loggers = {logger: logger.level for logger in (logging.getLogger("torch.onnx"), logging.getLogger())}
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)


def _about(run: Run) -> dict[str, str]:
    """The file's metadata: the classes, the terms of the data, and where the network is from."""
    model, sources = run.config.model, run.manifest["sources"]
    return {
        "faces": "uint8 RGB, (B, H, W, 3)",
        "onnxruntime": f"tried from {_OLDEST} on",
        **{name: ",".join(task.classes) or task.unit.strip() for name, task in TASKS.items()},
        "backbone": model.backbone,
        "terms_of_the_data": "; ".join(f"{name}: {source['terms']}" for name, source in sources.items()),
        "started_from": starting_terms(run),
        "read_in_grey": ", ".join(f"{task} at {side} pixels" for task, side in run.manifest.get("grey", {}).items()),
        "trained_on": ",".join(sources) + (" (drawn faces)" if run.manifest["drawn"] else ""),
    }
