"""Convert MediaPipe's face networks from TFLite to ONNX, so that a browser runs them and the student in one runtime.

Only the operators of BlazeFace (short range) and Face Mesh v2 are supported. TFLite stores channels last, ONNX channels
first: images are transposed at a graph's inputs and outputs, weights once during conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from megaportraits.errors import ExportError
from megaportraits.export.write import OPSET
from megaportraits.extras import require

Array = npt.NDArray[Any]


def face_graph(model: bytes, outputs: Sequence[str], *, low: float = 0.0, high: float = 1.0) -> Any:
    """Convert a face network to an `onnx.ModelProto` that maps `image` (1, 3, S, S), RGB in [0, 1], to its outputs.

    The outputs are in the file's order.

    Args:
        model: the bytes of a TFLite file with one image as its input.
        outputs: names for its outputs, whose shapes are kept.
        low: the network's input value for black.
        high: the network's input value for white.

    Raises:
        MissingPackageError: onnx is not installed.
        ExportError: the network is of another kind.
    """
    require("export", "Conversion to ONNX", "onnx")
    return _Conversion(model).convert(outputs, low, high)


class _Conversion:
    """State of the conversion of one file. Four-dimensional tensors are channels first, others as in the file."""

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._model = schema.ModelT.InitFromPackedBuf(model, 0)
        self._graph = self._model.subgraphs[0]
        self._constants: dict[int, Array] = {}
        self._names: dict[int, str] = {}
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        operator = schema.BuiltinOperator
        self._writers: dict[int, Callable[[Any], str]] = {
            operator.CONV_2D: self._convolution,
            operator.DEPTHWISE_CONV_2D: self._convolution,
            operator.MAX_POOL_2D: self._pool,
            operator.PAD: self._pad,
            operator.ADD: lambda op: self._activated(op, self._node("Add", [self._read(i) for i in op.inputs])),
            operator.PRELU: self._prelu,
            operator.RELU: lambda op: self._node("Relu", [self._read(op.inputs[0])]),
            operator.LOGISTIC: lambda op: self._node("Sigmoid", [self._read(op.inputs[0])]),
            operator.RESHAPE: self._reshape,
            operator.CONCATENATION: self._concatenation,
        }

    def convert(self, outputs: Sequence[str], low: float, high: float) -> Any:
        from onnx import TensorProto, checker, helper

        source, *others = self._graph.inputs
        shape = self._shape(source)
        if others or len(shape) != 4 or shape[3] != 3:
            raise ExportError(f"expected a network with one picture (1, S, S, 3) as its input, got {shape}")
        _, height, width, _ = shape
        scaled = self._node("Mul", ["image", self._constant(np.float32(high - low))])
        self._names[source] = self._node("Add", [scaled, self._constant(np.float32(low))])
        for op in self._graph.operators:
            self._write(op)
        values = []
        for index, name in zip(self._graph.outputs, outputs, strict=True):
            self._nodes.append(helper.make_node("Identity", [self._as_in_file(index)], [name]))
            values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, self._shape(index)))
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, height, width))
        graph = helper.make_graph(self._nodes, "face", [image], values, self._initializers)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        checker.check_model(proto, full_check=True)
        return proto

    def _write(self, op: Any) -> None:
        code = self._model.operatorCodes[op.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)  # files from before 2020 have only the second field
        if kind == self._schema.BuiltinOperator.DEQUANTIZE:
            self._constants[op.outputs[0]] = self._array(op.inputs[0]).astype(np.float32)
        elif kind in self._writers:
            self._names[op.outputs[0]] = self._writers[kind](op)
        else:
            raise ExportError(f"expected the operators of MediaPipe's face networks, got number {kind} of TFLite's")

    def _convolution(self, op: Any) -> str:
        options = op.builtinOptions
        weight = self._array(op.inputs[1])
        depthwise = hasattr(options, "depthMultiplier")
        # Full convolution: (O, kh, kw, I) to (O, I, kh, kw). Depthwise: (1, kh, kw, C) to (C, 1, kh, kw).
        weight = weight.transpose(3, 0, 1, 2) if depthwise else weight.transpose(0, 3, 1, 2)
        group = weight.shape[0] if depthwise else 1
        inputs = [self._read(op.inputs[0]), self._constant(weight), self._constant(self._array(op.inputs[2]))]
        dilation = (options.dilationHFactor, options.dilationWFactor)
        return self._activated(op, self._window("Conv", op, inputs, weight.shape[2:], group=group, dilations=dilation))

    def _pool(self, op: Any) -> str:
        kernel = (op.builtinOptions.filterHeight, op.builtinOptions.filterWidth)
        return self._activated(op, self._window("MaxPool", op, [self._read(op.inputs[0])], kernel))

    def _window(self, kind: str, op: Any, inputs: list[str], kernel: Sequence[int], **more: Any) -> str:
        """A convolution or pooling with TFLite's padding: the larger half of an odd amount is right and below."""
        options = op.builtinOptions
        strides = (options.strideH, options.strideW)
        before, after = [0, 0], [0, 0]
        if options.padding == self._schema.Padding.SAME:
            sides = zip(self._shape(op.inputs[0])[1:3], self._shape(op.outputs[0])[1:3], strict=True)
            for axis, (wide, narrow) in enumerate(sides):
                missing = max((narrow - 1) * strides[axis] + kernel[axis] - wide, 0)
                before[axis], after[axis] = missing // 2, missing - missing // 2
        return self._node(kind, inputs, kernel_shape=kernel, strides=strides, pads=[*before, *after], **more)

    def _pad(self, op: Any) -> str:
        amounts = self._array(op.inputs[1])[[0, 3, 1, 2]]  # (4, 2): before and after of each axis
        pads = self._constant(np.concatenate([amounts[:, 0], amounts[:, 1]]).astype(np.int64))
        return self._node("Pad", [self._read(op.inputs[0]), pads])

    def _prelu(self, op: Any) -> str:
        slope = self._array(op.inputs[1]).transpose(2, 0, 1)  # (1, 1, C) to (C, 1, 1)
        return self._node("PRelu", [self._read(op.inputs[0]), self._constant(slope)])

    def _reshape(self, op: Any) -> str:
        shape = self._shape(op.outputs[0])
        if len(shape) == 4:
            raise ExportError(f"expected reshaped tensors to be outputs, not pictures, got {shape}")
        return self._node("Reshape", [self._as_in_file(op.inputs[0]), self._constant(np.array(shape, np.int64))])

    def _concatenation(self, op: Any) -> str:
        if len(self._shape(op.outputs[0])) == 4:
            raise ExportError("expected outputs to be concatenated, not pictures")
        return self._node("Concat", [self._read(index) for index in op.inputs], axis=op.builtinOptions.axis)

    def _activated(self, op: Any, name: str) -> str:
        kind = op.builtinOptions.fusedActivationFunction
        if kind == self._schema.ActivationFunctionType.NONE:
            return name
        if kind == self._schema.ActivationFunctionType.RELU:
            return self._node("Relu", [name])
        raise ExportError(f"expected ReLU or nothing behind an operator, got TFLite's activation {kind}")

    def _as_in_file(self, index: int) -> str:
        """A tensor in the file's own layout."""
        name = self._read(index)
        return self._node("Transpose", [name], perm=(0, 2, 3, 1)) if len(self._shape(index)) == 4 else name

    def _read(self, index: int) -> str:
        return self._names[index]

    def _array(self, index: int) -> Array:
        """A constant in the file's layout; half precision is converted to single."""
        if index not in self._constants:
            tensor = self._graph.tensors[index]
            kinds = self._schema.TensorType
            known = {kinds.FLOAT16: np.float16, kinds.FLOAT32: np.float32, kinds.INT32: np.int32}
            data = self._model.buffers[tensor.buffer].data
            if data is None or tensor.type not in known:
                raise ExportError(f"expected constant numbers in {tensor.name!r}, got TFLite's type {tensor.type}")
            self._constants[index] = np.asarray(data, np.uint8).view(known[tensor.type]).reshape(self._shape(index))
        return self._constants[index]

    def _shape(self, index: int) -> tuple[int, ...]:
        return tuple(int(n) for n in self._graph.tensors[index].shape)

    def _constant(self, array: Any) -> str:
        from onnx import numpy_helper

        name = f"c{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name
