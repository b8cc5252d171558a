"""Write ONNX files with the interfaces of RT-GENE and RT-BENE, whose weights may not be shared.

They are fixed, untrained functions. Their angles are differences of the eyes' brightness, so that labels differ from
frame to frame.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

_EYE = ("n", 3, 36, 60)


def write_teachers(gaze: Path, blink: Path) -> None:
    """Write both files.

    Args:
        gaze: path of the network that maps eyes (n, 3, 36, 60) and head angles (n, 2) to theta and phi (n, 2).
        blink: path of the network that maps eyes to a logit (n, 1).
    """
    eyes = [_value("left", _EYE), _value("right", _EYE)]
    turn = helper.make_node("Concat", ["l", "r"], ["both"], axis=1)
    _save(gaze, [*eyes, _value("head", ("n", 2))], 2, [turn, helper.make_node("Add", ["both", "head"], ["out"])])
    _save(blink, eyes, 1, [helper.make_node("Sub", ["l", "r"], ["out"])])


def _value(name: str, shape: tuple[int | str, ...]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _mean(eye: str, out: str) -> list[NodeProto]:
    """Nodes that compute the mean of images (n, 3, h, w), as (n, 1)."""
    return [
        helper.make_node("ReduceMean", [eye], [f"{out}_mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", [f"{out}_mean", "column"], [out]),
    ]


def _save(path: Path, inputs: list[ValueInfoProto], outputs: int, nodes: list[NodeProto]) -> None:
    column = helper.make_node("Constant", [], ["column"], value_ints=[-1, 1])
    every = [column, *_mean("left", "l"), *_mean("right", "r"), *nodes]
    graph = helper.make_graph(every, path.stem, inputs, [_value("out", ("n", outputs))])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
