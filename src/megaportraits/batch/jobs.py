"""Find jobs from files, folders, globs and lists. Imports no torch."""

from __future__ import annotations

import csv
import glob
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath

from megaportraits.batch.cells import split_options
from megaportraits.errors import ConfigError, DataError, MediaError, MegaPortraitsError
from megaportraits.media import FOOTAGE_SUFFIXES, PICTURE_SUFFIXES, check_input, is_video
from megaportraits.pipeline.options import ALL_FACES, AnimateOptions
from megaportraits.pipeline.plan import check_distinct, check_driver_count, joined_stems, result_name
from megaportraits.reading import read_text

_COLUMNS = ("source", "driver", "output", "side_by_side", "options")
_SAVE = "Save the table as CSV, UTF-8."


@dataclass(frozen=True)
class Job:
    """One output picture or video.

    Attributes:
        source: file that shows the person or the group.
        drivers: file that shows the motion; several with `face="all"`, one for each face from left to right.
        output: the result, relative to the output folder.
        options: see `AnimateOptions`.
        side_by_side: None, or the file with source, driver and result in a row, relative to the output folder.

    Raises:
        ConfigError: a result is outside the output folder, or both results have the same name.
    """

    source: Path
    drivers: tuple[Path, ...]
    output: PurePath
    options: AnimateOptions
    side_by_side: PurePath | None = None

    def __post_init__(self) -> None:
        for path in self.outputs.values():
            if path.is_absolute() or ".." in path.parts or not path.name or path.parts[0].startswith("."):
                raise ConfigError(
                    f"{path}: expected a file inside the output folder.",
                    fix="Name it like alice.mp4 or team/alice.mp4.",
                )
        check_distinct(self.output, self.side_by_side)

    @property
    def outputs(self) -> dict[str, PurePath]:
        """Results by their role."""
        beside = {} if self.side_by_side is None else {"side_by_side": self.side_by_side}
        return {"output": self.output, **beside}

    @property
    def inputs(self) -> dict[str, Path]:
        """Files that are read, by their role."""
        return {"source": self.source, **{f"driver {n}": path for n, path in enumerate(self.drivers, 1)}}


def find_jobs(
    sources: Sequence[str | Path],
    drivers: Sequence[str | Path],
    options: AnimateOptions | None = None,
    *,
    out: Path,
    signed: bool = False,
) -> list[Job]:
    """Every source with every driver.

    A result is named SOURCE_DRIVER, in the sub-folder in which its source was found. With `face="all"`, driver files
    animate the faces from left to right, so that a source makes one job; drivers from a folder make one job each.

    Args:
        sources: files, folders (searched at any depth) and globs.
        drivers: the same.
        options: of all jobs.
        out: the output folder; no inputs are taken from it.
        signed: whether results will carry content credentials.

    Raises:
        MediaError: a folder or glob holds no pictures and no videos.
        ConfigError: a source or driver is missing, pictures and videos are mixed as drivers, `out` is where the
            inputs are, or two jobs have one name.
    """
    options = options or AnimateOptions()
    people = [found for given in sources for found in _expand(given, out)]
    if not people or not drivers:
        raise ConfigError("Expected a source and a driver.", fix="Name both, or a list (.csv) that does.")
    casts = _casts(drivers, options, out)
    stems = Counter((place.parent, place.stem) for _, place in people)
    jobs = []
    for source, place in people:
        own = place.stem if stems[place.parent, place.stem] == 1 else place.name.replace(".", "-")
        for cast, name in casts:
            output = place.parent / _result_name(own, name, cast, options, signed=signed)
            jobs.append(Job(source, cast, output, options))
    check_names(jobs)
    return jobs


def read_list(
    path: Path,
    drivers: Sequence[str | Path] = (),
    options: AnimateOptions | None = None,
    *,
    signed: bool = False,
) -> list[Job]:
    """The jobs of a list, a CSV file in UTF-8 with a header.

    Columns: source; driver (several, separated by `;`, for the faces of a group); output; side_by_side; options, as on
    the command line; and one for any field of `AnimateOptions`. Paths are relative to the list, results to the output
    folder. An empty cell has the value of the arguments, an empty output is SOURCE_DRIVER.

    Args:
        path: the list.
        drivers: for rows without a driver.
        options: for options that a row does not set.
        signed: whether results will carry content credentials.

    Raises:
        DataError: the list cannot be read, names nothing, or a row is not valid.
    """
    options = options or AnimateOptions()
    jobs = []
    for number, row in _rows(path):
        try:
            jobs.append(_job(row, path.parent, drivers, options, signed=signed))
        except MegaPortraitsError as error:
            raise DataError(f"{path}, line {number}: {error.message}", fix=error.fix) from error
    if not jobs:
        raise DataError(f"{path}: expected a line for each job below the header, got none.", fix=_explained())
    check_names(jobs)
    return jobs


def check_names(jobs: Sequence[Job]) -> None:
    """Refuse two results of one name.

    Raises:
        ConfigError: two jobs have the same name.
    """
    names = Counter(path for job in jobs for path in job.outputs.values())
    name, count = names.most_common(1)[0]
    if count > 1:
        raise ConfigError(
            f"{name}: {count} results have this name.", fix="Name them in a list (.csv), in the column output."
        )


def is_list(path: str | Path) -> bool:
    """Whether a source argument is a job list."""
    return Path(path).suffix.lower() == ".csv"


def is_many(path: str | Path) -> bool:
    """Whether a source or driver argument can mean several files."""
    return is_list(path) or Path(path).is_dir() or _is_glob(path)


def _is_glob(path: str | Path) -> bool:
    return glob.has_magic(str(path)) and not Path(path).exists()


def _expand(given: str | Path, out: Path) -> list[tuple[Path, PurePath]]:
    """Files, each with its path relative to the argument."""
    folder = Path(given)
    if _is_glob(given):
        names = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207 (Path.glob takes no absolute patterns)
        files = [Path(name) for name in names if Path(name).is_file()]
        found = [(file, PurePath(file.name)) for file in files]
    elif folder.is_dir():
        if folder.resolve() == out.resolve():
            raise ConfigError(
                f"{folder}: results would be written among the files that they are made from.",
                fix="Choose another --out.",
            )
        found = [
            (file, file.relative_to(folder))
            for file in sorted(folder.rglob("*"))
            if file.suffix.lower() in (*PICTURE_SUFFIXES, *FOOTAGE_SUFFIXES)
            and not any(part.startswith(".") for part in file.relative_to(folder).parts)
            and file.is_file()
            and not file.resolve().is_relative_to(out.resolve())
        ]
    else:
        return [(folder, PurePath(folder.name))]
    if not found:
        raise MediaError(f"{given}: expected pictures or videos, found none", fix="Check the path.")
    return found


def _casts(drivers: Sequence[str | Path], options: AnimateOptions, out: Path) -> list[tuple[tuple[Path, ...], str]]:
    """The drivers of one job each, and their part in its name."""
    if options.face == ALL_FACES and not any(is_many(driver) for driver in drivers):
        files = tuple(Path(driver) for driver in drivers)
        return [(files, joined_stems(files))]
    found = [each for given in drivers for each in _expand(given, out)]
    stems = Counter(place.stem for _, place in found)
    named = [driver for driver in drivers if not is_many(driver)]
    kinds = {_moves(Path(driver)) for driver in named}
    if len(kinds) > 1:
        raise ConfigError(
            f"Expected drivers of one kind, got pictures and videos among {', '.join(map(str, named))[:200]}.",
            fix='The first name is the source, the others are drivers. Quote a glob of sources: "photos/*.jpg".',
        )
    return [((file,), place.stem if stems[place.stem] == 1 else place.name.replace(".", "-")) for file, place in found]


def _moves(path: Path) -> bool:
    """Whether a driver is a video; an unreadable one counts as a video until its job reports the error."""
    try:
        status = check_input(path).stat()
        return _is_video(path, status.st_size, status.st_mtime_ns)
    except MediaError:
        return True


@lru_cache(maxsize=1024)
def _is_video(path: Path, size: int, changed: int) -> bool:
    """`is_video`, once for all jobs of a driver; size and time are part of the cache's key."""
    return is_video(path)


def _result_name(source: str, driver: str, files: Sequence[Path], options: AnimateOptions, *, signed: bool) -> str:
    return result_name(source, driver, options, moving=any(_moves(file) for file in files), signed=signed)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines of a list as non-empty cells by column, with their numbers."""
    text = read_text(path, DataError, fix=_SAVE)
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        names = [name.strip().lower().replace("-", "_") for name in next(reader, [])]
        if "source" not in names or len(set(names)) < len(names):
            raise DataError(
                f"{path}: expected a header with a column source, got {', '.join(names)[:200]!r}",
                fix=_explained(",".join(names)),
            )
        for row in reader:
            if len(row) > len(names):
                raise DataError(f"{path}, line {reader.line_num}: expected {len(names)} cells, got {len(row)}")
            cells = {name: cell.strip() for name, cell in zip(names, row, strict=False) if cell.strip()}
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: expected a CSV file ({error})", fix=_SAVE) from error


def _job(
    row: Mapping[str, str],
    base: Path,
    drivers: Sequence[str | Path],
    options: AnimateOptions,
    *,
    signed: bool,
) -> Job:
    cells = {name: text for name, text in row.items() if name not in _COLUMNS}
    cells |= split_options(row.get("options", ""))
    chosen = AnimateOptions.of(cells, options)
    if "source" not in row:
        raise ConfigError("Expected a source, got an empty cell.", fix=_explained())
    source = base / row["source"]
    cast = tuple(base / name.strip() for name in row.get("driver", "").split(";") if name.strip())
    cast = cast or tuple(Path(driver) for driver in drivers)
    if not cast:
        raise ConfigError("Expected a driver, got an empty cell.", fix="Name one there or on the command line.")
    check_driver_count(cast, chosen)
    output = row.get("output") or _result_name(source.stem, joined_stems(cast), cast, chosen, signed=signed)
    beside = PurePath(row["side_by_side"]) if "side_by_side" in row else None
    return Job(source, cast, PurePath(output), chosen, beside)


def _explained(header: str = "source") -> str:
    columns = (
        "Columns are source (required), driver, output, side_by_side, options, and names of options such as motion."
    )
    return f"Separate the columns with commas, not semicolons. {columns}" if ";" in header else columns
