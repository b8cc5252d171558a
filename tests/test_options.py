"""Dataclasses of options convert their values, and refuse invalid ones, when they are constructed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from megaportraits.commands.distill import Distillation
from megaportraits.engines import Engine
from megaportraits.errors import ConfigError
from megaportraits.evaluation.study.plan import StudySettings
from megaportraits.export.base import BaseExport
from megaportraits.export.page import PageExport
from megaportraits.export.student import StudentExport
from megaportraits.live.choice import EngineRequest
from megaportraits.live.loop import LiveOptions
from megaportraits.media import Limits
from megaportraits.pipeline import PoseFrom
from megaportraits.prepare.settings import ExtractSettings, Thresholds
from megaportraits.synth.plan import SynthSettings

SYNTH = {"portraits": None, "head": "head.npz", "lifted_share": 0}
DISTILL = {"drivers": ["d"], "teacher": "nano", "output": "s.safetensors", "run": "run"}


@pytest.mark.parametrize(
    ("kind", "said", "meant"),
    [
        (BaseExport, {"pose": "network", "precisions": ["float32", "int8"]}, (PoseFrom.NETWORK, ("float32", "int8"))),
        (StudentExport, {"frames": "4", "overwrite": "no"}, (4, False)),
        (PageExport, {"frames": "4", "overwrite": "yes"}, (4, True)),
        (ExtractSettings, {"size": "64", "image": "webp"}, (64, "webp")),
        (Thresholds, {"min_age": "20", "children": "drop"}, (20.0, "drop")),
        (Engine, {"name": "local", "workers": "2"}, ("local", 2)),
        (SynthSettings, {**SYNTH, "clips": "8"}, (None, Path("head.npz"), 0.0, 8)),
        (StudySettings, {"seconds": "2"}, (2.0,)),
        (EngineRequest, {"runtime": "torch", "threads": "2"}, ("torch", 2)),
        (LiveOptions, {"seconds": "2"}, (2.0,)),
        (Limits, {"seconds": "2", "frames": "5"}, (2.0, 5)),
        (Distillation, {**DISTILL, "resume": "yes"}, ([Path("d")], "nano", Path("s.safetensors"), Path("run"), True)),
    ],
)
def test_texts_are_converted(kind: Any, said: dict[str, Any], meant: tuple[Any, ...]) -> None:
    options = kind(**said)
    assert tuple(getattr(options, name) for name in said) == meant
    assert [type(getattr(options, name)) for name in said] == [type(value) for value in meant]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (BaseExport, {"pose": "sideways"}),
        (BaseExport, {"precisions": ["float23"]}),
        (StudentExport, {"frames": "some"}),
        (PageExport, {"overwrite": "maybe"}),
        (ExtractSettings, {"image": "bmp"}),
        (Thresholds, {"children": "kepe"}),
        (Engine, {"name": "rya"}),
        (SynthSettings, {"clips": "many", **SYNTH}),
        (StudySettings, {"seconds": "two"}),
        (EngineRequest, {"precision": "float23"}),
        (LiveOptions, {"seconds": "two"}),
        (Limits, {"frames": "five"}),
        (Distillation, {"every": "second", **DISTILL}),
    ],
)
def test_values_that_are_not_known_are_refused_by_name(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        kind(**wrong)
