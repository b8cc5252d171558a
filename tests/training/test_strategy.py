"""Fully sharded runs with real processes, and compiled networks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from megaportraits.config import RunConfig
from megaportraits.errors import TrainingError
from megaportraits.models.storage import load_base
from megaportraits.training import checkpoint
from megaportraits.training.strategy import (
    compile_blocks,
    lay_channels_last,
    lays_channels_last,
    make_fabric,
    precision_of,
    whole,
)
from tests.training.double import train_in_double
from tests.training.test_adversarial import ON
from tests.training.test_scale import command, train_in_two_processes, written
from tests.training.test_training import stage_and_batch, tiny_run


def flat(state: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of a checkpoint by its path."""
    if isinstance(state, dict | list):
        entries = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for key, value in entries for k, v in flat(value, f"{name}.{key}").items()}
    return {name: state}


def close(one: Path, other: Path) -> None:
    """Two float64 runs' last checkpoints hold the same: networks, averages, optimizers."""
    a, b = (checkpoint.latest(run / "checkpoints") for run in (one, other))
    assert a is not None and b is not None
    left, right = flat(a), flat(b)
    assert left.keys() == right.keys()
    for key, value in left.items():
        if isinstance(value, torch.Tensor):
            assert type(right[key]) is type(value)  # whole tensors, not pieces
            torch.testing.assert_close(right[key], value, atol=1e-9, rtol=1e-7, msg=key)
        else:
            assert right[key] == value, key


def near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Gradients that differ by rounding only, as norms measure it."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-5, name


def test_sharded_processes_train_what_one_process_trains_and_share_its_checkpoints(clips: Path, tmp_path: Path) -> None:
    """Two gloo processes on the CPU: adversarial phases, recomputation, clipping; whole files that any run resumes."""
    # Biases before an instance norm have no gradient but rounding, which Adam without a real eps would make steps of.
    optim = {"batch_size": 4, "clip_grad_norm": 1.0, "eps": 1e-4}
    config = tiny_run(clips, steps=3, optim=optim, **ON, contrastive=0)
    run = config.run.model_copy(update={"keep_checkpoints": 9})
    alone = config.model_copy(update={"optim": config.optim.model_copy(update={"accumulate": 2}), "run": run})
    path = written(config, tmp_path / "fsdp.yaml", devices=2, strategy="fsdp", checkpoint_3d=True, keep_checkpoints=9)
    train_in_two_processes(command(path, clips, tmp_path / "fsdp"), double=True)
    train_in_double(alone, tmp_path / "one")
    close(tmp_path / "one", tmp_path / "fsdp")
    image = torch.rand(1, 3, 32, 32)
    models = [load_base(tmp_path / name / "base.safetensors") for name in ("one", "fsdp")]
    torch.testing.assert_close(*(model(image, image).image for model in models), atol=1e-3, rtol=1e-2)
    assert len(list((tmp_path / "fsdp/samples").iterdir())) == 2
    for name in ("back", "again"):  # the last step once more: by one process, and sharded again
        shutil.copytree(tmp_path / "fsdp", tmp_path / name)
        (tmp_path / name / "checkpoints/step-00000003.pt").unlink()
    train_in_double(alone, tmp_path / "back", resume=True)
    close(tmp_path / "one", tmp_path / "back")
    train_in_two_processes(command(path, clips, tmp_path / "again", "--resume"), double=True)
    close(tmp_path / "fsdp", tmp_path / "again")


def test_half_precision_with_a_scaler_is_refused_where_it_cannot_be_sharded() -> None:
    with pytest.raises(TrainingError, match="got 16-mixed"):
        make_fabric(RunConfig(strategy="fsdp", precision="16-mixed"))


@pytest.mark.parametrize(
    ("accelerator", "processor", "cuda", "expected"),
    [
        ("cpu", "AVX512", None, "bf16-mixed"),
        ("cpu", "AVX2", None, "32-true"),
        ("cpu", "AVX2", True, "32-true"),  # a GPU that the run does not use
        ("auto", "AVX2", True, "bf16-mixed"),
        ("auto", "AVX512", False, "32-true"),  # an old GPU
        ("auto", "AVX512", None, "bf16-mixed"),
        ("mps", "AVX512", None, "32-true"),
    ],
)
def test_precision_is_chosen_by_what_computes(
    accelerator: str, processor: str, cuda: bool | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bool(cuda))
    settings = RunConfig(accelerator=accelerator, precision="auto")
    assert precision_of(settings) == expected
    assert precision_of(settings.model_copy(update={"precision": "16-mixed"})) == "16-mixed"


@pytest.mark.parametrize(("processor", "expected"), [("AVX512", "bf16-mixed"), ("AVX2", "32-true")])
def test_a_run_gets_the_precision_that_was_chosen(
    processor: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    fabric = make_fabric(RunConfig(accelerator="cpu", precision="auto"))
    assert fabric.strategy.precision.precision == expected


def test_what_is_not_cut_stays_itself() -> None:
    state = {"a": torch.ones(2), "b": [{"c": 1}]}
    assert whole(state)["a"] is state["a"] and whole(state, keep=False) == state


def test_compiled_parts_give_the_same_losses_and_gradients_under_the_same_names(clips: Path) -> None:
    """By torch's tracing alone; what its code generator makes of the trace is torch's own test."""
    found = []
    for compiles in (False, True):
        torch._dynamo.reset()
        stage, batch = stage_and_batch(clips, **ON)
        names = list(stage.state_dict())
        if compiles:
            assert compile_blocks(stage, backend="eager") >= 7
        losses = stage("generator", batch, 2, torch.Generator().manual_seed(0))
        torch.stack(list(losses.values())).sum().backward()
        assert list(stage.state_dict()) == names
        found.append((losses, {n: p.grad for n, p in stage.named_parameters() if p.grad is not None}))
    (plain, gradients), (compiled, others) = found
    torch.testing.assert_close(compiled, plain)
    near(others, gradients)


def test_channels_last_is_refused_where_it_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(TrainingError, match="channels_last"):
        lay_channels_last(torch.nn.Conv2d(3, 3, 3), torch.device("cpu"))


@pytest.mark.skipif(not lays_channels_last(torch.device("cpu")), reason="refused on this processor")
def test_channels_last_changes_no_loss_and_no_gradient(clips: Path) -> None:
    found = []
    for lays in (False, True):
        stage, batch = stage_and_batch(clips, **ON)
        if lays:
            lay_channels_last(stage, torch.device("cpu"))
        losses = stage("generator", batch, 2, torch.Generator().manual_seed(0))
        torch.stack(list(losses.values())).sum().backward()
        found.append((losses, {n: p.grad for n, p in stage.named_parameters() if p.grad is not None}))
    assert stage.model.generator_2d.output.conv.weight.is_contiguous(memory_format=torch.channels_last)
    (plain, gradients), (laid, others) = found
    torch.testing.assert_close(laid, plain)
    near(others, gradients)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megaportraits.training.strategy.shutil.which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="needs a C\\+\\+ compiler"):
        compile_blocks(torch.nn.Linear(1, 1))
