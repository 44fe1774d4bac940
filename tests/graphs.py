"""Small graphs with the inputs and outputs of exported ones, for tests that need no training."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = {"emotion": ("cross", "glad", "still"), "gender": ("left", "right")}
"""Names that stand nowhere in the code, so that a test sees where they come from."""


def tiny_model(path: Path, **about) -> Path:
    """A model that answers by a face's mean colour alone: its age is the mean grey, 0 to 100 years.

    Args:
        path: of the file.
        about: metadata beside the classes; what is no text is written as JSON.
    """
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 6, (3, len(classes))).astype(np.float32) for name, classes in CLASSES.items()}
    constants = [numpy_helper.from_array(values, f"{name}_weights") for name, values in weights.items()]
    for name, value in (("places", np.array([1, 2])), ("last", np.array([1])), ("top", np.float32(255))):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
    constants += [numpy_helper.from_array(np.float32(value), name) for name, value in (("years", 100), ("reach", 5))]
    constants.append(numpy_helper.from_array(np.array([[-1, 1]], np.float32), "ends"))
    node = helper.make_node
    nodes = [
        node("Cast", ["faces"], ["pixels"], to=TensorProto.FLOAT),
        node("ReduceMean", ["pixels", "places"], ["sums"], keepdims=0),
        node("Div", ["sums", "top"], ["colour"]),
        node("ReduceMean", ["colour", "last"], ["grey"], keepdims=0),
        node("Mul", ["grey", "years"], ["age"]),
        node("Unsqueeze", ["age", "last"], ["column"]),
        node("Mul", ["ends", "reach"], ["away"]),
        node("Add", ["column", "away"], ["age_range"]),
    ]
    for name in CLASSES:
        nodes += [node("MatMul", ["colour", f"{name}_weights"], [f"{name}_logits"]),
                  node("Softmax", [f"{name}_logits"], [name], axis=1)]  # fmt: skip
    shapes = {"emotion": ["B", 3], "age": ["B"], "age_range": ["B", 2], "gender": ["B", 2]}
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["B", "H", "W", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()], constants,
    )  # fmt: skip
    return _write(path, graph, {name: ",".join(classes) for name, classes in CLASSES.items()} | about)


def tiny_detector(path: Path) -> Path:
    """A detector that finds one face in every picture: its upper left quarter."""
    node = helper.make_node
    values = {"front": [0], "middle": [1], "end": [2], "none": [0, 0], "two": 2, "once": [0]}
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in values.items()]
    constants.append(numpy_helper.from_array(np.ones(1, np.float32), "sure"))
    nodes = [
        node("Shape", ["picture"], ["shape"]),
        node("Slice", ["shape", "front", "middle"], ["high"]),
        node("Slice", ["shape", "middle", "end"], ["wide"]),
        node("Concat", ["wide", "high"], ["size"], axis=0),
        node("Div", ["size", "two"], ["half"]),
        node("Concat", ["none", "half"], ["box"], axis=0),
        node("Unsqueeze", ["box", "once"], ["boxes"]),
        node("Identity", ["sure"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes, "detector", [helper.make_tensor_value_info("picture", TensorProto.UINT8, ["H", "W", 3])],
        [helper.make_tensor_value_info("boxes", TensorProto.INT64, ["N", 4]),
         helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N"])], constants,
    )  # fmt: skip
    return _write(path, graph, {})


def _write(path: Path, graph: onnx.GraphProto, about: dict) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(
        model, {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path
