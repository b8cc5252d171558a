"""Small files in the formats that ArcFace networks come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_graph(path: Path, seed: int = 0, outputs: int = 128) -> tuple[Path, np.ndarray]:
    """A graph that gives linear functions of the mean colour, and their weights (outputs, 3)."""
    weight = np.random.default_rng(seed).normal(size=(outputs, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 112, 112])
    made = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, outputs])
    graph = helper.make_graph(nodes, "tiny", [given], [made], [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(path))
    return path, weight[:, :, 0, 0]
