"""Checks of inputs and outputs before any network is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import MediaError
from megaportraits.media import VideoWriter, write_image
from megaportraits.pipeline.options import AnimateOptions, Background
from megaportraits.pipeline.plan import joined_stems, plan_output, swap_question


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_image(tmp_path / "me.png", np.zeros((32, 32, 3), np.uint8))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "my talk.mp4", fps=25) as video:
        for _ in range(3):
            video.write(np.zeros((32, 32, 3), np.uint8))
    return tmp_path / "my talk.mp4"


def test_a_folder_as_output_gets_the_default_name_inside(photo: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    plain, clear = AnimateOptions(), AnimateOptions(background=Background.TRANSPARENT)
    assert plan_output(photo, clip, tmp_path / "there", plain) == tmp_path / "there/me_my talk.mp4"
    assert plan_output(photo, clip, f"{tmp_path}/new/", clear) == tmp_path / "new/me_my talk.webm"
    assert plan_output(photo, photo, f"{tmp_path}/new/", plain) == tmp_path / "new/me_me.png"
    assert plan_output(photo, clip, None, plain) == Path("me_my talk.mp4")
    (tmp_path / "there/me_my talk.mp4").touch()
    with pytest.raises(MediaError, match="exists already"):
        plan_output(photo, clip, tmp_path / "there", plain)


def test_a_video_as_source_and_a_picture_as_driver_are_asked_about(photo: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="the driver is a still image") as caught:
        plan_output(clip, photo, tmp_path / "out.mp4", AnimateOptions())
    assert "were they swapped?" in caught.value.fix
    assert caught.value.fix.endswith(f"megaportraits animate {photo} '{clip}'")
    with pytest.raises(MediaError, match="the driver is a still image") as caught:
        plan_output(photo, photo, tmp_path / "out.mp4", AnimateOptions())
    assert "swapped" not in caught.value.fix
    assert swap_question(clip, photo, filmed=True, moving=False)
    assert not swap_question(clip, clip, filmed=True, moving=True)
    assert not swap_question(photo, photo, filmed=False, moving=False)


def test_standard_output_and_addresses_are_refused_as_such_and_not_for_their_endings(photo: Path, clip: Path) -> None:
    for name, said in (("-", "nothing is written to standard output"), ("https://host/out", "written to addresses")):
        with pytest.raises(MediaError, match=said):
            plan_output(photo, clip, name, AnimateOptions())


def test_names_of_several_drivers_are_joined_up_to_a_length() -> None:
    short, long = Path("a/one.mp4"), Path("b") / f"{'x' * 100}.mp4"
    assert joined_stems([short, short]) == "one+one"
    assert joined_stems([long]) == "x" * 100
    assert joined_stems([long, short, short]) == f"{'x' * 80}+2"


def test_signed_outputs_get_names_that_can_be_signed(photo: Path, clip: Path, tmp_path: Path) -> None:
    clear = AnimateOptions(background=Background.TRANSPARENT)
    assert plan_output(photo, clip, f"{tmp_path}/new/", clear, signed=True) == tmp_path / "new/me_my talk.mov"
    for output, beside in (tmp_path / "a.webm", None), (tmp_path / "a.mp4", tmp_path / "b.mkv"):
        with pytest.raises(MediaError, match="cannot carry content credentials"):
            plan_output(photo, clip, output, AnimateOptions(), side_by_side=beside, signed=True)
