from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.config import ModelConfig
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_base, save_base
from megaportraits.nn.weights_file import read_notes
from megaportraits.training.averaging import average


@pytest.fixture
def two(tmp_path: Path, tiny_config: ModelConfig) -> list[str]:
    """Files of two models of one config."""
    files = []
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        save_base(tmp_path / f"{name}.safetensors", BaseModel(tiny_config), notes={"steps": name})
        files.append(str(tmp_path / f"{name}.safetensors"))
    return files


def test_every_weight_is_the_mean_with_the_shares_of_the_whole(two: list[str], tmp_path: Path) -> None:
    out = tmp_path / "mean.safetensors"
    result = CliRunner().invoke(app, ["average", f"{two[0]}=3", f"{two[1]}=1", "-o", str(out)])
    assert result.exit_code == 0, result.output
    a, b, mean = (load_base(path).state_dict() for path in (*two, out))
    for key, value in mean.items():
        torch.testing.assert_close(value, 0.75 * a[key] + 0.25 * b[key], atol=1e-3, rtol=1e-3, msg=key)
    assert any(not torch.equal(value, a[key]) for key, value in mean.items())
    notes = read_notes(out)
    assert notes["steps"] == "a" and notes["average"] == "0.75 a, 0.25 b"


def test_a_module_can_have_shares_of_its_own(two: list[str], tmp_path: Path) -> None:
    out = tmp_path / "mean.safetensors"
    line = ["average", f"{two[0]}=1", f"{two[1]}=1", "--module", "generator_2d.output=0,2", "--module", "embed_z=1,0"]
    result = CliRunner().invoke(app, [*line, "-o", str(out)])
    assert result.exit_code == 0, result.output
    a, b, mean = (load_base(path).state_dict() for path in (*two, out))
    exceptions = {"generator_2d.output.": b, "embed_z.": a}
    counts = dict.fromkeys(exceptions, 0)
    for key, value in mean.items():
        module = next((name for name in exceptions if key.startswith(name)), None)
        if module is None:
            torch.testing.assert_close(value, (a[key] + b[key]) / 2, atol=1e-3, rtol=1e-3, msg=key)
        else:
            counts[module] += 1
            assert torch.equal(value, exceptions[module][key]), key
    assert all(counts.values())
    assert read_notes(out)["average"] == "0.5 a, 0.5 b; generator_2d.output: 0, 1; embed_z: 1, 0"


def test_what_cannot_be_averaged_is_reported(two: list[str], tmp_path: Path, tiny_config: ModelConfig) -> None:
    other, out = tmp_path / "other.safetensors", tmp_path / "out.safetensors"
    save_base(other, BaseModel(tiny_config.model_copy(update={"refine_flow": False})))
    with pytest.raises(WeightsError, match="refine_flow: True -> False"):
        average([(two[0], 1), (str(other), 1)], out)
    for parts in ([(two[0], 1.0)], [(two[0], 1.0), (two[1], -1.0)]):
        with pytest.raises(ConfigError, match="two models or more with positive shares"):
            average(parts, out)
    assert not out.exists()
    for line, said in (
        ([two[0], f"{two[1]}=1", "-o", str(out)], "expected WEIGHTS=SHARE"),
        (["0.5", f"{two[1]}=1", "-o", str(out)], "expected WEIGHTS=SHARE"),
        ([f"{two[0]}=1", f"{two[1]}=1", "-o", str(tmp_path / "out.pt")], "expected a .safetensors file"),
        ([f"{two[0]}=1", f"{two[1]}=1", "-o", two[0]], "would replace its own input"),
        ([f"{two[0]}=1", f"{two[1]}=1", "-o", str(out), "--module", "output=1,0"], "no module output"),
        ([f"{two[0]}=1", f"{two[1]}=1", "-o", str(out), "--module", "embed_z=1"], "expected 2 shares"),
        ([f"{two[0]}=1", f"{two[1]}=1", "-o", str(out), "--module", "embed_z=0,0"], "not all 0"),
        ([f"{two[0]}=1", f"{two[1]}=1", "-o", str(out), "--module", "embed_z=1,x"], "expected MODULE=SHARE"),
    ):
        result = CliRunner().invoke(app, ["average", *line])
        assert result.exit_code != 0 and said in str(result.exception)
