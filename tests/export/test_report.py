"""Measurements of exported graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from megaportraits.errors import ExportError
from megaportraits.export.report import measure
from megaportraits.runtimes import GraphInfo


def test_a_graph_whose_outputs_are_not_finite_is_an_error(tmp_path: Path) -> None:
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "image")]
    node = onnx.helper.make_node("Log", ["x"], ["image"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", ends[:1], ends[1:]), ir_version=8)
    model.opset_import[0].version = 17
    onnx.helper.set_model_props(model, GraphInfo("student", 1).to_metadata())
    onnx.save(model, tmp_path / "a.onnx")
    one, minus = np.ones(1, np.float32), -np.ones(1, np.float32)
    assert measure(tmp_path / "a.onnx", "float16", [{"x": one}], [[np.zeros(1)]]).difference == 0
    with pytest.raises(ExportError, match=r"a\.onnx: the output image has NaN or infinite numbers"):
        measure(tmp_path / "a.onnx", "float16", [{"x": one}, {"x": minus}], [[np.zeros(1)]] * 2)
