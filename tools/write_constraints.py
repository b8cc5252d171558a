"""Write constraints.txt: the exact versions of this environment's packages, for reproducible builds.

torch, torchvision and the CUDA packages that torch requires are left out, because the right build depends on the
machine.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
HEAD = """\
# Exact versions for builds that repeat: pip install -e '.[dev]' -c constraints.txt
# Written by `make clean constraints`. torch and torchvision are absent: their build depends on the machine.
"""
OF_THE_MACHINE = {"torch", "torchvision", "megaportraits"}


def names(requirement: Requirement, seen: set[tuple[str, str]]) -> set[str]:
    """Names of a requirement's package and its dependencies, by `pyproject.toml` and the packages' metadata."""
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    found: set[str] = {name}
    for extra in requirement.extras or {""}:
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in _requires(name):
            needed = Requirement(line)
            environment = {**default_environment(), "extra": extra}
            if needed.marker is None or needed.marker.evaluate(environment):
                if name in OF_THE_MACHINE - {"megaportraits"} and re.match(r"nvidia|cuda|triton", needed.name):
                    continue
                found |= names(needed, seen)
    return found


def _requires(name: str) -> list[str]:
    """A package's requirements by its metadata; for this project, by `pyproject.toml`."""
    if name != "megaportraits":
        return distribution(name).requires or []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    return project["dependencies"] + [f'{line}; extra == "{extra}"' for extra, lines in extras for line in lines]


def main() -> None:
    """Write the file beside pyproject.toml."""
    found = sorted(names(Requirement("megaportraits[dev]"), set()) - OF_THE_MACHINE)
    lines = "".join(f"{name}=={version(name).partition('+')[0]}\n" for name in found)
    (ROOT / "constraints.txt").write_text(HEAD + lines, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
