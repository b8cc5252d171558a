from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.errors import ShapeError, WeightsError
from megaportraits.nn.iresnet import IResNet


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Random weights and statistics of a network with one or two blocks a stage."""
    torch.manual_seed(0)
    state = IResNet((1, 2, 1, 1)).state_dict()
    for name, value in state.items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return state


@pytest.fixture(scope="module")
def checkpoint(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arcface") / "backbone.pth"
    torch.save(state, path)
    return path


def by_hand(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network from its description, with functions alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        stats = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *stats)

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = F.prelu(norm(conv(x, "conv1"), "bn1"), state["prelu.weight"])
    for block in ("layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer4.0"):
        stride = 2 if block.endswith(".0") else 1
        h = F.prelu(
            norm(conv(norm(x, f"{block}.bn1"), f"{block}.conv1"), f"{block}.bn2"), state[f"{block}.prelu.weight"]
        )
        h = norm(conv(h, f"{block}.conv2", stride), f"{block}.bn3")
        if stride == 2:
            x = norm(conv(x, f"{block}.downsample.0", 2), f"{block}.downsample.1")
        x = x + h
    x = F.linear(norm(x, "bn2").flatten(1), state["fc.weight"], state["fc.bias"])
    return norm(x, "features")


def test_a_checkpoint_of_any_depth_computes_what_its_names_say(state: dict[str, Tensor], checkpoint: Path) -> None:
    network = IResNet.from_file(checkpoint)
    image = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(network(image), by_hand(state, image), rtol=1e-4, atol=1e-4)
    with pytest.raises(ShapeError, match="112"):
        network(image[..., :64])


def test_the_published_depths_have_their_parameters() -> None:
    with torch.device("meta"):
        counts = {d: sum(p.numel() for p in IResNet(d).parameters()) for d in ((3, 4, 14, 3), (3, 13, 30, 3))}
    assert counts == {(3, 4, 14, 3): 43_590_848, (3, 13, 30, 3): 65_156_160}


def test_other_files_are_refused_with_what_is_wrong(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "backbone.pth"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError, match="not a checkpoint of torch"):
        IResNet.from_file(path)
    torch.save({"code": Path("x")}, path)  # a class that weights_only refuses
    with pytest.raises(WeightsError, match="would run code"):
        IResNet.from_file(path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="tensors by name"):
        IResNet.from_file(path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="tensors by name"):
        IResNet.from_file(path)
    torch.save({name: value for name, value in state.items() if name != "layer2.1.bn2.weight"}, path)
    with pytest.raises(WeightsError, match=r"layer2\.1\.bn2\.weight is missing"):
        IResNet.from_file(path)
