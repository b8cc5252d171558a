from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from megaportraits.commands.prepare import _settings
from megaportraits.ops.geometry import Crop
from megaportraits.prepare.measures import (
    STAND_IN,
    SceneCuts,
    inside,
    iris_ratio,
    sharpness,
    stand_in_quality,
    thumbnail,
    unit,
)
from megaportraits.prepare.quality import HYPERIQA
from megaportraits.prepare.settings import ExtractSettings
from megaportraits.prepare.store import NOTE
from tests.prepare.damage import moving, portrait

FACE = np.zeros((192, 192), bool)
FACE[40:150, 60:140] = True


def test_motion_light_and_noise_are_no_cuts() -> None:
    cuts = SceneCuts()
    rng = np.random.default_rng(0)
    frames = moving(0, 6)
    frames += [np.clip(frames[-1] * gain, 0, 255).astype(np.uint8) for gain in (0.9, 0.8, 1.1, 1.25)]
    frames += [np.clip(frames[0] + rng.normal(0, 12, frames[0].shape), 0, 255).astype(np.uint8)]
    assert not any(cuts.is_cut(frame) for frame in frames)


def test_another_picture_is_a_cut_and_the_next_frame_of_it_is_not() -> None:
    cuts = SceneCuts()
    other = np.ascontiguousarray(255 - portrait(1)[::-1])
    assert [cuts.is_cut(frame) for frame in (portrait(0), portrait(0), other, other)] == [False, False, True, False]


def test_a_crop_half_outside_is_half_inside() -> None:
    assert inside(Crop(50, 50, 100), 100, 100) == 1
    assert inside(Crop(0, 50, 100), 100, 100) == 0.5
    assert inside(Crop(0, 0, 100), 100, 100) == 0.25
    assert inside(Crop(-80, 50, 100), 100, 100) == 0


def test_blur_darkness_and_burnt_light_lower_the_quality() -> None:
    picture = portrait(0)
    good = stand_in_quality(picture, FACE)
    blurred = cv2.GaussianBlur(picture, (0, 0), 2.5)
    assert sharpness(blurred, FACE) < sharpness(picture, FACE) / 3
    assert stand_in_quality(blurred, FACE) < 0.7 * good
    assert stand_in_quality((picture // 16).astype(np.uint8), FACE) < 0.2 * good
    assert stand_in_quality(np.clip(picture.astype(int) * 4, 0, 255).astype(np.uint8), FACE) < 0.7 * good
    assert stand_in_quality(picture, np.zeros_like(FACE)) == 0


def test_unit_vectors_correlate_whatever_gain_and_offset() -> None:
    small = thumbnail(portrait(0))
    assert unit(small) @ unit(small * 0.5 + 20) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(unit(np.full((4, 4), 7)), np.zeros(16))


def test_the_iris_ratio_knows_neither_size_nor_turn() -> None:
    points = np.random.default_rng(0).normal(size=(478, 3))
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    assert iris_ratio(points @ turn.T * 7 + 3) == pytest.approx(iris_ratio(points))


def test_a_folder_that_stays_on_the_stand_in_though_the_weights_have_come_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ExtractSettings(iqa=STAND_IN)
    (tmp_path / NOTE).write_text(json.dumps(settings.identity()))
    for best, warned in ((STAND_IN, False), (HYPERIQA, True)):
        monkeypatch.setattr("megaportraits.prepare.quality.best_quality", lambda name=best: name)
        assert _settings(tmp_path, {}) == settings
        assert ("still uses" in capsys.readouterr().err) is warned
