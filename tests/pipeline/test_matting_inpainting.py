"""`--matting modnet` and `--inpainting lama`, with networks in files that users provide."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from megaportraits import weights
from megaportraits.cli import app
from megaportraits.config import ModelConfig
from megaportraits.errors import WeightsError
from megaportraits.faces.matting import PortraitMatting
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import save_base
from megaportraits.pipeline import Avatar
from tests.faces.test_lama import _Red
from tests.onnx_files import blink_file, matting_file

pytest.importorskip("onnxruntime")
ADA = weights.assets() / "demo" / "avatars" / "ada.jpg"


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """MODNet whose alpha is the red channel, and LaMa that paints red; the names that were fetched."""
    lama = tmp_path / "big-lama.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(_Red()), str(lama))
    files = {"modnet": matting_file(tmp_path / "modnet.onnx"), "lama": lama}
    fetched: list[str] = []
    fetch: Callable[..., Path] = weights.fetch

    def given(name: str, **kwargs: object) -> Path:
        fetched.append(name)
        return files[name] if name in files else fetch(name, **kwargs)

    monkeypatch.setattr(weights, "fetch", given)
    try:
        fetch("face_landmarker")
    except WeightsError as error:
        pytest.skip(f"weights cannot be had: {error}")
    return fetched


@pytest.mark.filterwarnings("ignore")
def test_the_matte_is_the_networks_and_the_background_the_inpainters(
    tiny_config: ModelConfig, brought: list[str]
) -> None:
    portrait = Avatar(BaseModel(tiny_config), matting="modnet", inpainting="lama").encode(ADA)
    assert {"modnet", "lama"} <= set(brought) and "selfie_segmenter" not in brought
    red = portrait.square[..., 0].astype(np.float32) / 255
    face = portrait.matte > 0.05
    assert 0.05 < face.mean() < 1
    # The face is filled; elsewhere the matte is the red channel or, away from the face's region, nothing.
    near = (np.abs(portrait.matte - red) < 0.08) | (portrait.matte < 0.08) | (portrait.matte > 0.95)
    assert near.mean() > 0.9
    hole = cv2.erode((portrait.matte > 0.02).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert (portrait.plate[hole] == (255, 0, 0)).all(1).mean() > 0.9


@pytest.mark.filterwarnings("ignore")
def test_the_command_line_chooses_both(tiny_config: ModelConfig, tmp_path: Path, brought: list[str]) -> None:
    save_base(tmp_path / "tiny.safetensors", BaseModel(tiny_config))
    line = [
        "animate",
        str(ADA),
        str(ADA),
        "-o",
        str(tmp_path / "out.png"),
        "--weights",
        str(tmp_path / "tiny.safetensors"),
    ]
    result = CliRunner().invoke(app, [*line, "--matting", "modnet", "--inpainting", "lama"], catch_exceptions=False)
    assert result.exit_code == 0 and (tmp_path / "out.png").is_file()
    assert {"modnet", "lama"} <= set(brought)


def test_a_file_with_another_interface_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected a matting network with the inputs"):
        PortraitMatting(blink_file(tmp_path / "blink.onnx"))
