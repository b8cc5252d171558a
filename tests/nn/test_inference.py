"""Networks prepared for inference give the same outputs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from megaportraits.config import ModelConfig, parse_config
from megaportraits.models.base import BaseModel
from megaportraits.models.motion import Expression, Motion
from megaportraits.nn.blocks import BlockStyle, ResBlock, StandardizedConv3d
from megaportraits.nn.inference import OneDnnConv3d, prepare_for_inference, running
from megaportraits.ops.warping import Pose
from tests.conftest import TINY

CPU = torch.device("cpu")


def tiny() -> BaseModel:
    torch.manual_seed(0)
    model = BaseModel(parse_config(ModelConfig, TINY, "test")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05)
    return model


def frames(model: BaseModel, count: int, precision: str = "float32") -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    photo = torch.rand(1, 3, 32, 32, generator=generator)
    with running(CPU, precision):  # type: ignore[arg-type]
        identity = model.encode(photo)
        pose = Pose(torch.eye(3).repeat(count, 1, 1), torch.full((count, 2), 0.1), torch.ones(count))
        motion = Motion(pose, Expression(torch.randn(count, 12, generator=generator)))
        return model.render(identity[torch.zeros(count, dtype=torch.long)], motion).image.float()


@pytest.mark.parametrize("count", [1, 3])
def test_a_prepared_model_gives_the_same_image(count: int) -> None:
    model = tiny()
    before = frames(model, count)
    prepared = copy.deepcopy(model)
    prepare_for_inference(prepared)
    torch.testing.assert_close(frames(prepared, count), before, atol=2e-4, rtol=0)


def test_weights_of_all_convolutions_lie_channels_last_and_none_is_standardised_any_more() -> None:
    model = tiny()
    prepare_for_inference(model)
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)]
    assert len(convolutions) > 50
    for layer in convolutions:
        kind = torch.channels_last if isinstance(layer, nn.Conv2d) else torch.channels_last_3d
        assert layer.weight.is_contiguous(memory_format=kind)
    assert not any(isinstance(layer, StandardizedConv3d) for layer in model.modules())
    assert any(isinstance(layer, OneDnnConv3d) for layer in model.modules())


def test_images_and_volumes_stay_channels_last_through_a_block() -> None:
    style = BlockStyle(groups=2)
    for dim, kind in ((2, torch.channels_last), (3, torch.channels_last_3d)):
        block = ResBlock(dim, 4, 6, style).eval()
        prepare_for_inference(block)
        with running(CPU, "float32"):
            assert block(torch.randn(2, 4, *[5] * dim)).is_contiguous(memory_format=kind)


def test_one_small_volume_goes_to_onednn_and_comes_out_as_torchs_own_kernel_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch without oneDNN")
    torch.manual_seed(0)
    parent = nn.Sequential(nn.Conv3d(6, 8, 3, padding=1), nn.Conv3d(8, 4, 3, stride=2, bias=False))
    x = torch.randn(1, 6, 5, 7, 9)
    expected = parent(x).detach()
    calls: list[int] = []
    kernel = torch.mkldnn_convolution

    def counted(*args: object) -> torch.Tensor:
        calls.append(1)
        return kernel(*args)

    monkeypatch.setattr(torch, "mkldnn_convolution", counted)
    prepare_for_inference(parent)
    with running(CPU, "float32"):
        torch.testing.assert_close(parent(x), expected, atol=1e-5, rtol=0)
        assert len(calls) == 2
        parent(torch.cat([x, x]))  # torch sends batches there itself
    assert len(calls) == 2


def test_bfloat16_keeps_convolutions_in_it_and_everything_else_in_float32() -> None:
    model = tiny()
    prepare_for_inference(model, "bfloat16")
    for layer in model.modules():
        kinds = {parameter.dtype for parameter in layer.parameters(recurse=False)}
        assert kinds <= {torch.bfloat16 if isinstance(layer, nn.Conv2d | nn.Conv3d) else torch.float32}
    exact = tiny()
    prepare_for_inference(exact)
    difference = frames(model, 2, "bfloat16") - frames(exact, 2)
    assert 0 < difference.square().mean() < 1e-2


def test_preparing_twice_changes_nothing() -> None:
    model = tiny()
    prepare_for_inference(model)
    once = frames(model, 1)
    prepare_for_inference(model)
    assert torch.equal(frames(model, 1), once)
