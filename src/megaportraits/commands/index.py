"""`megaportraits index`: build the index of folders of shards with several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def index(
    folders: Annotated[list[Path], typer.Argument(help="Folders of shards, or folders that contain such folders.")],
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
) -> None:
    """Update the index of shards. `synth` and `prepare` do this too; training does it with one process."""
    from megaportraits.commands.progress import frame_progress
    from megaportraits.data.index import refresh
    from megaportraits.data.shard_index import CLIP_SHARDS
    from megaportraits.errors import DataError
    from megaportraits.reading import access

    for folder in folders:
        with access(folder, DataError):
            found = sorted({shard.parent for shard in folder.rglob(CLIP_SHARDS)})
        if not found:
            raise DataError(
                f"No shards {CLIP_SHARDS} in {folder}.",
                fix="Make them with `megaportraits synth` or `megaportraits prepare`.",
            )
        for place in found:
            with frame_progress(f"{place}, shards") as advance:
                clips = refresh(place, workers=workers, on_progress=advance)
            typer.echo(f"{place}: {clips:,} clips")
