"""Rendering of volumes: position and rotation are right, and the volumes are the model's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from megaportraits.choices import Precision
from megaportraits.commands.volume import volume as command
from megaportraits.config import ModelConfig
from megaportraits.errors import ConfigError, MediaError
from megaportraits.media import VideoReader, write_image
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import save_base
from megaportraits.pipeline import Avatar
from megaportraits.pipeline.demo import demo_driver, demo_portrait
from megaportraits.pipeline.volume_view import (
    Colouring,
    VolumeOptions,
    driven_volume,
    render_volume,
    source_volume,
)

SIZE = 64


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    from megaportraits.config import parse_config
    from tests.conftest import TINY

    torch.manual_seed(0)
    model = BaseModel(parse_config(ModelConfig, TINY, "tiny"))
    for part in (model.warp_driver, model.warp_source):
        torch.nn.init.normal_(part.output.conv.weight, std=0.05)  # it starts at zero and would warp nothing
    return Avatar(model)


def ball(x: float, y: float, z: float) -> torch.Tensor:
    """A solid blob in an empty volume of 4 channels, grid units."""
    axes = [torch.linspace(-1, 1, n) for n in (16, 32, 32)]
    depth, rows, columns = torch.meshgrid(*axes, indexing="ij")
    inside = ((columns - x) ** 2 + (rows - y) ** 2 + (depth - z) ** 2).sqrt() < 0.25
    noise = torch.randn(4, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    return (inside * (torch.tensor([3.0, 1, 2, -1])[:, None, None, None] + 0.3 * noise))[None]


def centre(picture: np.ndarray) -> tuple[float, float]:
    """Of what is not white, from -1 to 1: x, y."""
    ink = 255.0 - picture.min(-1)
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return tuple((2 * ((n + 0.5) * ink).sum() / ink.sum() / picture.shape[0] - 1) for n in (columns, rows))


@pytest.mark.parametrize(
    ("angles", "expected"),
    [((0, 0), (0.3, -0.4)), ((90, 0), (0.5, -0.4)), ((-90, 0), (-0.5, -0.4)), ((0, 90), (0.3, 0.5))],
)
def test_a_blob_is_seen_at_its_place_and_turns_to_the_right_and_down(
    angles: tuple[float, float], expected: tuple[float, float]
) -> None:
    volume = ball(0.3, -0.4, 0.5)  # nearer to the viewer than the middle
    picture = render_volume(Colouring.of(volume)(volume), yaw=angles[0], pitch=angles[1], size=SIZE)
    assert centre(picture) == pytest.approx(expected, abs=0.06)


def test_what_is_in_front_hides_what_is_behind() -> None:
    coloured = torch.zeros(1, 4, 16, 32, 32)
    coloured[0, 0, 12:, 8:24, 8:24] = 1  # red, near
    coloured[0, 1, :4, 8:24, 8:24] = 1  # green, far
    coloured[0, 3] = coloured[0, :2].sum(0)
    near = render_volume(coloured, yaw=0, pitch=0, size=SIZE)[SIZE // 2, SIZE // 2]
    far = render_volume(coloured.flip(2), yaw=0, pitch=0, size=SIZE)[SIZE // 2, SIZE // 2]
    assert near[0] > 200 > 60 > near[1] and far[1] > 200 > 60 > far[0]


def test_emptiness_is_what_the_matte_says_where_there_is_one() -> None:
    volume = ball(0, 0, 0)
    volume[:, :, 3] += 9.0  # a wall at one depth, which is background too
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[10:22, 10:22] = False
    with_matte = Colouring.of(volume, outside)(volume)[0, 3]
    assert with_matte[3, 0, 0] == 0 and with_matte[8, 16, 16] == 1
    assert Colouring.of(volume)(volume)[0, 3, 3, 0, 0] == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_volumes_are_those_that_the_model_makes(tmp_path: Path, avatar: Avatar, precision: Precision) -> None:
    save_base(tmp_path / "tiny.safetensors", avatar.model)
    avatar = Avatar.from_pretrained(tmp_path / "tiny.safetensors", device="cpu", precision=precision)
    used: dict[str, torch.Tensor] = {}
    volumes = avatar.model.appearance.volume.register_forward_hook(lambda _, got, made: used.update(source=made))
    portrait = avatar.encode(demo_portrait())
    volumes.remove()
    projected = avatar.model.projection.register_forward_pre_hook(lambda _, got: used.update(driven=got[0]))
    avatar.render(portrait, portrait.motion)
    projected.remove()
    assert torch.equal(source_volume(avatar, portrait), used["source"])
    driven = driven_volume(avatar, portrait, portrait.motion)
    assert torch.equal(driven, used["driven"]) and not torch.allclose(driven, portrait.identity.volume)


def test_volumes_of_an_avatar_in_bfloat16_are_nearly_those_in_float32(avatar: Avatar) -> None:
    portrait = avatar.encode(demo_portrait())
    fast = avatar.in_precision("bfloat16")
    for exact, rounded in (
        (source_volume(avatar, portrait), source_volume(fast, portrait)),
        (driven_volume(avatar, portrait, portrait.motion), driven_volume(fast, portrait, portrait.motion)),
    ):
        torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.1)


def test_a_turntable_and_a_driven_volume_become_videos(avatar: Avatar, tmp_path: Path) -> None:
    save_base(tmp_path / "tiny.safetensors", avatar.model)
    app = typer.Typer()
    app.command()(command)

    def run(*words: object) -> None:
        line = [*words, "--weights", tmp_path / "tiny.safetensors", "--size", 32, "--device", "cpu"]
        result = CliRunner().invoke(app, [str(word) for word in line])
        if result.exception is not None:
            raise result.exception

    photo = tmp_path / "photo.png"
    write_image(photo, demo_portrait())
    still, film = tmp_path / "still.mp4", tmp_path / "driven.mp4"
    run(photo, "-o", still, "--seconds", 0.12)
    frames = [frame.image for frame in VideoReader(still)]
    assert len(frames) == 3 and frames[0].shape == (32, 96, 3)
    assert not np.array_equal(frames[0][:, 32:], frames[1][:, 32:])
    run(photo, demo_driver(), "-o", film, "--seconds", 0.08)
    driven = [frame.image for frame in VideoReader(film)]
    assert 1 <= len(driven) <= 3 and driven[0].shape == (32, 128, 3)
    with pytest.raises(MediaError, match="exists already"):
        run(photo, "-o", still)
    with pytest.raises(ConfigError, match="even size"):
        VolumeOptions(size=33)
