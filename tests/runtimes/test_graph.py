from __future__ import annotations

from pathlib import Path

import pytest

from megaportraits.errors import ConfigError, WeightsError
from megaportraits.runtimes import GraphInfo, open_graph, read_info


def test_a_description_survives_the_metadata() -> None:
    info = GraphInfo("student", 256, "int8", matte=False, avatars=("Zoë", "b"), model='{"name": "x"}', version="1")
    assert GraphInfo.from_metadata({"other": "entry", **info.to_metadata()}, Path("f")) == info


def test_files_that_are_missing_broken_or_not_ours_are_refused_by_name(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    with pytest.raises(WeightsError, match="no such file"):
        read_info(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("this is no graph")
    with pytest.raises(WeightsError, match=r"text\.onnx"):
        read_info(tmp_path / "text.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [other])), tmp_path / "other.onnx")
    with pytest.raises(WeightsError, match="megaportraits export"):
        read_info(tmp_path / "other.onnx")


def test_a_runtime_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megaportraits.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="onnx, which is not installed") as caught:
        open_graph("x.onnx")
    assert "megaportraits[export]" in str(caught.value)
