"""`megaportraits live` refuses invalid options before it opens a camera or a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.errors import ConfigError, FaceError, MediaError, WeightsError
from megaportraits.media import VideoWriter, write_image


def live(*words: object) -> None:
    CliRunner().invoke(app, ["live", "--no-window", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    return tmp_path / "a.mp4"


def test_a_recording_never_replaces_its_own_input(clip: Path) -> None:
    before = clip.read_bytes()
    with pytest.raises(MediaError, match="replace its own input"):
        live("--source", "person.jpg", "--input", clip, "-o", clip, "--overwrite")
    assert clip.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("--source", "a.jpg", "--color", "#ffffff"), "--color cannot be used with --source"),
        (("--source", "a.jpg", "--avatar", "ada"), "--avatar cannot be used with --source"),
        (("--student", "s.onnx", "--whole"), "--whole cannot be used with --student"),
        (("--student", "s.onnx", "--face", "2", "--motion", "relative"), "--face, --motion cannot be used"),
        (("--student", "s.onnx", "--scale-from", "source"), "--scale-from cannot be used with --student"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words: tuple[str, ...], refused: str) -> None:
    with pytest.raises(ConfigError, match=refused):
        live(*words)


def test_a_missing_photograph_is_reported_before_a_missing_camera() -> None:
    with pytest.raises(MediaError, match=r"nobody\.jpg: no such file"):
        live("--source", "nobody.jpg", "--input", "97")


def test_an_unknown_avatar_is_reported_before_a_missing_camera() -> None:
    with pytest.raises(WeightsError, match="has no avatar 'nobody'") as caught:
        live("--student", "nano", "--avatar", "nobody", "--input", "97")
    assert "ada" in caught.value.fix


def test_the_face_of_the_photograph_is_chosen(clip: Path, tmp_path: Path) -> None:
    photo = write_image(tmp_path / "photo.png", np.ascontiguousarray(skimage.data.astronaut()))
    with pytest.raises(FaceError, match="at least 2 faces"):
        live("--source", photo, "--face", 2, "--input", clip, "--device", "cpu")
