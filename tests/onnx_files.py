"""Small ONNX files with the inputs and outputs of networks that users provide."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

Shape = list[int | str]


def save(path: Path, inputs: dict[str, Shape], output: Shape, nodes: list[onnx.NodeProto]) -> Path:
    """A file whose nodes give `out`."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def mean(name: str, out: str) -> list[onnx.NodeProto]:
    """The mean of pictures (N, 3, h, w), as (N, 1)."""
    return [
        helper.make_node("ReduceMean", [name], [f"{out}s"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", [f"{out}s", "column"], [out]),
    ]


def gaze_file(path: Path, *, batch: int | str = "n", factor: float = 1.0, height: int = 36) -> Path:
    """RT-GENE's interface: theta and phi are `factor` times the means of left and right eye, plus the head's pose."""
    width = height * 60 // 36
    column = helper.make_node("Constant", [], ["column"], value_ints=[-1, 1])
    scale = helper.make_node("Constant", [], ["scale"], value_floats=[factor])
    nodes = [column, scale, *mean("left", "l"), *mean("right", "r")]
    nodes += [
        helper.make_node("Concat", ["l", "r"], ["both"], axis=1),
        helper.make_node("Mul", ["both", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "head"], ["out"]),
    ]
    eye: Shape = [batch, 3, height, width]
    return save(path, {"left": eye, "right": eye, "head": [batch, 2]}, [batch, 2], nodes)


def blink_file(path: Path, *, factor: float = 1.0) -> Path:
    """RT-BENE's interface: the logit is `factor` times the sum of the eyes' means."""
    column = helper.make_node("Constant", [], ["column"], value_ints=[-1, 1])
    scale = helper.make_node("Constant", [], ["scale"], value_floats=[factor])
    nodes = [column, scale, *mean("left", "l"), *mean("right", "r")]
    nodes += [helper.make_node("Add", ["l", "r"], ["both"]), helper.make_node("Mul", ["both", "scale"], ["out"])]
    eye: Shape = ["n", 3, 36, 60]
    return save(path, {"left": eye, "right": eye}, ["n", 1], nodes)


def matting_file(path: Path) -> Path:
    """MODNet's interface: a picture in [-1, 1] to an alpha, here its first channel brought to [0, 1]."""
    nodes = [
        helper.make_node("Constant", [], ["channel"], value_ints=[0]),
        helper.make_node("Constant", [], ["half"], value_floats=[0.5]),
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Mul", ["red", "half"], ["halved"]),
        helper.make_node("Add", ["halved", "half"], ["out"]),
    ]
    return save(path, {"input": ["n", 3, "h", "w"]}, ["n", 1, "h", "w"], nodes)
