"""Training on streamed shards."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from megaportraits.commands.train import data_paths
from megaportraits.data import remote
from megaportraits.training import checkpoint
from megaportraits.training.base import train_base
from tests.data.test_stream import Server, fetched, running
from tests.training.test_training import tiny_run


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage collection, so that only explicit calls delete files."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_a_streamed_run_resumes_in_the_middle_of_an_epoch_bit_for_bit(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a loading process, through several windows."""
    monkeypatch.setenv("MEGAPORTRAITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_PAUSE_SECONDS", 0.01)
    for shard in range(1, 4):
        shutil.copy(clips / "clips-000000.tar", clips / f"clips-{shard:06d}.tar")
    with running(Server(clips)) as server:
        config = tiny_run(clips, steps=6)
        data = {
            "path": server.address,
            "validation": server.address,
            "workers": 1,
            "stream_shards": 2,
            "stream_draws": 4,
        }
        run = config.run.model_copy(update={"keep_checkpoints": 9})
        config = config.model_copy(update={"data": config.data.model_copy(update=data), "run": run})
        train_base(config, tmp_path / "straight")
        assert len(fetched(server)) == 4
        train_base(config, tmp_path / "stopped")
        for step in (4, 5, 6):  # as if killed during step 4
            (tmp_path / f"stopped/checkpoints/step-{step:08d}.pt").unlink()
        train_base(config, tmp_path / "stopped", resume=True)
    straight, stopped = (checkpoint.latest(tmp_path / run / "checkpoints") for run in ("straight", "stopped"))
    assert straight is not None and stopped is not None and stopped["step"] == 6
    assert all(torch.equal(stopped["stage"][key], value) for key, value in straight["stage"].items())
    assert not list((tmp_path / "cache/streams").glob("*/*.tar"))  # no process leaves files behind


def test_an_address_on_the_command_line_is_taken_as_it_is(tmp_path: Path) -> None:
    for line in ("https://host/data/train", "s3://bucket/real * 0.3 + /disk/lifted/train * 0.7"):
        assert data_paths(line) == [("data.path", line)]
    assert data_paths(str(tmp_path)) == [("data.path", str(tmp_path))]
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    assert data_paths(str(tmp_path)) == [
        ("data.path", str(tmp_path / "train")),
        ("data.validation", str(tmp_path / "val")),
    ]
