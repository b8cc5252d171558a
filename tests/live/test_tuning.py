from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megaportraits.errors import ConfigError, WeightsError
from megaportraits.faces.detector import Blendshapes
from megaportraits.live.engines import Setting
from megaportraits.live.tuning import Candidate, question, remember, remembered, tune
from megaportraits.media.images import UInt8
from megaportraits.ops.geometry import HeadPose
from megaportraits.pipeline import Rendering

POSE = HeadPose(np.eye(3), np.zeros(2), 1.0)
SAMPLE = (np.full((8, 8, 3), 100, np.uint8), POSE, np.zeros(52, np.float32))


class Timed:
    """An engine that takes a stated time on a stated clock and errs by a stated amount."""

    size = 8

    def __init__(self, clock: list[float], seconds: float, error: float) -> None:
        self._clock, self._seconds, self._error = clock, seconds, error

    def draw(self, head: UInt8, pose: HeadPose, blendshapes: Blendshapes) -> Rendering:
        self._clock[0] += self._seconds
        opaque = np.ones((8, 8, 1), np.float32)
        return Rendering(np.dstack([head.astype(np.float32) / 255 + np.float32(self._error), opaque]), pose)


def candidate(clock: list[float], runtime: str, seconds: float, error: float = 0.0) -> Candidate:
    return Candidate(Setting(runtime, "float32", 1), lambda: Timed(clock, seconds, error))


def test_the_fastest_that_gives_the_same_picture_wins() -> None:
    clock = [0.0]

    def missing() -> Timed:
        raise WeightsError("refused")

    trials = tune(
        [
            candidate(clock, "first", 0.030),
            candidate(clock, "wrong", 0.001, error=0.2),
            candidate(clock, "fast", 0.010, error=0.001),
            Candidate(Setting("broken", "float32", 1), missing),
        ],
        SAMPLE,
        clock=lambda: clock[0],
    )
    assert [trial.setting.runtime for trial in trials if not trial.problem] == ["fast", "first"]
    assert trials[0].milliseconds == pytest.approx(10) and trials[1].milliseconds == pytest.approx(30)
    problems = {trial.setting.runtime: trial.problem for trial in trials}
    assert "differs too much" in problems["wrong"] and problems["broken"] == "refused"


def test_what_is_hopelessly_slow_is_left_early() -> None:
    clock = [0.0]
    trials = tune(
        [candidate(clock, "first", 0.010), candidate(clock, "slow", 1.0), candidate(clock, "near", 0.029)],
        SAMPLE,
        clock=lambda: clock[0],
    )
    assert [trial.setting.runtime for trial in trials] == ["first", "near", "slow"]
    assert trials[-1].milliseconds == pytest.approx(1000)
    assert clock[0] == pytest.approx(8 * 0.010 + 4 * 1.0 + 8 * 0.029)


def test_nothing_that_works_is_an_error_with_the_reason() -> None:
    def missing() -> Timed:
        raise WeightsError("refused")

    with pytest.raises(ConfigError, match="refused"):
        tune([Candidate(Setting("broken", "float32", 1), missing)], SAMPLE)


def test_answers_are_remembered_per_question_and_damage_is_forgotten(tmp_path: Path) -> None:
    clock, notes = [0.0], tmp_path / "cache" / "live.json"
    candidates = [candidate(clock, "a", 1), candidate(clock, "b", 1)]
    assert remembered(notes, "key", candidates) is None
    remember(notes, "other", candidates[0].setting)
    remember(notes, "key", candidates[1].setting)
    found = remembered(notes, "key", candidates)
    assert found is candidates[1]
    assert remembered(notes, "key", candidates[:1]) is None, "no longer on offer"
    for damage in ("{torn", "[]", "[" * 100_000, '{"key": [1]}'):
        notes.write_text(damage)
        assert remembered(notes, "key", candidates) is None
        remember(notes, "key", candidates[1].setting)
        assert remembered(notes, "key", candidates) is candidates[1]


def test_other_weights_or_other_choices_are_another_question(tmp_path: Path) -> None:
    weights = tmp_path / "w"
    weights.write_bytes(b"one")
    candidates = [candidate([0.0], "a", 1), candidate([0.0], "b", 1)]
    first = question([weights], candidates)
    assert question([weights], candidates) == first != question([weights], candidates[:1])
    weights.write_bytes(b"two")
    assert question([weights], candidates) != first
