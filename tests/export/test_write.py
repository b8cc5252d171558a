from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from megaportraits.export.precision import to_float16
from megaportraits.export.write import drop_unused_inputs, trace, write_graph
from megaportraits.ops.warping import sample
from megaportraits.runtimes import GraphInfo, open_graph


class Sampling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 1, 1, 1))

    def forward(self, volume: Tensor, grid: Tensor, unused: Tensor) -> tuple[Tensor]:
        return (sample(volume * self.weight, grid),)


@pytest.mark.parametrize("volumes", ["gathers", "grid-sample"])
def test_volumes_are_sampled_as_in_torch_by_either_way(volumes: str, tmp_path: Path) -> None:
    module = Sampling()
    inputs = {
        "volume": torch.randn(1, 3, 4, 5, 6),
        "grid": torch.rand(1, 2, 3, 4, 3) * 2.6 - 1.3,
        "unused": torch.zeros(1),
    }
    proto = trace(module, inputs, ["out"], volumes)  # type: ignore[arg-type]
    kinds = {node.op_type for node in proto.graph.node}
    assert ("GridSample" in kinds) == (volumes == "grid-sample")
    drop_unused_inputs(proto)
    for name, form in (("full", proto), ("half", to_float16(proto))):
        write_graph(form, tmp_path / f"{name}.onnx", GraphInfo("student", 4))
        graph = open_graph(tmp_path / f"{name}.onnx")
        assert list(graph.inputs) == ["volume", "grid"]
        got = graph({key: inputs[key].numpy() for key in graph.inputs})["out"]
        assert np.allclose(got, module(*inputs.values())[0].detach().numpy(), atol=1e-5)
