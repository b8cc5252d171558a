"""`benchmarks/animate.py` works with the current program."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import pytest

from megaportraits.config import ModelConfig
from megaportraits.media import VideoReader
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import save_base
from megaportraits.pipeline import Avatar

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "animate.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_animate", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("foreground", "background_plate"):  # the benchmark wraps them; put them back afterwards
        monkeypatch.setattr(module.preparation, name, getattr(module.preparation, name))
    return module


def test_every_part_takes_time_and_all_parts_together_are_the_whole(
    benchmark: ModuleType, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    save_base(tmp_path / "tiny.safetensors", BaseModel(tiny_config))
    avatar, clock = Avatar.from_pretrained(tmp_path / "tiny.safetensors", device="cpu"), benchmark.Clock()
    clock.watch(avatar.model)
    once = benchmark.once_per_source(avatar, clock, 1)
    assert min(once.values()) > 0
    assert sum(once.values()) == pytest.approx(clock.median("all"))
    frames = benchmark.per_frame(avatar, clock, 2, tmp_path / "frames.mp4")
    assert min(frames.values()) > 0
    assert len(list(VideoReader(tmp_path / "frames.mp4"))) == 3 * benchmark.BATCH


def test_long_drivers_are_the_demos_there_and_back(benchmark: ModuleType, tmp_path: Path) -> None:
    assert benchmark.write_driver(tmp_path / "long.mp4", 4.4) == 110
    frames = [frame.image.astype(int) for frame in VideoReader(tmp_path / "long.mp4")]
    assert len(frames) == 110
    for back, there in itertools.islice(zip(frames[100:], frames[98::-1], strict=False), 5):
        assert abs(back - there).mean() < 2
