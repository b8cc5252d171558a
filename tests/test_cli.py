"""Rules that all commands share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from megaportraits import __version__
from megaportraits.cli import app
from megaportraits.errors import MediaError, MegaPortraitsError

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
def test_a_file_that_is_missing_is_reported_before_torch_is_loaded(command: list[str]) -> None:
    printed, loaded = run(command)
    assert "missing.jpg: no such file" in printed and "exit 1" in printed
    assert "torch" not in loaded


def commands() -> dict[str, list[Any]]:
    """Every command's parameters by its words."""
    found: dict[str, list[Any]] = {}

    def walk(command: Any, *words: str) -> None:
        for name, below in getattr(command, "commands", {}).items():
            walk(below, *words, name)
        if not hasattr(command, "commands"):
            found[" ".join(words)] = [parameter for parameter in command.params if parameter.name != "help"]

    walk(typer.main.get_command(app))
    return found


COMMANDS = commands()
ONE_OR_MANY = {"animate"}
"""Commands that write one file to --output, or many into --out."""
WRITE_NOTHING = {
    "credentials show",
    "index",
    "version",
    "web",
    "study serve",
    "student info",
    "weights pull",
    "weights list",
    "weights verify",
}
GO_ON = {"prepare", "synth", "study make"}
"""Commands without --resume that resume an unfinished folder and refuse any other that is not empty."""
SHARED_DEFAULTS = ("--pose", "--device", "--weights", "--teacher", "--scale-from", "--hr", "--resume", "--overwrite")


def options(command: str) -> dict[str, Any]:
    return {name: p for p in COMMANDS[command] for name in p.opts if name.startswith("-")}


def test_the_walk_over_all_commands_finds_them() -> None:
    assert {"animate", "train base", "export page", "study make", "student add", "weights pull"} <= COMMANDS.keys()
    assert options("animate").keys() >= {"--output", "-o", "--pose", "--overwrite"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_is_written_to_output_and_a_folder_to_out(command: str) -> None:
    taken = options(command)
    writes = {"--output", "--out"} & taken.keys()
    expected = 2 if command in ONE_OR_MANY else int(command not in WRITE_NOTHING)
    assert len(writes) == expected, f"{command}: one of --output and --out, got {writes}"
    assert ("-o" in taken) == ("--output" in taken)
    if "--output" in taken:
        assert set(taken["--output"].opts) == {"--output", "-o"}
    if "--out" in taken:
        assert set(taken["--out"].opts) == {"--out"}
        assert "folder" in taken["--out"].help.lower()
    assert not {"out", "output"} & {p.name for p in COMMANDS[command] if p.param_type_name == "argument"}


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - WRITE_NOTHING - GO_ON))
def test_what_a_command_writes_can_be_replaced_when_that_is_asked_for(command: str) -> None:
    taken = options(command)
    assert "--overwrite" in taken or ("--out" in taken and "--resume" in taken)


@pytest.mark.parametrize("name", SHARED_DEFAULTS)
def test_an_option_has_the_same_default_in_all_commands(name: str) -> None:
    # `evaluate --weights` takes several, `evaluate --teacher` is needed by one protocol only.
    several = {"evaluate"} if name in ("--weights", "--teacher") else set()
    defaults = {c: options(c)[name].default for c in COMMANDS.keys() - several if name in options(c)}
    assert len(defaults) > 1 and len(set(defaults.values())) == 1, defaults


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("evaluate --clips no-such-folder", "report.json"),
        ("ablate --config nano --data no-such-folder --samples 1 --clips no-such-folder", "ablation.md"),
        ("evaluate-hr --photos no-such-folder --enhancer no-such.safetensors", "hr.md"),
        ("student report nano --run no-such-folder", "pictures.png"),
        ("demo --weights no-such-weights", "result.mp4"),
    ],
)
def test_a_finished_result_is_refused_before_any_work_and_replaced_only_when_asked(
    line: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"mine")
    arguments = [*line.split(), "--out", str(tmp_path)]
    refused = CliRunner().invoke(app, arguments).exception
    assert isinstance(refused, MediaError) and refused.message == f"{tmp_path / name}: the file exists already"
    asked = CliRunner().invoke(app, [*arguments, "--overwrite"]).exception
    assert isinstance(asked, MegaPortraitsError) and "no-such" in asked.message
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"mine"
