from __future__ import annotations

import pytest
import torch
from torch import nn

from megaportraits.config import ModelConfig, TrainBaseConfig, TrainEnhancerConfig, load_config
from megaportraits.errors import ShapeError
from megaportraits.models.base import BaseModel
from megaportraits.models.enhancer import Enhancer
from megaportraits.models.head_pose import HeadPoseNet
from megaportraits.models.motion import Motion
from megaportraits.models.source_skip import Origins
from megaportraits.models.storage import load_base
from megaportraits.nn.adaptive import AdaptiveGroupNorm
from megaportraits.nn.blocks import BlockStyle, StandardizedConv2d, StandardizedConv3d, standardize_weight

# Millions of parameters of `paper-512`: what the paper's figures imply (`docs/model.md` explains each deviation).
PAPER_TABLE = {
    "appearance.volume (2D)": 5.6,
    "appearance.volume (3D)": 1.5,
    "warp_source": 9.0,
    "warp_driver": 9.0,
    "generator_3d": 57.8,
    "projection + generator_2d": 41.1,
}


def millions(*modules: torch.nn.Module) -> float:
    return sum(p.numel() for m in modules for p in m.parameters()) / 1e6


def randomized(config: ModelConfig) -> BaseModel:
    """A model whose zero-initialised layers are random, as after some training."""
    torch.manual_seed(0)
    model = BaseModel(config)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def test_paper_512_has_the_papers_parameter_counts() -> None:
    with torch.device("meta"):
        model = BaseModel(load_config(TrainBaseConfig, "paper-512").model)
    volume = model.appearance.volume
    table = {
        "appearance.volume (2D)": millions(volume) - millions(volume.blocks_3d),
        "appearance.volume (3D)": millions(volume.blocks_3d),
        "warp_source": millions(model.warp_source),
        "warp_driver": millions(model.warp_driver),
        "generator_3d": millions(model.generator_3d),
        "projection + generator_2d": millions(model.projection, model.generator_2d),
    }
    for name, expected in PAPER_TABLE.items():
        print(f"{name:28s} {table[name]:6.2f} M   paper {expected:5.1f} M")
        assert table[name] == pytest.approx(expected, abs=0.11), name


def test_paper_512_has_the_papers_tensor_shapes() -> None:
    with torch.device("meta"):
        model = BaseModel(load_config(TrainBaseConfig, "paper-512").model)
        volume, descriptor = model.appearance(torch.zeros(1, 3, 512, 512))
        field = model.warp_driver(torch.zeros(1, 512, 4, 4))
        image, _ = model.generator_2d(model.projection(torch.zeros(1, 96, 16, 64, 64)), torch.zeros(1, 512))
    assert volume.shape == (1, 96, 16, 64, 64)
    assert descriptor is not None and descriptor.shape == (1, 512, 4, 4)
    assert field.shape == (1, 3, 16, 64, 64)
    assert image.shape == (1, 3, 512, 512)


@pytest.mark.parametrize("name", ["nano", "paper-256", "paper-512"])
def test_every_shipped_config_builds_and_keeps_the_canonical_shape(name: str) -> None:
    with torch.device("cpu" if name == "nano" else "meta"):  # grid_sample has no meta form under autocast
        config = load_config(TrainBaseConfig, name).model
        model = BaseModel(config)
        v = torch.zeros(1, config.volume_channels, config.volume_depth, config.volume_size, config.volume_size)
        assert model.generator_3d(v).shape == v.shape
        source, origins = torch.zeros(1, 3, *[config.image_size] * 2), Origins(torch.zeros(1, *v.shape[2:], 3))
        skip = (source, origins) if config.source_skip else ()
        assert (
            model.generator_2d(model.projection(v), torch.zeros(1, config.motion.z), *skip)[0].shape[-1]
            == config.image_size
        )


def test_every_parameter_learns(tiny_config: ModelConfig) -> None:
    model = randomized(tiny_config).train()
    source, driver = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    out = model(source, driver)
    assert out.alpha is not None
    (out.image.square().mean() + out.alpha.square().mean()).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_forward_is_encode_once_then_drive(tiny_config: ModelConfig) -> None:
    model = randomized(tiny_config)
    source, driver = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.drive(model.encode(source), driver).image, model(source, driver).image)


def test_training_starts_from_the_rigid_warp(tiny_config: ModelConfig) -> None:
    model = BaseModel(tiny_config)
    assert not model.warp_driver(torch.randn(2, 8, 4, 4)).any()


def test_flows_of_both_signs_occur(tiny_config: ModelConfig) -> None:
    field = randomized(tiny_config).warp_driver(torch.randn(4, 8, 4, 4))
    assert field.min() < 0 < field.max()
    assert field.abs().max() <= 1


def test_depth_order_matters_to_g_2d(tiny_config: ModelConfig) -> None:
    model = randomized(tiny_config)
    volume = torch.randn(1, 4, 6, 8, 8)
    with torch.no_grad():
        skip = (torch.rand(len(volume), 3, 32, 32), Origins(torch.zeros(len(volume), *volume.shape[2:], 3)))
        z = torch.rand(len(volume), 12)
        front, _ = model.generator_2d(model.projection(volume), z, *skip)
        back, _ = model.generator_2d(model.projection(volume.flip(2)), z, *skip)
    assert (front - back).abs().max() > 1e-3


def test_g_3d_keeps_what_is_finer_than_half_resolution(tiny_config: ModelConfig) -> None:
    model = randomized(tiny_config)
    checkers = torch.ones(1, 4, 6, 8, 8)
    checkers[..., ::2, 1::2] = checkers[..., 1::2, ::2] = -1  # vanishes under 2 x 2 pooling
    with torch.no_grad():
        change = model.generator_3d(checkers) - model.generator_3d(torch.zeros_like(checkers))
    assert change.abs().max() > 0.05


def test_the_source_and_driver_warps_share_no_weights(tiny_config: ModelConfig) -> None:
    model = BaseModel(tiny_config)
    theirs = {id(p) for p in model.warp_source.parameters()}
    assert not theirs & {id(p) for p in model.warp_driver.parameters()}


def test_expression_and_pose_both_change_the_picture(tiny_config: ModelConfig) -> None:
    model = randomized(tiny_config)
    with torch.no_grad():
        identity = model.encode(torch.rand(1, 3, 32, 32))
        own = model.render(identity, identity.motion).image
        other = model.motion(torch.rand(1, 3, 32, 32))
        expression = model.render(identity, Motion(identity.motion.pose, other.expression)).image
        pose = model.render(identity, Motion(other.pose, identity.motion.expression)).image
    assert (own - expression).abs().max() > 1e-4
    assert (own - pose).abs().max() > 1e-4


@pytest.mark.parametrize("switch", ["use_descriptor", "use_source_warp"])
def test_ablations_run(tiny_config: ModelConfig, switch: str) -> None:
    model = BaseModel(tiny_config.model_copy(update={switch: False}))
    assert model(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)).image.shape == (1, 3, 32, 32)


def test_a_wrong_driver_batch_is_refused(tiny_config: ModelConfig) -> None:
    model = BaseModel(tiny_config)
    identity = model.encode(torch.rand(1, 3, 32, 32))
    with pytest.raises(ShapeError, match="driver: expected"):
        model.drive(identity, torch.rand(2, 3, 32, 32))


def test_adaptive_norm_depends_on_its_embedding_and_only_then() -> None:
    norm = AdaptiveGroupNorm(6, 8, 16, BlockStyle(groups=2))
    x = torch.randn(2, 6, 3, 4, 5)
    a, b = norm(x, torch.randn(2, 8, 16)), norm(x, torch.randn(2, 8, 16))
    assert (a - b).abs().max() > 1e-3
    plain = torch.nn.functional.group_norm(x, 2)
    torch.testing.assert_close(norm(x, torch.zeros(2, 8, 16)), plain)


def test_standardised_weights_have_no_mean_and_fan_in_variance() -> None:
    weight = standardize_weight(torch.randn(7, 5, 3, 3) * 4 + 2)
    torch.testing.assert_close(weight.mean((1, 2, 3)), torch.zeros(7), atol=1e-6, rtol=0)
    torch.testing.assert_close(weight.flatten(1).var(1, correction=0) * 45, torch.ones(7), atol=1e-3, rtol=0)


def test_the_papers_text_standardises_every_convolution_but_those_of_an_image_and_of_an_output() -> None:
    with torch.device("meta"):
        model = BaseModel(load_config(TrainBaseConfig, "paper-512").model)
        enhancer = Enhancer(load_config(TrainEnhancerConfig, "paper-hr").model)
    for network, ends in (
        (
            model,
            {
                "appearance.volume.stem",
                "appearance.descriptor.trunk.stem",
                "motion.head_pose.trunk.stem",
                "motion.expression.stem",
                "warp_source.output.conv",
                "warp_driver.output.conv",
                "generator_3d.output.conv",
                "generator_2d.output.conv",
            },
        ),
        (enhancer, {"stem", "output.conv"}),
    ):
        convs = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Conv3d)}
        assert {n for n, m in convs.items() if not isinstance(m, StandardizedConv2d | StandardizedConv3d)} == ends


def test_nano_keeps_the_standardisation_it_was_trained_with() -> None:
    model = load_base("nano")
    assert model.config.weight_standardization == load_config(TrainBaseConfig, "nano").model.weight_standardization
    assert isinstance(model.generator_3d.down[0].conv1, StandardizedConv3d)
    assert not isinstance(model.projection.conv, StandardizedConv2d)


def test_weight_standardization_on_first_convs_only() -> None:
    config = ModelConfig(weight_standardization="first")
    with torch.device("meta"):
        block = BaseModel(config).generator_2d.blocks[0]
    assert type(block.conv1).__name__ == "StandardizedConv2d"
    assert type(block.conv2) is torch.nn.Conv2d


def test_poses_are_float32_numbers_under_autocast() -> None:
    torch.manual_seed(0)
    net = HeadPoseNet(4, 32, BlockStyle(groups=2, weight_standardization="all"))
    torch.nn.init.normal_(net.head.weight)
    with torch.autocast("cpu", torch.bfloat16):
        place = net(torch.rand(8, 3, 32, 32)).translation
    assert not torch.equal(place, place.bfloat16().float())
