"""Convert a graph to float16 or int8.

Callers choose which parts stay in floating point. Every export measures the loss of quality (`export.report`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.extras import require

Feed = Mapping[str, npt.NDArray[Any]]
_HEAVY = ("Conv", "Gemm", "MatMul")
_STORED = (*_HEAVY, "Gather", "GatherND")
"""Operators whose inputs are weights. Gather is among them because a student's avatars are tables read by an index."""


def to_float16(proto: Any) -> Any:
    """A copy that stores weights as float16 and computes in float32: half the file size, the same arithmetic.

    Computing in float16 would not be faster: CPUs hardly support it, and onnxruntime casts around every operator.
    Runtimes fold the casts of the weights when they load the file.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(proto)
    weights = {name for node in proto.graph.node if node.op_type in _STORED for name in node.input}
    casts = []
    for index, tensor in enumerate(list(result.graph.initializer)):
        if tensor.data_type != TensorProto.FLOAT or tensor.name not in weights:
            continue
        half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            continue
        name = tensor.name
        result.graph.initializer[index].CopyFrom(numpy_helper.from_array(half, f"{name}.float16"))
        casts.append(helper.make_node("Cast", [f"{name}.float16"], [name], f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *result.graph.node]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def to_int8(proto: Any, feeds: Sequence[Feed], keep: Sequence[str] = ()) -> Any:
    """A copy whose convolutions and matrix products run in int8 (static quantisation, QDQ, weights per channel).

    Other weights are stored as float16 and computed with in float32.

    Args:
        proto: a float32 graph.
        feeds: inputs from real frames, on which the ranges of activations are calibrated.
        keep: name prefixes of the weights whose nodes stay in float32.
    """
    require("export", "Quantisation", "onnxruntime")
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    kept = [node.name for node in proto.graph.node if node.op_type in _HEAVY and is_kept(node, keep)]
    with tempfile.TemporaryDirectory() as folder:
        before, ready, after = (Path(folder) / f"{name}.onnx" for name in ("before", "ready", "after"))
        onnx.save(proto, str(before))
        quant_pre_process(str(before), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(after),
            _Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            op_types_to_quantize=list(_HEAVY),
            nodes_to_exclude=kept,
        )
        return to_float16(onnx.load(str(after)))


def is_kept(node: Any, keep: Sequence[str]) -> bool:
    """Whether a node stays in float32: the name of one of its weights starts with a prefix in `keep`."""
    return any(name.startswith(tuple(keep)) for name in node.input) if keep else False


class _Feeds:
    """onnxruntime's calibration data reader."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)
