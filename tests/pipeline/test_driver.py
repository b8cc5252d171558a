"""Drivers: reading them again, following one head, finding the neutral frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import FaceError, MediaError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.media import Frame
from megaportraits.pipeline.driver import FrameSource, HeadFollower, distance_from_neutral, find_neutral

from .conftest import moved, write_video


def test_seconds_bound_the_frames(tmp_path: Path) -> None:
    frames = [np.full((32, 32, 3), i, np.uint8) for i in range(20)]
    source = FrameSource(write_video(tmp_path / "a.mp4", frames, fps=10))
    assert len(list(source.frames())) == source.count() == 20
    assert len(list(source.frames(0.5))) == source.count(0.5) == 5
    assert source.fps == 10
    assert not source.still


def test_one_picture_is_a_still_driver(portrait: np.ndarray) -> None:
    assert FrameSource(portrait).still
    assert not FrameSource([portrait, portrait]).still


def test_missing_driver_is_said() -> None:
    with pytest.raises(MediaError, match="no such file"):
        FrameSource("nothing.mp4")


def test_a_still_head_gives_still_crops_and_a_lost_one_none(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    view = moved(portrait, 0)
    follower = HeadFollower(analyzer, 48)
    images = [view, view, np.zeros_like(view), view]
    heads = [follower.look(Frame(image, i, Fraction(1, 25))).head for i, image in enumerate(images)]
    assert heads[2] is None
    assert heads[0] is not None and heads[1] is not None and heads[3] is not None
    assert heads[0].image.shape == (48, 48, 3)
    assert heads[0].crop == heads[1].crop
    assert heads[0].crop.center_x == pytest.approx(heads[3].crop.center_x, abs=2)


def test_the_largest_face_is_followed(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    large = moved(portrait, 0)
    small = large[::2, ::2]
    both = np.full((192, 400, 3), 90, np.uint8)
    both[:96, :128], both[:, 144:] = small, large
    head = HeadFollower(analyzer, 48).look(Frame(both, 0, Fraction(1, 25))).head
    assert head is not None
    assert head.crop.center_x > 144


def test_the_upright_frame_is_the_neutral_one(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    frames = [np.zeros((192, 256, 3), np.uint8), moved(portrait, 0, 30), moved(portrait, 20), moved(portrait, 0, -25)]
    neutral = find_neutral(FrameSource(frames), analyzer, 48)
    assert neutral.crop.center_x > 140  # the frame that is shifted by 20 px
    assert distance_from_neutral(neutral.face) < 3  # she smiles


def test_a_driver_without_a_face_has_no_neutral_frame(analyzer: FaceAnalyzer) -> None:
    with pytest.raises(FaceError, match="found none"):
        find_neutral(FrameSource([np.zeros((64, 64, 3), np.uint8)] * 3), analyzer, 48)
