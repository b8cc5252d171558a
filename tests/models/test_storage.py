"""Models as files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from megaportraits.config import ModelConfig
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import load_base, save_base


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
