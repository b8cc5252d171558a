"""The floors of docs/architecture.md: a room imports from its own floor or from lower floors only."""

from __future__ import annotations

import ast
from pathlib import Path

import megaportraits

ROOT = Path(megaportraits.__file__).parent
FLOORS = [
    {"cli", "commands", "web", "__main__"},
    {"batch"},
    {"training", "pipeline", "export", "live"},
    {"prepare"},
    {"evaluation"},
    {"models", "losses", "baselines", "faces", "synth", "data"},
    {"nn"},
    {"ops", "media", "runtimes", "weights", "weights_registry", "engines"},
    {"choices", "config", "errors", "extras", "reading"},
]
LEVEL = {room: len(FLOORS) - i for i, rooms in enumerate(FLOORS) for room in rooms}
SEPARATE = {"training": {"pipeline", "export"}, "pipeline": {"training"}, "export": {"training"}, "live": {"training"}}
for learned in ("models", "losses", "baselines"):
    SEPARATE[learned] = {"faces", "synth", "data"}


def imports(path: Path) -> set[str]:
    """Rooms of this package that a file imports, at any depth."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [
                f"{node.module}.{alias.name}" if node.module == "megaportraits" else node.module for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
        rooms |= {n.split(".")[1] for n in names if n.startswith("megaportraits.")}
    return rooms


def test_every_room_has_a_floor_and_imports_downwards_only() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in LEVEL, f"{path}: the room {room!r} has no floor yet"
        for other in imports(path) - {room, "__version__"}:
            if LEVEL[other] > LEVEL[room] or other in SEPARATE.get(room, set()):
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert wrong == []


def test_errors_and_config_import_no_torch() -> None:
    for path in (
        ROOT / "choices.py",
        ROOT / "errors.py",
        ROOT / "extras.py",
        ROOT / "reading.py",
        *(ROOT / "config").glob("*.py"),
    ):
        assert "import torch" not in path.read_text(encoding="utf-8")


def test_grid_sample_stands_in_one_file_only() -> None:
    places = [
        p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py") if "F.grid_sample(" in p.read_text(encoding="utf-8")
    ]
    assert places == ["ops/warping.py"]


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package is its `__init__`."""
    return {
        ".".join(("megaportraits", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in ROOT.rglob("*.py")
    }


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of this package that a file imports anywhere: also inside functions and for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(known)


def test_no_modules_of_a_room_import_each_other_in_a_circle() -> None:
    known = modules()
    graph = {name: imported_modules(path, known) - {name} for name, path in known.items()}
    for name, path in known.items():
        if path.name == "__init__.py":  # a package collects names of its modules, and they may use the package's
            graph[name] = set()
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for name, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
