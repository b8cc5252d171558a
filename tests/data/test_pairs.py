"""Sampling pairs with different expressions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from megaportraits.data.batches import PairBatch
from megaportraits.data.clip_schema import ClipFrame, ClipRecord, FrameLabels
from megaportraits.data.clips import ShardWriter
from megaportraits.data.pairs import PairDataset, blendshape_labels, feature_landmarks, other_expression
from megaportraits.faces.landmarks import BLENDSHAPE_NAMES
from megaportraits.faces.outlines import FEATURES


def record(expressions: list[list[float] | None]) -> ClipRecord:
    frames = [
        FrameLabels(
            rotation=np.eye(3, dtype=np.float32),
            translation=np.zeros(2, np.float32),
            scale=1.0,
            expression=None if e is None else np.array(e, np.float32),
        )
        for e in expressions
    ]
    return ClipRecord("clip", "lifted", "someone", None, 32, 25.0, ("jawOpen", "eyeBlink_L"), tuple(frames))


def test_frames_are_drawn_by_the_squared_distance_of_their_expressions() -> None:
    clip, rng = record([[0.0, 0.0], [0.0, 0.0], [0.2, 0.0], [0.0, 0.4]]), np.random.default_rng(0)
    drawn = np.bincount([other_expression(clip, 0, 1, rng) for _ in range(5000)], minlength=4) / 5000
    assert drawn[:2].sum() == 0
    assert drawn[2] == pytest.approx(0.2, abs=0.03) and drawn[3] == pytest.approx(0.8, abs=0.03)


def test_without_labels_or_differences_the_other_frame_stays() -> None:
    rng = np.random.default_rng(0)
    assert other_expression(record([[0.0, 0.0], None]), 0, 1, rng) == 1
    assert other_expression(record([[0.5, 0.1], [0.5, 0.1]]), 0, 1, rng) == 1


def test_a_clip_without_landmarks_gives_nan_for_each() -> None:
    labels = record([[0.0, 0.0]]).frames[0]
    assert feature_landmarks(labels).shape == (len(FEATURES), 2) and np.isnan(feature_landmarks(labels)).all()
    points = np.arange(2 * 478, dtype=np.float32).reshape(478, 2)
    known = feature_landmarks(replace(labels, landmarks=points))
    assert known[:2].tolist() == [[66, 67], [492, 493]]  # numbers 33 and 246


def test_real_coefficients_are_measured_and_synthetic_ones_are_not() -> None:
    clip = record([[0.25, 0.5]])
    assert np.isnan(blendshape_labels(clip.frames[0], clip)).all()
    real = blendshape_labels(clip.frames[0], replace(clip, kind="real"))
    known = {name: value for name, value in zip(BLENDSHAPE_NAMES, real, strict=True) if not np.isnan(value)}
    assert known == {"jawOpen": 0.25, "eyeBlinkLeft": 0.5}
    scores = np.linspace(0, 1, 52, dtype=np.float32)
    stored = FrameLabels.from_json(replace(clip.frames[0], scores=scores).to_json(), clip.expression_names)
    np.testing.assert_allclose(blendshape_labels(stored, clip), scores, atol=1e-5)
    assert "scores" not in clip.frames[0].to_json()


def write_videos(folder: Path) -> None:
    """Videos of Ann in two clips and in one, Carl in the first of them, Bob and others; greys tell the clips."""
    clips = [
        ("v1-000", "ann", "real"),
        ("v1-001", "ann", "real"),
        ("v1-002", "carl", "real"),
        ("v2-000", "ann", "real"),
        ("v3-000", "bob", "real"),
        ("v3-001", "", "real"),
        ("s-000", "dora", "lifted"),
        ("s-001", "dora", "lifted"),
    ]
    for shard in range(2):  # clips of a video lie in any shard
        with ShardWriter(folder, shard) as writer:
            for number, (key, person, kind) in enumerate(clips):
                if number % 2 == shard:
                    labels = tuple(FrameLabels(np.eye(3), np.zeros(2), 1.0) for _ in range(3))
                    image, matte = np.full((16, 16, 3), 20 * number, np.uint8), np.full((16, 16), 255, np.uint8)
                    record = ClipRecord(key, kind, person, None, 16, 25.0, (), labels)
                    writer.write(record, [ClipFrame(image, matte, label) for label in labels])


def clips_of(item: PairBatch) -> tuple[int, int, int]:
    """Which clips source, target and driver come from, by their greys."""
    views = item.source, item.target, item.driver
    source, target, driver = (round(float(view.image.float().mean()) / 20) for view in views)
    return source, target, driver


def test_source_and_target_come_from_all_clips_of_one_video_and_person(tmp_path: Path) -> None:
    """3.1: "two frames from a random training video", which `prepare` has cut into clips of seconds."""
    write_videos(tmp_path)
    alone = PairDataset(tmp_path, length=60, size=16)
    assert {clips_of(alone[k])[:2] for k in range(60)} == {(n, n) for n in range(8)}
    dataset = PairDataset(tmp_path, length=200, size=16, across_clips=True)
    pairs = [clips_of(dataset[k]) for k in range(200)]
    assert {(a, b) for a, b, _ in pairs} == {(n, n) for n in range(8)} | {(0, 1), (1, 0)}
    assert all(target == driver for _, target, driver in pairs)


def test_an_item_knows_its_person_and_strangers_are_those_with_another(tmp_path: Path) -> None:
    write_videos(tmp_path)
    dataset = PairDataset(tmp_path, length=100, size=16)
    persons = {clips_of(item)[0]: int(item.person) for item in (dataset[k] for k in range(100))}
    assert persons[0] == persons[1] == persons[3] and persons[6] == persons[7]  # Ann's two videos; Dora
    assert len({persons[n] for n in (0, 2, 4, 5, 6)}) == 5  # who is unknown is a stranger to all
