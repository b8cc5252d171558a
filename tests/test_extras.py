"""Optional dependencies: animating needs none of `train`; commands that need a missing package name its extra."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import megaportraits
from megaportraits.errors import MissingPackageError
from megaportraits.extras import optional_dependency, require

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
TRAIN = [Requirement(line).name.replace("-", "_") for line in EXTRAS["train"]]
BLOCKED = [name for name in TRAIN if name != "scipy"]  # scikit-image, which the demo needs, brings scipy
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED}))\n"
IMPORT_NAMES = {
    "c2pa_python": "c2pa",
    "opencv_python_headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit_image": "skimage",
}
BROUGHT_ALONG = {"fastapi", "google", "h11"}  # by gradio, onnx (protobuf) and uvicorn, which are built on them


def run_without_train(program: str) -> subprocess.CompletedProcess[str]:
    """A program in a fresh interpreter in which the packages of `train` cannot be imported."""
    command = [sys.executable, "-c", BLOCK + program]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_animate_web_live_and_export_import_nothing_of_the_train_extra() -> None:
    program = """
import importlib, pkgutil, megaportraits
rooms = ["commands.animate", "commands.calibrate", "cli", "batch", "pipeline", "live", "web", "export", "runtimes"]
for room in rooms:
    found = importlib.import_module(f"megaportraits.{room}")
    for module in pkgutil.iter_modules(getattr(found, "__path__", []), f"{found.__name__}."):
        if module.name != "megaportraits.runtimes.vino":  # needs the extra `openvino`
            importlib.import_module(module.name)
"""
    result = run_without_train(program)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("command", "package"),
    [
        (["train", "motion", "--config", "nano", "--data", "D", "--out", "O"], "lightning_fabric"),
        (["evaluate", "--clips", "C", "--out", "O"], "torchmetrics"),
        (["synth", "--head", "H", "--out", "O"], "numba"),
        (["distill", "--avatars", "A", "--drivers", "D", "-o", "s.safetensors"], "lightning_fabric"),
    ],
)
def test_commands_that_need_the_train_extra_say_so_before_any_work(command: list[str], package: str) -> None:
    result = run_without_train(f"sys.argv = ['megaportraits', *{command}]\nfrom megaportraits.cli import main; main()")
    assert result.returncode == 1
    assert f"needs the package {package}, which is not installed" in result.stderr
    assert 'pip install "megaportraits[train]"' in result.stderr and "Traceback" not in result.stderr


def test_every_extra_that_an_error_names_is_one_of_the_project() -> None:
    named = set()
    for path in Path(megaportraits.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                extra = node.args[0]
                if node.func.id in ("optional_dependency", "require") and isinstance(extra, ast.Constant):
                    named.add(extra.value)
    assert {"train", "ray", "web", "study", "camera", "export"} <= named <= set(EXTRAS)


def test_every_import_of_the_package_is_a_declared_dependency() -> None:
    declared = {Requirement(line).name.replace("-", "_") for line in PROJECT["dependencies"]}
    declared |= {Requirement(line).name.replace("-", "_") for group in EXTRAS.values() for line in group}
    declared = {IMPORT_NAMES.get(name, name) for name in declared}
    for path in Path(megaportraits.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names):
                assert top in {*declared, *BROUGHT_ALONG, "megaportraits"}, f"{path}: {top}"


def test_a_missing_module_of_this_package_and_an_error_inside_a_package_pass_unchanged() -> None:
    with pytest.raises(ModuleNotFoundError), optional_dependency("train", "A test"):
        import megaportraits.no_such_module  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name"), optional_dependency("train", "A test"):
        from json import no_such_name  # noqa: F401


def test_a_package_that_is_there_passes_and_one_that_is_not_is_named() -> None:
    require("train", "A test", "json")
    with pytest.raises(MissingPackageError, match="A test needs the package no_such_package"):
        require("train", "A test", "json", "no_such_package")
