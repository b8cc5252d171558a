"""Damaged and malicious files of weights are refused by name, before they cost memory or time."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from megaportraits import weights
from megaportraits.config import ModelConfig
from megaportraits.errors import WeightsError
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import (
    find_base,
    load_base,
    load_student,
    save_base,
    save_student,
)
from megaportraits.models.student import Student, StudentConfig
from megaportraits.nn.weights_file import MOST_HEADER
from tests.conftest import TINY_STUDENT


@pytest.fixture
def base(tiny_config: ModelConfig, tmp_path: Path) -> Path:
    save_base(tmp_path / "base.safetensors", BaseModel(tiny_config))
    return tmp_path / "base.safetensors"


def with_header(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with its header changed; the numbers stay."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return path


def with_config(path: Path, **values: Any) -> Path:
    def change(header: dict[str, Any]) -> None:
        config = json.loads(header["__metadata__"]["config"])
        for key, value in values.items():
            section, _, name = key.rpartition("__")
            (config[section] if section else config)[name] = value
        header["__metadata__"]["config"] = json.dumps(config)

    return with_header(path, change)


def with_text(path: Path, key: str, text: str) -> Path:
    return with_header(path, lambda header: header["__metadata__"].update({key: text}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"generator_2d__blocks": 10**8}, r"generator_2d\.blocks: .*less than or equal to 128"),
        ({"appearance__blocks_3d": 128}, "tensor 'appearance.volume.blocks_3d"),
        ({"volume_channels": 8192, "volume_depth": 512}, "tensor"),  # 10^12 numbers, were they asked for
        ({"groups": 0}, "groups: .*greater than or equal to 1"),
        ({"image_size": -32}, "image_size"),
        ({"motion__face_cm": float("nan")}, "face_cm: .*finite"),
        ({"warp__upsample": [[2, 2, 2]]}, "widths has 2 entries and upsample 1"),
        ({"generator_3d__strides": [[0, 2, 2], [2, 2, 2]]}, "strides"),
    ],
)
def test_metadata_out_of_range_is_refused_by_its_name(base: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_base(with_config(base, **values))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
        ("no json", "not valid JSON"),
        ("[1, 2]", "valid dictionary"),
        ('{"image_size": ' + "9" * 5000 + "}", "not valid JSON"),
        (json.dumps({f"k{i}": i for i in range(10_000)}), r"10000 problem\(s\)[\s\S]*and 9980 more"),
    ],
)
def test_metadata_that_is_no_config_is_refused(base: Path, text: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_base(with_text(base, "config", text))


def test_hundreds_of_thousands_of_tensors_are_refused_unread(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = '"t000000":{"dtype":"F16","shape":[0],"data_offsets":[0,0]},'
    header = 300_000 * len(entry)
    assert header > MOST_HEADER
    content = base.read_bytes()
    base.write_bytes(struct.pack("<Q", header) + content[8:])
    with pytest.raises(WeightsError, match="expected a header of at most 4,194,304 bytes, got"):
        load_base(base)
    base.write_bytes(content)
    monkeypatch.setattr("megaportraits.nn.weights_file.MOST_TENSORS", 100)
    with pytest.raises(WeightsError, match="expected at most 100 tensors, got"):
        load_base(base)


def test_a_weight_that_is_not_finite_is_refused_on_loading_and_on_saving(base: Path, tmp_path: Path) -> None:
    model = load_base(base)
    content = bytearray(base.read_bytes())
    content[-2:] = np.float16(np.nan).tobytes()
    base.write_bytes(content)
    with pytest.raises(WeightsError, match=r"1 of \d+ numbers of the tensor [\w.]+ are not finite"):
        load_base(base)
    with torch.no_grad():
        model.embed_z.bias[0] = 70_000  # more than float16 can hold
    with pytest.raises(WeightsError, match=r"1 of .* numbers of the tensor embed_z\.bias are not finite"):
        save_base(tmp_path / "other.safetensors", model)
    assert [path.name for path in tmp_path.iterdir()] == ["base.safetensors"]


def test_a_flipped_bit_in_shipped_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = tmp_path / "assets"
    (assets / "nano").mkdir(parents=True)
    shutil.copy(weights.assets() / weights.HASHES, assets)
    shutil.copy(find_base("nano"), assets / "nano")
    monkeypatch.setattr(weights, "assets", lambda: assets)
    monkeypatch.setattr("megaportraits.models.storage.assets", lambda: assets)
    assert load_base("nano").config.name == "nano-256"
    path = assets / "nano" / "base.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 0b01000000  # the exponent's highest bit
    path.write_bytes(content)
    for way in ("nano", path):
        with pytest.raises(
            WeightsError, match=r"base\.safetensors is damaged: its SHA-256 is not the one in SHA256SUMS"
        ):
            load_base(way)
    (assets / weights.HASHES).write_text("")
    with pytest.raises(WeightsError, match="damaged"):
        load_base("nano")


@pytest.mark.parametrize("avatars", ["", "[]", "[1]", '{"a": 1}', '["a", "a"]', '[""]', "[" * 100_000])
def test_a_student_without_a_list_of_names_is_refused(avatars: str, tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    save_student(path, Student(StudentConfig.model_validate(TINY_STUDENT), ["ada", "bo"]))
    assert load_student(path).avatars == ("ada", "bo")
    with pytest.raises(WeightsError, match="avatars"):
        load_student(with_text(path, "avatars", avatars))


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 64, b"PK\3\4" + bytes(60), b"\x02\0\0\0\0\0\0\0{}"])
def test_what_is_no_file_of_weights_is_an_error_of_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        load_base(path)
