"""The index of all clips, accepted and dropped, with every number: CSV, and Parquet if pyarrow is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from megaportraits.errors import DataError
from megaportraits.extras import optional_dependency
from megaportraits.media.folders import write_whole
from megaportraits.prepare.filters import ClipRow
from megaportraits.reading import FAULTS

TEXT = ("key", "item", "kind", "name", "address", "identity", "person", "prescribed", "split", "verdict", "iqa_name")
WHOLE = ("frames", "size", "people", "width", "height")
NUMBERS = (
    *("crop_px", "inside", "bitrate", "presence", "sharpness", "iqa", "video_iqa", "iris_ratio", "age"),
    *("same_person", "duplicate", "leak", "start", "seconds", "video_fps", "expression_range", "jaw_open"),
    *("yaw", "pitch", "roll", "yaw_range", "pitch_range", "roll_range"),
)

MOST_ROWS = 20_000_000


def write_index(rows: Sequence[ClipRow], out: Path) -> list[Path]:
    """Write `index.csv` (no embeddings) and, if pyarrow is installed, `index.parquet`. Returns the files."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*TEXT, *WHOLE, *NUMBERS], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    paths = [out / "index.csv"]
    write_whole(paths[0], text.getvalue().encode())
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return paths
    types = dict.fromkeys(TEXT, pa.string()) | dict.fromkeys(WHOLE, pa.int32()) | dict.fromkeys(NUMBERS, pa.float64())
    types["embedding"] = pa.list_(pa.float32())
    table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})
    content = io.BytesIO()
    pq.write_table(table, content)
    paths.append(out / "index.parquet")
    write_whole(paths[1], content.getvalue())
    return paths


def read_parquet(file: IO[bytes], where: str) -> list[dict[str, Any]]:
    """The rows of a Parquet table; `where` names it in messages.

    Raises:
        MissingPackageError: pyarrow is not installed.
        DataError: it is no Parquet table, or has more than `MOST_ROWS`.
    """
    with optional_dependency("prepare", "Reading Parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        table = pq.ParquetFile(file)
        if table.metadata.num_rows > MOST_ROWS:
            raise ValueError(f"expected at most {MOST_ROWS:,} rows, got {table.metadata.num_rows:,}")
        return list(table.read().to_pylist())
    except (pa.ArrowException, MemoryError, *FAULTS) as error:
        raise DataError(f"{where} is not a readable Parquet table: {error}", fix="Write it again.") from error
