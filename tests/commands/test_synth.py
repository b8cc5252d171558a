"""The settings that the options of `megaportraits synth` give."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.errors import ConfigError
from megaportraits.synth.plan import SynthSettings


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[SynthSettings]:
    """The settings that the command would have worked with."""
    found: list[SynthSettings] = []

    def generate(settings: SynthSettings, *_: Any, **__: Any) -> dict[str, int]:
        found.append(settings)
        return {"clips": 0}

    monkeypatch.setattr("megaportraits.synth.generate.generate", generate)
    return found


def synth(*words: str) -> BaseException | None:
    return CliRunner().invoke(app, ["synth", "--head", "head.npz", "--out", "out", *words]).exception


def test_clips_of_photographs_are_all_lifted_unless_another_share_is_given(chosen: list[SynthSettings]) -> None:
    assert synth("--portraits", "photos", "--photographs") is None
    assert synth("--portraits", "photos") is None
    assert [settings.lifted_share for settings in chosen] == [1.0, 0.8]
    error = synth("--portraits", "photos", "--photographs", "--lifted-share", "0.5")
    assert isinstance(error, ConfigError) and "lifted_share 0.5" in error.message


def test_photographs_need_a_folder_of_them(chosen: list[SynthSettings]) -> None:
    error = synth("--photographs")
    assert isinstance(error, ConfigError) and "--portraits" in error.message and not chosen
