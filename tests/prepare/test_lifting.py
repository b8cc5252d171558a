from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from megaportraits.errors import DataError
from megaportraits.media import read_image, write_image
from megaportraits.prepare import lifting
from megaportraits.prepare.lifting import lift_stills
from megaportraits.synth.plan import SynthSettings, find_portraits
from tests.prepare.damage import portrait


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[SynthSettings]:
    """What `synth` was asked to make, in place of making it."""
    calls: list[SynthSettings] = []

    def generate(settings: SynthSettings, out: Path, **options: Any) -> dict[str, int]:
        calls.append(settings)
        out.mkdir(exist_ok=True)
        return {"clips": settings.clips}

    monkeypatch.setattr(lifting, "generate", generate)
    return calls


def still(path: Path, key: str, verdict: str = "kept", kind: str = "still") -> dict[str, Any]:
    return {"kind": kind, "verdict": verdict, "item": key, "address": str(path)}


def lift(rows: list[dict[str, Any]], out: Path) -> dict[str, Any]:
    return lift_stills(rows, out, head=out / "head.npz", size=64, clips=None, workers=1)


def test_kept_stills_and_no_others_are_lifted_four_times(tmp_path: Path, asked: list[SynthSettings]) -> None:
    png, bmp = (write_image(tmp_path / name, portrait(0)) for name in ("a.png", "b.bmp"))
    rows = [still(png, "a-1"), still(bmp, "b-2"), still(png, "c-3", "crop"), still(png, "d-4", kind="video")]
    out = tmp_path / "out"
    out.mkdir()
    assert lift(rows, out) == {"clips": 8}
    (settings,) = asked
    assert (settings.size, settings.lifted_share, settings.portraits) == (64, 1.0, out / "portraits")
    assert find_portraits(out / "portraits") == ["a-1.png", "b-2.bmp"]
    assert (out / "portraits/a-1.png").is_symlink()
    assert (read_image(out / "portraits/b-2.bmp") == portrait(0)).all()


def test_other_stills_are_lifted_anew_and_equal_ones_go_on(tmp_path: Path, asked: list[SynthSettings]) -> None:
    png = write_image(tmp_path / "a.png", portrait(0))
    out = tmp_path / "out"
    out.mkdir()
    lift([still(png, "a-1")], out)
    (out / "lifted/half done").touch()
    lift([still(png, "a-1")], out)
    assert (out / "lifted/half done").exists()
    lift([still(png, "a-1"), still(png, "b-2")], out)
    assert not (out / "lifted/half done").exists()
    assert find_portraits(out / "portraits") == ["a-1.png", "b-2.png"]


def test_without_stills_there_is_nothing_to_lift(tmp_path: Path, asked: list[SynthSettings]) -> None:
    with pytest.raises(DataError, match="No still"):
        lift([], tmp_path)
    assert asked == []
