"""Outputs say in their metadata that they are synthetic."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import ExifTags, Image

from megaportraits import __version__
from megaportraits.media import VideoWriter, write_image
from megaportraits.media.provenance import synthetic_note

PICTURE = np.zeros((16, 16, 3), np.uint8)


def test_the_note_names_model_and_version() -> None:
    assert synthetic_note("nano") == f"Synthetic: MegaPortraits nano {__version__}"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".m4v"])
@pytest.mark.parametrize("note", [None, "Synthetic: test"])
def test_videos_carry_the_note_in_every_format(suffix: str, note: str | None, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, note=note) as writer:
        writer.write(PICTURE)
        writer.write(PICTURE)
    with av.open(str(path)) as container:
        found = {key.lower(): value for key, value in container.metadata.items()}
    assert found.get("comment") == note


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("note", [None, "Synthetic: test"])
def test_pictures_carry_the_note_in_every_format_that_holds_one(suffix: str, note: str | None, tmp_path: Path) -> None:
    path = write_image(tmp_path / f"a{suffix}", PICTURE, note=note)
    with Image.open(path) as image:
        assert image.getexif().get(ExifTags.Base.ImageDescription) == note


def test_bmp_is_written_without_it(tmp_path: Path) -> None:
    assert write_image(tmp_path / "a.bmp", PICTURE, note="Synthetic: test").is_file()
