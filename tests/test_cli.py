"""The command line as a whole: what every command shares."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from megaportraits import __version__

HEAVY = {
    "PIL",
    "ai_edge_litert",
    "av",
    "cv2",
    "gradio",
    "lightning_fabric",
    "matplotlib",
    "numba",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "pyarrow",
    "ray",
    "safetensors",
    "scipy",
    "skimage",
    "starlette",
    "tensorboard",
    "torch",
    "torchmetrics",
    "torchvision",
    "uvicorn",
    "webdataset",
    "yaml",
}
"""Packages that no answer about the command line itself needs (Typer itself may use pydantic)."""

RUN = """
import json, sys
from megaportraits.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["megaportraits", *arguments]
    try:
        main()
    except SystemExit as end:
        print(f"exit {end.code}")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def run(*commands: list[str]) -> tuple[str, set[str]]:
    """Run command lines in one fresh process: what it prints, and the packages that it has loaded at the end."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands)], capture_output=True, text=True, check=True, timeout=120
    )
    printed, _, modules = done.stdout.rstrip().rpartition("\n")
    return printed + done.stderr, set(json.loads(modules))


def test_version_help_and_typos_load_no_heavy_package() -> None:
    printed, loaded = run(
        ["version"],
        ["--version"],
        ["--help"],
        ["animate", "--help"],
        ["train", "base", "--help"],
        ["animte"],
        ["animate", "--moton", "relative"],
        ["animate", "a.jpg", "b.mp4", "--motion", "sideways"],
        ["export", "bse"],
        ["weights", "pul"],
    )
    assert printed.count(__version__) == 2
    assert "No such command" in printed and "No such option" in printed and "sideways" in printed
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("command", [["animate", "missing.jpg", "missing.mp4"]])
def test_a_file_that_is_missing_is_told_before_torch_is_loaded(command: list[str]) -> None:
    printed, loaded = run(command)
    assert "missing.jpg: no such file" in printed and "exit 1" in printed
    assert "torch" not in loaded
