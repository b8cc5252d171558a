"""G_enh: its structure (A.2), and the effect of our options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from torch.utils.flop_counter import FlopCounterMode

from megaportraits.config import (
    ConfigError,
    EnhancerConfig,
    ModelConfig,
    TrainBaseConfig,
    TrainEnhancerConfig,
    load_config,
    parse_config,
)
from megaportraits.errors import ShapeError, WeightsError
from megaportraits.models.base import BaseModel
from megaportraits.models.enhancer import Enhancer, fine_picture, grow, over, picture_of
from megaportraits.models.identity import Output
from megaportraits.models.source_skip import Flow, SourceView
from megaportraits.models.storage import enhancer_problem, load_enhancer, save_base, save_enhancer

TINY_HR: dict[str, Any] = {
    "name": "tiny-hr",
    "image_size": 32,
    "groups": 2,
    "matte": True,
    "residual": True,
    "upsample_input": False,
    "stem": 6,
    "kernel": 3,
    "widths": [6, 8],
    "pool": [True, False],
    "channels": 8,
    "blocks": 1,
    "up": [6],
    "high": [6],
    "skips": True,
    "shuffle": 2,
}


def tiny(**changes: Any) -> EnhancerConfig:
    return parse_config(EnhancerConfig, TINY_HR | changes, "tiny-hr")


def millions(*modules: torch.nn.Module) -> float:
    return sum(p.numel() for m in modules for p in m.parameters()) / 1e6


def view_of(image: torch.Tensor, copied: float) -> SourceView:
    """A view in which nothing moved."""
    flow = torch.zeros(1, 2, *image.shape[2:])
    return SourceView(image, Flow(flow), torch.zeros(1, 4, 4), torch.full_like(image[:, :1], copied), image)


def test_paper_hr_is_e_app_and_g_2d_again_at_twice_the_size() -> None:
    """The paper gives no number for G_enh, but says what it is made of: E_app's blocks, and G_2D's."""
    with torch.device("meta"):
        ours = Enhancer(load_config(TrainEnhancerConfig, "paper-hr").model)
        base = BaseModel(load_config(TrainBaseConfig, "paper-512").model)
        result = ours(torch.zeros(1, 3, 512, 512))
        features, _ = ours.encode(torch.zeros(1, 3, 512, 512))
    volume = base.appearance.volume
    assert result.shape == (1, 3, 1024, 1024) and features.shape == (1, 512, 128, 128)
    assert millions(ours.stem, ours.down, ours.norm) == millions(volume.stem, volume.blocks, volume.norm)
    assert millions(ours.blocks) == millions(base.generator_2d.blocks)
    assert millions(ours.up[:2]) == millions(base.generator_2d.up[:2])
    # Figure 10: 128, 64, 32 at full size: 3x3 convolutions, norms, and 1x1 skips where the width changes.
    by_hand = sum(
        9 * (a * b + b * b) + 2 * b + 2 * (a + b) + (a * b + b) * (a != b) for a, b in ((128, 128), (128, 64), (64, 32))
    )
    assert millions(ours.high) * 1e6 == by_hand
    print(f"paper-hr: {millions(ours):.2f} M parameters")
    assert millions(ours) == pytest.approx(45.99, abs=0.01)


@pytest.mark.parametrize("name", ["nano-hr", "nano-hr-no-source-skip"])
def test_nano_hr_costs_less_than_two_gmac_a_frame(name: str) -> None:
    config = load_config(TrainEnhancerConfig, name).model
    enhancer = Enhancer(config).eval()
    fine = torch.rand(1, 4, 256, 256) if config.source_skip else None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = enhancer(torch.rand(1, 4, 128, 128), fine)
    assert result.shape == (1, 4, 256, 256)
    assert counter.get_total_flops() / 2 < 2e9


def test_the_one_stage_ablation_is_nano_with_one_more_upsampling_block() -> None:
    one, two = (load_config(TrainBaseConfig, name).model for name in ("nano-one-stage", "nano"))
    assert (one.image_size, one.volume_size) == (2 * two.image_size, two.volume_size)
    with torch.device("meta"):
        ours, nano = BaseModel(one), BaseModel(two)
    assert len(ours.generator_2d.up) == len(nano.generator_2d.up) + 1
    for part in ("appearance", "motion", "warp_source", "warp_driver", "generator_3d", "projection"):
        assert millions(getattr(ours, part)) == millions(getattr(nano, part)), part


@torch.no_grad()
def test_the_residual_form_starts_from_bicubic_upsampling() -> None:
    picture = torch.rand(2, 4, 32, 32)
    wanted = torch.nn.functional.interpolate(picture, scale_factor=2, mode="bicubic", align_corners=False)
    assert torch.equal(Enhancer(tiny())(picture), wanted)


@torch.no_grad()
def test_with_a_source_skip_it_starts_from_the_moved_detail() -> None:
    picture, fine = torch.rand(2, 4, 32, 32), torch.rand(2, 4, 64, 64)
    assert torch.equal(Enhancer(tiny(source_skip=True))(picture, fine), fine)


@torch.no_grad()
def test_the_residual_form_changes_colours_within_alpha_and_alpha_never() -> None:
    torch.manual_seed(0)
    enhancer, picture = Enhancer(tiny(source_skip=True)), torch.rand(2, 4, 32, 32)
    torch.nn.init.normal_(enhancer.output.conv.weight)
    fine = torch.rand(2, 4, 64, 64)
    fine[:, 3, :20] = 0
    change = enhancer(picture, fine) - fine
    assert not change[:, 3].any() and not change[:, :3, :20].any()
    assert change[:, :3, 20:].abs().mean() > 0.1
    assert (change[:, :3].abs() <= fine[:, 3:] + 1e-6).all()


@torch.no_grad()
def test_the_papers_form_gives_colours_in_range() -> None:
    torch.manual_seed(0)
    plain = parse_config(
        EnhancerConfig,
        {"image_size": 16, "stem": 4, "widths": [4, 4, 4], "channels": 8, "blocks": 1, "up": [4, 4, 4], "high": [4]},
        "tiny",
    )
    result = Enhancer(plain)(torch.rand(1, 3, 16, 16) * 100)
    assert result.shape == (1, 3, 32, 32) and result.min() >= 0 and result.max() <= 1 and result.std() > 0


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("upsample", [False, True])
def test_every_parameter_learns(skip: bool, upsample: bool) -> None:
    torch.manual_seed(0)
    shape = {"upsample_input": True, "up": [6], "shuffle": 1} if upsample else {}
    enhancer = Enhancer(tiny(source_skip=skip, **shape))
    torch.nn.init.normal_(enhancer.output.conv.weight)
    result = enhancer(torch.rand(2, 4, 32, 32), torch.rand(2, 4, 64, 64) if skip else None)
    (result - torch.rand_like(result)).square().mean().backward()
    assert [n for n, p in enhancer.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_both_the_picture_and_the_detail_are_seen() -> None:
    torch.manual_seed(0)
    enhancer = Enhancer(tiny(source_skip=True))
    torch.nn.init.normal_(enhancer.output.conv.weight)
    picture, fine = torch.rand(1, 4, 32, 32, requires_grad=True), torch.rand(1, 4, 64, 64, requires_grad=True)
    enhancer(picture, fine).sum().backward()
    assert picture.grad is not None and picture.grad.any()
    assert fine.grad is not None and (fine.grad != 1).any()  # more than being added


def test_compositing_a_picture_is_compositing_the_output() -> None:
    output = Output(torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8), torch.zeros(1))
    color = torch.rand(2, 3, 1, 1)
    assert torch.allclose(over(picture_of(output), color), output.over(color), atol=1e-6)
    assert picture_of(Output(output.image, None, torch.zeros(1))).shape == (2, 3, 8, 8)


def test_a_fine_picture_is_the_source_where_all_was_copied_and_bicubic_where_nothing_was() -> None:
    source = torch.rand(1, 3, 32, 32)
    small = torch.nn.functional.interpolate(source, (16, 16), mode="area")
    copied, painted = (Output(small, None, torch.zeros(1), view_of(small, part)) for part in (1.0, 0.0))
    assert torch.allclose(fine_picture(copied, source), source, atol=1e-5)
    assert torch.allclose(fine_picture(painted, source), grow(small, 32).clamp(0, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": [True]}, "one per width"),
        ({"shuffle": 1}, "doubles once more than it halves"),
        ({"up": [8]}, "widths must mirror"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**changes)


def test_wrong_inputs_are_refused() -> None:
    enhancer = Enhancer(tiny(source_skip=True))
    with pytest.raises(ConfigError, match="none came"):
        enhancer(torch.rand(1, 4, 32, 32))
    with pytest.raises(ShapeError, match="fine"):
        enhancer(torch.rand(1, 4, 32, 32), torch.rand(1, 4, 32, 32))
    with pytest.raises(ShapeError, match="picture"):
        enhancer(torch.rand(1, 3, 32, 32), torch.rand(1, 4, 64, 64))


def test_a_file_brings_the_network_back(tmp_path: Path, tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    enhancer = Enhancer(tiny()).half().float()  # files hold float16
    torch.nn.init.constant_(enhancer.output.conv.bias, 0.25)
    save_enhancer(tmp_path / "e.safetensors", enhancer, notes={"steps": "7"})
    again = load_enhancer(tmp_path / "e.safetensors", tiny_config)
    picture = torch.rand(1, 4, 32, 32)
    assert again.config == enhancer.config and not any(p.requires_grad for p in again.parameters())
    assert torch.equal(again(picture), enhancer(picture))


@pytest.mark.parametrize(
    ("base", "ours", "message"),
    [
        ({"image_size": 64}, {}, "makes 64 px"),
        ({"predict_matte": False}, {}, "needs alpha"),
        ({}, {"matte": False}, "knows no alpha"),
        ({"source_skip": False}, {"source_skip": True}, "moves none"),
    ],
)
def test_an_enhancer_of_another_kind_of_base_is_reported(
    tiny_config: ModelConfig, base: dict[str, Any], ours: dict[str, Any], message: str
) -> None:
    assert enhancer_problem(tiny(), tiny_config) == ""
    assert message in enhancer_problem(tiny(**ours), tiny_config.model_copy(update=base))


def test_other_files_are_refused(tmp_path: Path, tiny_config: ModelConfig) -> None:
    save_base(tmp_path / "base.safetensors", BaseModel(tiny_config))
    with pytest.raises(WeightsError, match="expected an enhancer model"):
        load_enhancer(tmp_path / "base.safetensors", tiny_config)
    with pytest.raises(WeightsError, match="does not exist"):
        load_enhancer(tmp_path / "none.safetensors", tiny_config)
    with pytest.raises(WeightsError, match=r"no enhancer named 'nobody'.*\n.*with --enhancer\."):
        load_enhancer("nobody", tiny_config)


def test_a_few_steps_beat_bicubic_on_a_picture_not_seen() -> None:
    """The network of `nano-hr` without moved detail: trained on the astronaut's suit and flag, tried on her face."""
    config = load_config(TrainEnhancerConfig, "nano-hr-no-source-skip").model
    torch.manual_seed(0)
    enhancer = Enhancer(config)
    photo = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None] / 255
    photo = torch.nn.functional.interpolate(photo, (256, 256), mode="area")
    photo = torch.cat([photo, torch.ones_like(photo[:, :1])], 1)
    face, rest = photo[..., 20:100, 72:152], photo[..., 108:, :]
    optimizer, steps = torch.optim.Adam(enhancer.parameters(), 1e-3), 120
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for _ in range(steps):
        corners = [(int(torch.randint(148 - 48, ())), int(torch.randint(256 - 48, ()))) for _ in range(8)]
        truth = torch.cat([rest[..., y : y + 48, x : x + 48] for y, x in corners])
        loss = (enhancer(torch.nn.functional.avg_pool2d(truth, 2)) - truth).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        small = torch.nn.functional.avg_pool2d(face, 2)
        ours, bicubic = ((x - face).square().mean() for x in (enhancer(small), grow(small, 80)))
    assert 10 * torch.log10(bicubic / ours) > 0.3  # dB
