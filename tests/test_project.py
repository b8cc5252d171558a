"""Versions and metadata of the project agree in all files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from megaportraits import __version__, weights

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_of_the_package_is_that_of_the_shipped_weights() -> None:
    card = (weights.assets() / "nano/MODEL_CARD.md").read_text(encoding="utf-8")
    found = re.match(r"# Model card: `nano`, version (\d+\.\d+)\n", card)
    assert found is not None
    assert __version__.rpartition(".")[0] == found[1]


def test_the_metadata_name_no_person_and_no_address() -> None:
    assert PROJECT["authors"] == [{"name": "MegaPortraits contributors"}]
    assert "urls" not in PROJECT and "maintainers" not in PROJECT


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]


def test_the_dockerfile_installs_by_the_commands_of_the_readme() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    ran = [line.removeprefix("RUN ") for line in lines if line.startswith("RUN ")]
    readme = [line.split("  ")[0] for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()]
    assert len(ran) == 3
    assert [line for line in readme if line in ran][:3] == ran


def test_the_dockerfile_copies_what_the_build_needs_and_nothing_is_ignored_of_it() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "src"} == copied
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(allowed)


def test_the_workflow_runs_what_decides_here_on_three_systems_and_builds_the_package() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    systems = {entry["os"].split("-")[0] for entry in jobs["check"]["strategy"]["matrix"]["include"]}
    assert systems == {"ubuntu", "macos", "windows"}
    assert ".ci/run" in [step.get("run") for step in jobs["check"]["steps"]]
    assert "python -m build" in [step.get("run") for step in jobs["package"]["steps"]]
    assert "mkdocs build --strict" in [step.get("run") for step in jobs["site"]["steps"]]


def test_every_form_asks_for_what_is_needed() -> None:
    for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name != "config.yml":
            assert form["name"] and form["description"]
            assert any(part.get("validations", {}).get("required") for part in form["body"]), path.name


def test_the_constraints_pin_every_dependency_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = PROJECT["optional-dependencies"]
    needed = [
        Requirement(line)
        for line in [*PROJECT["dependencies"], *extras["dev"], *extras["train"], *extras["web"], *extras["credentials"]]
    ]
    for requirement in needed:
        name = requirement.name.lower()
        if name not in ("torch", "torchvision", "megaportraits"):
            assert requirement.specifier.contains(pins[name]), name
    assert "torch" not in pins and not any(name.startswith("nvidia") for name in pins)


def test_what_make_and_ci_run_needs_no_tool_that_macos_or_windows_lack() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8") + (ROOT / ".ci/run").read_text(encoding="utf-8")
    for tool in ("sha256sum", "readlink -f", "nproc", "sed -i", "realpath", "timeout "):
        assert tool not in text
    for file in (".ci/run", "Makefile", "src/megaportraits/assets/SHA256SUMS"):
        assert b"\r" not in (ROOT / file).read_bytes()
