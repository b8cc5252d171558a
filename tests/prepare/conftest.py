"""Videos and slow networks, shared by the tests in this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from megaportraits.errors import WeightsError
from megaportraits.prepare.settings import ExtractSettings
from tests.prepare.damage import encode, moving

SMALL = ExtractSettings(size=64, min_frames=3)


@pytest.fixture(scope="session")
def networks() -> None:
    """Skips where the networks' weights cannot be had."""
    from megaportraits import weights

    try:
        for name in ("face_landmarker", "face_detection_full_range", "selfie_segmenter", "sface", "efficientnet_lite0"):
            weights.fetch(name)
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory, networks: None) -> Path:
    """A folder with six videos of four frames each and one text file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        (folder / f"talk{number}.mp4").write_bytes(encode(moving(number, 4)))
    (folder / "page.mp4").write_bytes(b"<html>not found</html>")
    return folder
