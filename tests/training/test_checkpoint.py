"""Damaged and foreign checkpoints, and runs that ask for unavailable devices."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from megaportraits.config import RunConfig
from megaportraits.errors import TrainingError
from megaportraits.training import checkpoint
from megaportraits.training.base import train_base
from megaportraits.training.strategy import make_fabric
from tests.training.test_training import tiny_run


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_flipped_bit_in_a_checkpoint_is_found_reported_and_passed_over(
    place: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, {"step": step, "stage": {"w": torch.arange(10_000.0)}}, keep=5)
    newest = tmp_path / "step-00000002.pt"
    content = bytearray(newest.read_bytes())
    content[int(len(content) * place)] ^= 1
    newest.write_bytes(content)
    state = checkpoint.latest(tmp_path)
    assert state is not None and state["step"] == 1
    told = capsys.readouterr().err
    assert "Left out" in told and "step-00000002.pt" in told and "checksum" in told


@pytest.mark.parametrize("value", [5, [1, 2], {}, {"step": "1"}, {"step": -1}, {"step": True}, torch.zeros(2)])
def test_a_checkpoint_that_holds_something_else_is_an_error_of_ours(value: Any, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "step-00000001.pt")
    with pytest.raises(TrainingError, match="is not a checkpoint"):
        checkpoint.read(tmp_path / "step-00000001.pt")
    assert checkpoint.latest(tmp_path) is None


def test_a_checkpoint_with_other_parts_is_refused(clips: Path, tmp_path: Path) -> None:
    config = tiny_run(clips, steps=1)
    train_base(config, tmp_path)
    state = checkpoint.latest(tmp_path / "checkpoints")
    assert state is not None
    for broken in ({"stage": 3}, {"average": [1]}, {"optimizers": 7}, {"optimizers": {"network": 2}}):
        checkpoint.save(tmp_path / "checkpoints", {**state, **broken}, keep=1)
        with pytest.raises(TrainingError, match="does not fit this configuration"):
            train_base(config, tmp_path, resume=True)


def test_a_packed_archive_is_not_unpacked_as_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(10_000_000))
    with pytest.raises(TrainingError, match="not compressed"):
        checkpoint.read(path)


def test_a_damaged_later_checkpoint_does_not_push_out_the_one_just_written(tmp_path: Path) -> None:
    (tmp_path / "step-00000009.pt").write_bytes(b"torn")
    for step in (7, 8):
        checkpoint.save(tmp_path, {"step": step}, keep=1)
    assert checkpoint.latest(tmp_path) == {"step": 8}


def test_several_machines_without_a_launcher_are_an_error_not_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainingError, match=r"run\.nodes=2: expected one torchrun"):
        make_fabric(RunConfig(nodes=2, accelerator="cpu"))


def test_an_accelerator_that_is_not_there_is_an_error_of_ours() -> None:
    other = "mps" if sys.platform != "darwin" else "cuda"
    with pytest.raises(TrainingError, match=f"run.accelerator={other}.*cannot run here"):
        make_fabric(RunConfig(accelerator=other))
