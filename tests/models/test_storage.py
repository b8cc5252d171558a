"""Saving and loading models."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from megaportraits.config import ModelConfig
from megaportraits.errors import OutputTakenError, WeightsError
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import find_base, load_base, save_base


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_weights_are_as_readable_as_any_new_file(tiny_config: ModelConfig, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    before = os.umask(0o022)
    try:
        plain.write_text("")
        save_base(tmp_path / "base.safetensors", BaseModel(tiny_config))
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "base.safetensors", plain)]
    assert modes == [0o644, 0o644]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.safetensors", "plain"]  # nothing is left behind
    assert load_base(tmp_path / "base.safetensors").config == tiny_config


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("note.txt", "note.txt: expected a .safetensors file, got a .txt file"),
        ("README", "README: expected a .safetensors file, got a file without that ending"),
        ("RUN", "RUN: expected a .safetensors file, got a folder"),
        ("base.ckpt", "weights file base.ckpt does not exist"),
        ("runs/mine", "weights file runs/mine does not exist"),
        ("runs/base.safetensors", "weights file runs/base.safetensors does not exist"),
        ("https://host/base.safetensors", "https://host/base.safetensors: addresses are not read"),
        ("nan", "no weights named 'nan' come with this package"),
    ],
)
def test_a_file_that_is_no_weights_file_is_refused_with_what_it_is(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("note.txt", "README", "RUN/base.safetensors"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text("hello")
    with pytest.raises(WeightsError) as caught:
        find_base(name)
    assert caught.value.message == said
    assert (caught.value.fix == "Pass RUN/base.safetensors.") == (name == "RUN")


def test_a_folder_of_the_same_name_does_not_hide_shipped_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = find_base("nano")
    monkeypatch.chdir(tmp_path)
    Path("nano").mkdir()
    assert find_base("nano") == shipped


def test_weights_whose_name_was_taken_during_the_work_are_kept(tiny_config: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    path.write_text("another's")
    with pytest.raises(OutputTakenError) as caught:
        save_base(path, BaseModel(tiny_config), overwrite=False)
    assert path.read_text() == "another's" and load_base(caught.value.taken[0][1]).config == tiny_config
    save_base(path, BaseModel(tiny_config))
    assert load_base(path).config == tiny_config
