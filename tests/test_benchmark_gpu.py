"""`benchmarks/gpu.py` works with the current program; a part that fails, hangs or has no time left is reported."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from megaportraits import weights
from megaportraits.config import TrainBaseConfig, load_config

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
CPU = torch.device("cpu")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(weights, "fetch", weights.fetch)  # train_step.py puts stand-ins there
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("benchmark_gpu", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark_gpu", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_network_is_measured_at_tiny_sizes(benchmark: ModuleType) -> None:
    names = ("peak", "base", "enhanced", "student")
    found = {part.name: part.measure(CPU, True) for part in benchmark.PARTS if part.name in names}
    assert found["peak"]["tflops"]["float32"] > 0
    assert found["enhanced"]["flops"] > found["base"]["flops"] > 0
    for name in ("base", "enhanced", "student"):
        assert [(way["batch"], way["fps"] > 0) for way in found[name]["ways"]] == [(1, True), (2, True)]


def test_training_halves_its_batch_until_it_fits_and_counts_both_directions(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train_step.py`, which has a test of its own, is stood in for by one product and its gradient."""
    sys.path.insert(0, str(SCRIPT.parent))
    import train_step

    asked: list[tuple[str, int, str]] = []

    def measure(config: str, batch: int, repeat: int, name: str) -> dict[str, float]:
        load_config(TrainBaseConfig, config)
        asked.append((Path(config).name, batch, name))
        if batch > 4:
            raise torch.OutOfMemoryError
        weight = torch.ones(3, 3, requires_grad=True)
        (torch.ones(batch, 3) @ weight).sum().backward()
        return {"seconds": 0.5, "first": 2.0, "gigabytes": 1.0, "losses": 0.0}

    inspect.signature(train_step.measure).bind("c", 1, 1, "32-true")  # it is called like this
    monkeypatch.setattr(train_step, "measure", measure)
    found = benchmark.measure_training(CPU, False, options="+checkpoint")
    assert (found["batch"], found["samples_per_s"], found["first_s"]) == (4, 8.0, 2.0)
    assert asked == [("paper-512", n, "32-true+checkpoint") for n in (16, 8, 4)]
    assert benchmark.measure_flops(CPU, True) == {"per_sample": 2 * 2 * 9}, "two products of 2 x 3 x 3, for two samples"
    assert asked[-1] == ("tiny.yaml", 2, "32-true")


def test_the_papers_sizes_are_measured(benchmark: ModuleType) -> None:
    base, enhancer, student = (getattr(benchmark, f"_{name}_config")(False) for name in ("base", "enhancer", "student"))
    assert (base.image_size, enhancer.image_size, student.image_size) == (512, 512, 1024)
    assert sum(part.limit_s for part in benchmark.PARTS if part.name != "train-compiled") <= 540


def test_failures_hangs_and_lost_time_are_reported_and_the_others_go_on(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_LEAST_S", 0.0)
    scripts = {
        "peak": 'print(\'warning\'); print(\'{"tflops": {"float16": 2.0}, "side": 1}\')',
        "student": "import sys; sys.exit('CUDA error: out of\\nluck')",
        "base": "import time; time.sleep(600)",
        "enhanced": "pass",
        "flops": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    }
    parts = [benchmark.Part(name, 1.0 if name == "base" else 60.0, None) for name in scripts]
    results = benchmark.Results(tmp_path, {"device": "none", "torch": "2"})
    told: list[str] = []
    command = lambda part: [sys.executable, "-S", "-c", scripts[part.name]]  # noqa: E731
    benchmark.run(results, parts, command, 600, told.append)
    kept = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {name: part["status"] for name, part in kept.items()} == {
        "peak": "ok",
        "student": "failed",
        "base": "timeout",
        "enhanced": "failed",
        "flops": "failed",
    }
    assert kept["student"]["reason"] == "luck" and "signal 9" in kept["flops"]["reason"]
    assert kept["enhanced"]["reason"] == "gave no result" and "within 1 s" in kept["base"]["reason"]
    benchmark.run(results, parts[:1], command, -1, told.append)
    assert results.parts["peak"]["status"] == "skipped" and told[-1] == "peak: skipped"


def test_the_table_says_how_much_of_the_peak_is_used(benchmark: ModuleType, tmp_path: Path) -> None:
    way = {"way": "eager", "batch": 1, "fps": 50.0, "gigabytes": 1.5}
    results = benchmark.Results(tmp_path, {"device": "H200", "torch": "2"})
    results.parts = {
        "peak": {"status": "ok", "tflops": {"float16": 100.0, "bfloat16": 200.0}},
        "student": {"status": "ok", "flops": 1e12, "precision": "float16", "ways": [way, {**way, "reason": "x"}]},
        "flops": {"status": "ok", "per_sample": 4e12},
        "train": {"status": "ok", "samples_per_s": 10.0, "first_s": 3.0, "gigabytes": 60.0, "batch": 16},
        "base": {"status": "timeout", "reason": "did not end within 9 s"},
    }
    text = results.to_markdown()
    assert "| student, eager, batch 1 | 50.0 frames/s | 50.0 % | 1.5 | 20.0 ms a batch, float16; the paper: 130" in text
    assert "| student, eager, batch 1 | failed |" in text
    assert "| train | 10.00 samples/s | 20.0 % | 60.0 | batch 16; first step 3.0 s |" in text
    assert "| base | timeout | | | did not end within 9 s |".replace("| | |", "|  |  |") in text


def test_missing_cuda_is_reported(benchmark: ModuleType, tmp_path: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        benchmark.main(["--out", str(tmp_path / "gpu")])
    assert "no CUDA device" in capsys.readouterr().err and not (tmp_path / "gpu").exists()
