"""Several processes, accumulation, recomputation, signals and kill -9, with real processes where needed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from megaportraits.config import TrainBaseConfig
from megaportraits.data.clips import ClipIndex
from megaportraits.errors import DataError, TrainingError
from megaportraits.media.locks import try_lock
from megaportraits.nn.spectral import add_spectral_norm
from megaportraits.training import checkpoint
from megaportraits.training.base import train_base
from megaportraits.training.loader import StepSampler
from tests.training.double import train_in_double
from tests.training.test_adversarial import ON
from tests.training.test_training import stage_and_batch, tiny_run

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONFAULTHANDLER": "1"}


def written(config: TrainBaseConfig, path: Path, **run: Any) -> Path:
    values = config.model_dump(mode="json")
    values["run"] |= run
    path.write_text(yaml.safe_dump(values))
    return path


def command(config: Path, clips: Path, out: Path, *more: str) -> list[str]:
    return [
        "train",
        "base",
        "--config",
        str(config),
        "--data",
        str(clips),
        "--out",
        str(out),
        *more,
    ]


def train_in_two_processes(line: list[str], *, double: bool = False) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    launcher.append("tests.training.double" if double else "megaportraits")
    done = subprocess.run(
        [sys.executable, *launcher, *line],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    # the process that fails first says why before the other's traceback and the launcher's report
    assert done.returncode == 0, f"{done.stderr[:6000]}\n...\n{done.stderr[-1000:]}"


def stage_of(run: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.latest(run / "checkpoints")
    assert state is not None
    return dict(state["stage"])


def test_two_processes_train_what_one_process_trains_with_the_same_global_batch(clips: Path, tmp_path: Path) -> None:
    """Two gloo processes on the CPU, all losses but the contrastive one, which sees further there (`test_ring`)."""
    config = tiny_run(clips, steps=3, optim={"batch_size": 4}, **ON, contrastive=0)
    two = written(config, tmp_path / "two.yaml", devices=2, strategy="ddp")
    train_in_two_processes(command(two, clips, tmp_path / "two"), double=True)
    optim = config.optim.model_copy(update={"accumulate": 2})
    train_in_double(config.model_copy(update={"optim": optim}), tmp_path / "one")
    one, other = stage_of(tmp_path / "one"), stage_of(tmp_path / "two")
    assert set(one) == set(other)
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, atol=1e-9, rtol=1e-7, msg=key)
    logs = [
        [json.loads(x) for x in (tmp_path / run / "stats.jsonl").read_text().splitlines()] for run in ("one", "two")
    ]
    for a, b in zip(*logs, strict=True):
        for name in a.keys() & {"reconstruction", "discriminator", "total_generator"}:
            assert b[name] == pytest.approx(a[name], rel=1e-5), name


def test_every_item_of_a_step_is_taken_once_whatever_the_number_of_processes() -> None:
    alone = list(StepSampler(2, 5, 12, rank=0, ranks=1))
    assert alone == list(range(24, 60)) and len(StepSampler(2, 5, 12, 0, 1)) == 36
    shares = [list(StepSampler(2, 5, 12, rank, 3)) for rank in range(3)]
    together = [item for step in range(3) for share in shares for item in share[step * 4 : step * 4 + 4]]
    assert together == alone


def test_a_batch_that_cannot_be_shared_out_is_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="a batch of 3 cannot be shared out to 1 processes x 2 parts"):
        train_base(tiny_run(clips, optim={"accumulate": 2}), tmp_path)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_recomputing_the_3d_parts_changes_no_gradient(clips: Path, spectral_norm: bool) -> None:
    gradients, buffers = [], []
    for recompute in (False, True):
        stage, batch = stage_and_batch(clips)
        if spectral_norm:
            for part in (stage.model.warp_source, stage.model.warp_driver, stage.model.generator_3d):
                assert add_spectral_norm(part)
        stage.model.checkpoint_3d = recompute
        losses = stage("generator", batch, 2, torch.Generator().manual_seed(0))
        torch.stack(list(losses.values())).sum().backward()
        gradients.append({n: p.grad for n, p in stage.named_parameters()})
        buffers.append(dict(stage.named_buffers()))
    assert all(torch.equal(buffers[1][name], value) for name, value in buffers[0].items())
    plain, recomputed = gradients
    for name, gradient in plain.items():
        if gradient is None:
            assert recomputed[name] is None
        else:
            torch.testing.assert_close(recomputed[name], gradient, msg=name)


def test_recomputing_keeps_fewer_activations(clips: Path) -> None:
    kept = []
    for recompute in (False, True):
        stage, batch = stage_and_batch(clips)
        stage.model.checkpoint_3d = recompute
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            stage("generator", batch, 2, torch.Generator().manual_seed(0))
        kept.append(sum(sizes))
    assert kept[1] < 0.9 * kept[0]


def start(config: Path, clips: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "megaportraits", *command(config, clips, out, *more)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_step(process: subprocess.Popen[str], out: Path, step: int) -> None:
    """Until the statistics show `step`, however busy the machine is."""
    path = out / "stats.jsonl"
    while not path.exists() or f'"step": {step}, ' not in path.read_text():
        assert process.poll() is None, f"step {step} did not come: {process.communicate()[1][-2000:]}"
        time.sleep(0.02)


def test_kill_9_and_resume_end_where_an_undisturbed_run_ends(clips: Path, tmp_path: Path) -> None:
    steps = 16
    config = tiny_run(clips, steps=steps, **ON)
    path = written(config, tmp_path / "run.yaml")
    process = start(path, clips, tmp_path / "killed")
    wait_for_step(process, tmp_path / "killed", 5)
    process.kill()
    process.communicate()
    state = checkpoint.latest(tmp_path / "killed/checkpoints")
    assert state is not None and state["step"] < steps
    train_base(config, tmp_path / "killed", resume=True)
    train_base(config, tmp_path / "undisturbed")
    killed, undisturbed = stage_of(tmp_path / "killed"), stage_of(tmp_path / "undisturbed")
    assert all(torch.equal(killed[key], value) for key, value in undisturbed.items())
    lines = [json.loads(line) for line in (tmp_path / "killed/stats.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "lr" in line] == list(range(1, steps + 1))


@pytest.mark.posix
def test_a_run_that_a_signal_stops_checkpoints_and_exits_130_so_that_no_command_follows(
    clips: Path, tmp_path: Path
) -> None:
    path = written(tiny_run(clips, steps=100_000), tmp_path / "run.yaml", checkpoint_minutes=60)
    process = start(path, clips, tmp_path / "run")
    wait_for_step(process, tmp_path / "run", 3)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 130 and "continue with --resume" in told
    state = checkpoint.latest(tmp_path / "run/checkpoints")
    assert state is not None and 3 <= state["step"] < 100_000
    assert (tmp_path / "run/base.safetensors").is_file()


def test_tensorboard_events_hold_what_stats_jsonl_holds(clips: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tiny_run(clips, steps=2)
    train_base(config.model_copy(update={"run": config.run.model_copy(update={"tensorboard": True})}), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()]
    got = {e.step: e.value for e in events.Scalars("reconstruction")}
    assert got == {x["step"]: pytest.approx(x["reconstruction"], rel=1e-6) for x in lines if "lr" in x}
    assert events.Scalars("validation/psnr")[0].step == 2


def test_a_line_torn_by_kill_9_is_dropped_when_resuming(clips: Path, tmp_path: Path) -> None:
    train_base(tiny_run(clips, steps=2), tmp_path)
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write('{"step": 2, "samp')
    train_base(tiny_run(clips, steps=3), tmp_path, resume=True)
    assert [json.loads(x)["step"] for x in (tmp_path / "stats.jsonl").read_text().splitlines()][-1] == 3


def test_a_nan_names_the_batchs_clips(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megaportraits.training.base.warp_loss", lambda *a, **k: torch.tensor(float("nan")))
    with pytest.raises(TrainingError, match=r"at step 1, phase 'generator'; the batch: c\d, c\d, c\d"):
        train_base(tiny_run(clips), tmp_path / "run")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, {"step": 1}, keep=2)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("megaportraits.training.checkpoint.torch.save", full)
    with pytest.raises(TrainingError, match="No space left"):
        checkpoint.save(tmp_path, {"step": 2}, keep=2)
    assert checkpoint.latest(tmp_path) == {"step": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_run_that_another_process_trains_is_refused(clips: Path, tmp_path: Path) -> None:
    train_base(tiny_run(clips, steps=1), tmp_path / "run")
    for folder, resume in (("run", True), ("new", False)):
        (tmp_path / folder).mkdir(exist_ok=True)
        with (tmp_path / folder / ".lock").open("w") as lock:
            assert try_lock(lock.fileno())
            with pytest.raises(TrainingError, match=f"another process trains in .*{folder}"):
                train_base(tiny_run(clips, steps=2), tmp_path / folder, resume=resume)
    assert train_base(tiny_run(clips, steps=2), tmp_path / "run", resume=True) == 2


def test_a_disk_that_fills_under_the_statistics_is_reported(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(TrainingError, match="run cannot be written: No space left"):
        patch.setattr("megaportraits.training.run.TrainingRun.log", full)
        train_base(tiny_run(clips, steps=2), tmp_path / "run")
    assert train_base(tiny_run(clips, steps=2), tmp_path / "run", resume=True) == 2


def test_unreadable_shards_and_members_are_passed_over_and_counted(clips: Path, tmp_path: Path) -> None:
    whole = (clips / "clips-000000.tar").read_bytes()
    (clips / "clips-000001.tar").write_bytes(whole[: len(whole) // 2])
    with tarfile.open(clips / "clips-000000.tar") as tar:
        bad = tar.getmember("c3.002.jpg").offset_data
    (clips / "clips-000000.tar").write_bytes(whole[:bad] + b"\0" * 8 + whole[bad + 8 :])
    with pytest.raises(DataError, match="not a readable tar shard"):
        ClipIndex(clips)
    train_base(tiny_run(clips, steps=20), tmp_path / "run")
    lines = [json.loads(x) for x in (tmp_path / "run/stats.jsonl").read_text().splitlines()]
    assert lines[0] == {"step": 0, "unreadable_shards": 1}
    assert sum(line.get("unreadable", 0) for line in lines) >= 1
    assert lines[-1]["step"] == 20 and all(math.isfinite(x["reconstruction"]) for x in lines if "lr" in x)


def test_data_without_a_readable_shard_is_refused(clips: Path, tmp_path: Path) -> None:
    (clips / "clips-000000.tar").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"No shard of .* is readable"):
        train_base(tiny_run(clips), tmp_path / "run")
