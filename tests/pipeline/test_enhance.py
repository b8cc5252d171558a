"""Avatars with an enhancer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.config import ModelConfig
from megaportraits.errors import WeightsError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import VideoReader, write_image
from megaportraits.models.base import BaseModel
from megaportraits.models.enhancer import Enhancer, grow
from megaportraits.models.storage import save_base, save_enhancer
from megaportraits.pipeline import AnimateOptions, Avatar, Background
from megaportraits.pipeline.enhance import enhance as enhanced
from tests.models.test_enhancer import tiny

from .conftest import moved, write_video


def avatar(config: ModelConfig, analyzer: FaceAnalyzer, *, hr: bool) -> Avatar:
    torch.manual_seed(0)
    model = BaseModel(config)
    enhancer = Enhancer(tiny(source_skip=config.source_skip, matte=config.predict_matte)) if hr else None
    return Avatar(model, analyzer=analyzer, enhancer=enhancer)


@pytest.mark.parametrize("skip", [False, True])
def test_an_untrained_enhancer_only_enlarges(
    analyzer: FaceAnalyzer, tiny_config: ModelConfig, portrait: np.ndarray, skip: bool
) -> None:
    """What it adds starts at zero: the same picture at 64 px, or at the photograph's size with its own detail."""
    config = tiny_config.model_copy(update={"source_skip": skip, "mirror_hidden": skip})
    plain, finer = (avatar(config, analyzer, hr=hr) for hr in (False, True))
    portraits = [a.encode(portrait) for a in (plain, finer)]
    small, large = (a.render(p, p.motion) for a, p in zip((plain, finer), portraits, strict=True))
    assert (plain.output_size, finer.output_size) == (32, 64)
    side = portraits[0].square.shape[0]
    assert large.size == (side if skip else 64)
    wanted = small.premultiplied
    if not skip:
        wanted = grow(torch.from_numpy(wanted).permute(2, 0, 1)[None], 64)[0].permute(1, 2, 0).numpy()
    error = np.abs(large.premultiplied - np.clip(wanted, 0, 1))
    assert error.mean() < 0.004
    assert large.premultiplied.min() >= 0 and (large.premultiplied[..., :3] <= large.premultiplied[..., 3:]).all()


@torch.no_grad()
def test_frames_go_through_in_parts_without_a_difference(
    tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, enhancer = BaseModel(tiny_config).eval(), Enhancer(tiny(source_skip=True)).eval()
    torch.nn.init.normal_(enhancer.output.conv.weight, std=0.1)
    output = model(torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32))
    source = torch.rand(1, 4, 100, 100)
    together = enhanced(enhancer, output, source)
    monkeypatch.setattr("megaportraits.pipeline.enhance._PIXELS", 1)
    assert torch.allclose(enhanced(enhancer, output, source), together, atol=1e-3)
    assert together.shape == (3, 4, 100, 100)


def test_transparent_results_have_the_enhanced_size(
    analyzer: FaceAnalyzer, tiny_config: ModelConfig, portrait: np.ndarray
) -> None:
    finer = avatar(tiny_config, analyzer, hr=True)
    options = AnimateOptions(background=Background.TRANSPARENT, size=finer.output_size)
    frames = list(finer.animate(portrait, [moved(portrait, 2.0 * i) for i in range(3)], options))
    assert [frame.image.shape for frame in frames] == [(64, 64, 4)] * 3


@pytest.mark.parametrize("background", [False, True])
def test_models_without_a_matte_are_cut_out_before_they_are_enhanced(
    analyzer: FaceAnalyzer,
    tiny_config: ModelConfig,
    portrait: np.ndarray,
    background: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the enhancer was trained (3.2); only what predicts a background shows it to the enhancer."""
    off = dict.fromkeys(("predict_matte", "source_skip", "mirror_hidden"), False)
    finer = avatar(tiny_config.model_copy(update={**off, "predict_background": background}), analyzer, hr=True)

    def left_half(images: torch.Tensor, *, size: int, **_: object) -> torch.Tensor:
        return (torch.arange(size) < size // 2).float().expand(len(images), 1, size, size)

    monkeypatch.setattr("megaportraits.pipeline.avatar.cut_out", left_half)
    assert finer.enhancer is not None
    seen: list[torch.Tensor] = []
    finer.enhancer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rendering = finer.drive(finer.encode(portrait), moved(portrait, 0)[:, 32:224])
    assert rendering.premultiplied.shape == (64, 64, 4)
    assert bool(seen[0][..., 16:].any()) is background and seen[0][..., :16].any()
    colors, alpha = rendering.premultiplied[..., :3], rendering.premultiplied[..., 3:]
    assert not colors[:, 32:].any() and (colors <= alpha).all() and (alpha[:, :32] == 1).all()


def test_files_make_an_avatar_with_an_enhancer(tmp_path: Path, tiny_config: ModelConfig) -> None:
    save_base(tmp_path / "base.safetensors", BaseModel(tiny_config))
    save_enhancer(tmp_path / "hr.safetensors", Enhancer(tiny(source_skip=True)))
    made = Avatar.from_pretrained(tmp_path / "base.safetensors", device="cpu", enhancer=tmp_path / "hr.safetensors")
    assert made.output_size == 64
    assert Avatar.from_pretrained(tmp_path / "base.safetensors", device="cpu").enhancer is None
    save_enhancer(tmp_path / "other.safetensors", Enhancer(tiny(image_size=16)))
    with pytest.raises(WeightsError, match="does not fit the base model 'tiny'"):
        Avatar.from_pretrained(tmp_path / "base.safetensors", device="cpu", enhancer=tmp_path / "other.safetensors")


def test_the_command_makes_videos_at_the_enhanced_size(
    tmp_path: Path, tiny_config: ModelConfig, portrait: np.ndarray
) -> None:
    """A tiny base of 160 px, whose enhancer makes more than the usual 256."""
    config = tiny_config.model_copy(update={"image_size": 160, "source_skip": False, "mirror_hidden": False})
    base, hr = tmp_path / "base.safetensors", tmp_path / "hr.safetensors"
    save_base(base, BaseModel(config))
    save_enhancer(hr, Enhancer(tiny(image_size=160)))
    write_image(tmp_path / "photo.png", portrait)
    write_video(tmp_path / "driver.mp4", [moved(portrait, 2.0 * i) for i in range(3)])
    files = [str(tmp_path / "photo.png"), str(tmp_path / "driver.mp4"), "--crop", "--weights", str(base)]
    for name, options, side in (
        ("large", ["--enhancer", str(hr)], 320),
        ("chosen", ["--enhancer", str(hr), "--size", "64"], 64),
        ("plain", [], 256),
    ):
        output = tmp_path / f"{name}.mp4"
        result = CliRunner().invoke(app, ["animate", *files, *options, "-o", str(output)])
        assert result.exit_code == 0, result.output
        assert [frame.image.shape for frame in VideoReader(output)] == [(side, side, 3)] * 3
    missing = CliRunner().invoke(app, ["animate", *files, "--hr", "-o", str(tmp_path / "none.mp4")])
    assert isinstance(missing.exception, WeightsError) and "expected an enhancer model" in str(missing.exception)
