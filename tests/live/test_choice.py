"""The choice of an engine: invalid folders, devices, and options that exported graphs do not support."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megaportraits.errors import ConfigError
from megaportraits.live import choice
from megaportraits.live.choice import EngineRequest
from megaportraits.pipeline import MotionMode, ScaleFrom
from megaportraits.pipeline.options import MotionOptions


def test_a_folder_that_is_called_like_shipped_weights_is_no_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nano").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not choice._is_export("nano")


@pytest.mark.parametrize(
    "motion", [MotionOptions(motion=MotionMode.RELATIVE), MotionOptions(scale_from=ScaleFrom.SOURCE)]
)
def test_exported_graphs_say_that_their_motion_is_absolute(tmp_path: Path, motion: MotionOptions) -> None:
    for name in ("encode.onnx", "drive.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match="take the driver's motion as it is"):
        choice._graph_encoder(tmp_path, EngineRequest(motion=motion))


def settings(request: EngineRequest) -> list[str]:
    def never(setting: object) -> None:
        raise AssertionError("nothing is built before it is measured")

    return [str(candidate.setting) for candidate in choice._torch(never, request)]


def test_torch_runs_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["torch float32, 2 threads", "torch bfloat16, 2 threads"]
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    assert settings(EngineRequest(device="cpu", threads=2)) == both
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")  # it would take seconds a frame
    assert settings(EngineRequest(device="cpu", threads=2)) == both[:1]
    assert settings(EngineRequest(device="cpu", threads=2, precision="bfloat16")) == both[1:]
    with pytest.raises(ConfigError, match="got 'abacus'"):
        settings(EngineRequest(device="abacus"))
    monkeypatch.setattr(choice, "find_device", torch.device)
    for supported, precisions in ((True, ["float32", "bfloat16"]), (False, ["float32"])):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda supported=supported, **_: supported)
        assert settings(EngineRequest(device="cuda")) == [f"torch {precision} on cuda" for precision in precisions]
    assert settings(EngineRequest(device="cuda", precision="float32")) == ["torch float32 on cuda"]


def test_exported_graphs_run_on_the_cpu_only() -> None:
    with pytest.raises(ConfigError, match="run on the CPU, got 'cuda'"):
        choice._graphs({}, lambda path, setting: pytest.fail("built"), EngineRequest(device="cuda"))
