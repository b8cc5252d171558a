"""Turn accepted stills into moving clips by `synth`, in the same format, so that training can use both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from megaportraits.errors import DataError
from megaportraits.media import PICTURE_SUFFIXES, read_image, write_image
from megaportraits.media.folders import write_json
from megaportraits.media.staging import link_or_copy
from megaportraits.prepare.filters import KEPT, ClipRow
from megaportraits.prepare.sources import local_copy
from megaportraits.synth.generate import SynthProgress, generate
from megaportraits.synth.plan import SynthSettings

_CLIPS_PER_STILL = 4


def lift_stills(
    rows: Sequence[ClipRow],
    out: Path,
    *,
    head: Path,
    size: int,
    clips: int | None,
    workers: int,
    on_progress: Callable[[SynthProgress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Make clips from every accepted still, in `out/lifted/train` and `out/lifted/val`.

    Args:
        rows: filtered clips; accepted ones of kind "still" are used.
        out: the prepare folder.
        head: of `SynthSettings`.
        size: of the frames.
        clips: to make; None makes four for each still.
        workers: processes.
        on_progress: of `synth.generate.generate`.

    Returns:
        `generate`'s counts.
    """
    stills = sorted(
        (row for row in rows if row["kind"] == "still" and row["verdict"] == KEPT), key=lambda row: row["item"]
    )
    if not stills:
        raise DataError(
            "No still passed the filters, so no clips can be made from stills.",
            fix="Lower the thresholds, or omit --head.",
        )
    folder, lifted, note = out / "portraits", out / "lifted", out / "portraits.json"
    names = [row["item"] for row in stills]
    if not note.is_file() or note.read_text() != _note(names):
        # The portraits changed, which changes the person of every clip.
        shutil.rmtree(lifted, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for row in stills:
            _place(row["address"], folder, row["item"])
        write_json(note, names)
    wanted = clips or _CLIPS_PER_STILL * len(stills)
    settings = SynthSettings(portraits=folder, head=head, clips=wanted, size=size, lifted_share=1.0)
    return dict(generate(settings, lifted, workers=workers, on_progress=on_progress))


def _note(names: list[str]) -> str:
    return json.dumps(names) + "\n"


def _place(address: str, folder: Path, name: str) -> None:
    """A still under its key: a link when it is local and `synth` can read it, a copy otherwise."""
    suffix = PurePosixPath(address).suffix.lower()
    if "://" not in address and suffix in PICTURE_SUFFIXES:
        link_or_copy(Path(address), folder / f"{name}{suffix}")
        return
    with local_copy(address) as path:
        write_image(folder / f"{name}.png", read_image(path))
