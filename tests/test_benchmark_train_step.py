"""`benchmarks/train_step.py` works with the current program."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
import yaml

from megaportraits import weights
from megaportraits.training.strategy import lays_channels_last
from tests.conftest import TINY

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "train_step.py"


def test_a_step_with_every_loss_of_the_paper_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "fetch", weights.fetch)  # the benchmark puts stand-ins there
    spec = importlib.util.spec_from_file_location("benchmark_train_step", SCRIPT)
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    config = {"extends": "paper-256", "model": TINY | {"predict_matte": False}, "discriminator": {"scales": 2}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config | {"loss": {"perceptual_scales": 2}}))
    assert len(benchmark.SETTINGS) == 8 and all(benchmark.setting(name) == name for name in benchmark.SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        assert set(benchmark.SETTINGS) - set(benchmark.here()) == {"32-true+channels-last", "bf16-mixed+channels-last"}
    with pytest.raises(benchmark.argparse.ArgumentTypeError, match="not a precision"):
        benchmark.setting("32-true+magic")
    layout = "+channels-last" if lays_channels_last(torch.device("cpu")) else ""  # refused without AVX-512
    result = benchmark.measure(str(tmp_path / "tiny.yaml"), 2, 1, f"32-true+checkpoint{layout}")
    papers = {"perceptual_vgg19", "face", "gaze", "adversarial", "feature_matching", "contrastive", "discriminator"}
    assert papers <= set(result["losses"]) and all(math.isfinite(v) for v in result["losses"].values())
    assert result["first"] >= result["seconds"] > 0 and result["gigabytes"] > 0.1
