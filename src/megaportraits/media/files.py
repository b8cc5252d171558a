"""Checks before files are read and written, and the names of outputs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from megaportraits.errors import MediaError, OutputTakenError, SigningError
from megaportraits.reading import access, is_folder

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
"""A scheme of two letters or more, which excludes Windows drive letters. `Path` merges the two slashes into one."""


def as_address(name: str | Path) -> str | None:
    """The URL if a name is one, for example `https://host/file`; None for file names."""
    found = _ADDRESS.fullmatch(str(name))
    if found is None:
        return None
    return f"{found[1]}:{'///' if found[1] == 'file' else '//'}{found[2]}"


def check_input(path: str | Path) -> Path:
    """A path that can be read as a file.

    Raises:
        MediaError: the file does not exist, is a folder, is empty or is not readable; the name is a URL or "-".
    """
    path = Path(path)
    with access(path, MediaError):
        there = path.exists()
    if not there:
        _refuse_streams(path, reading=True)
    if is_folder(path, MediaError):
        raise MediaError(f"{path}: expected a file, got a folder", fix="Name one image or video inside it.")
    if not path.exists():
        if path.is_symlink():
            raise MediaError(f"{path}: a symbolic link that leads to no file", fix="Link it to a file, or remove it.")
        raise MediaError(f"{path}: no such file", fix="Check the spelling of the path.")
    if not path.is_file():
        raise MediaError(f"{path}: expected a file, got a pipe or a device", fix="Save it as a file first.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty (0 bytes)", fix="Export or download it again.")
    if not os.access(path, os.R_OK):
        raise MediaError(f"{path}: the file may not be read", fix="Change its permissions.")
    return path


def check_output(
    path: str | Path, *, overwrite: bool, inputs: Iterable[str | Path] = (), suffixes: Sequence[str] = ()
) -> Path:
    """A path that may be written.

    Args:
        path: the file to be written.
        overwrite: whether an existing file may be replaced.
        inputs: files that are read in the same run; they are never replaced, whatever `overwrite` says.
        suffixes: endings that the name may have, in lower case; none: any.

    Raises:
        MediaError: the path is a folder, is one of the inputs, has another ending, or exists and `overwrite` is false;
            the name is an address or "-".
    """
    path = Path(path)
    _refuse_streams(path, reading=False)
    if is_folder(path, MediaError):
        raise MediaError(f"{path}: expected a file name, got a folder", fix="Add a file name, as in out/result.mp4.")
    if suffixes and path.suffix.lower() not in suffixes:
        raise MediaError(
            f"{path}: expected a {' or '.join(suffixes)} file, got {path.suffix!r}",
            fix=f"For example {path.with_suffix(suffixes[0]).name}.",
        )
    with access(path, MediaError):
        there = path.exists()
        replaced = [source for source in map(Path, inputs) if there and source.exists() and path.samefile(source)]
    if replaced:
        raise MediaError(f"{path}: the output would replace its own input", fix="Choose another output name.")
    if there and not overwrite:
        raise MediaError(f"{path}: the file exists already", fix="Choose another name, or pass --overwrite.")
    return path


def check_outputs(folder: str | Path, names: Iterable[str], *, overwrite: bool) -> list[Path]:
    """Paths of the files that will be written into a folder, which may be missing yet.

    Raises:
        MediaError: `folder` is a file, or see `check_output`.
    """
    folder = Path(folder)
    _refuse_streams(folder, reading=False)
    if folder.exists() and not folder.is_dir():
        raise MediaError(f"{folder}: expected a folder, got a file", fix="Choose another --out.")
    return [check_output(folder / name, overwrite=overwrite) for name in names]


def output_file(output: str | Path, name: str) -> Path:
    """`output`, or the file `name` inside it if it is an existing folder or ends with a slash."""
    separators = ("/", os.sep)
    return Path(output) / name if str(output).endswith(separators) or Path(output).is_dir() else Path(output)


def plan_file(
    output: str | Path,
    name: str,
    *,
    overwrite: bool,
    inputs: Iterable[str | Path] = (),
    suffixes: Sequence[str] = (),
) -> Path:
    """The file that a command will write, checked before its work begins.

    Args:
        output: the file, or a folder for it; see `output_file`.
        name: its name in a folder.
        overwrite: see `check_output`.
        inputs: see `check_output`.
        suffixes: see `check_output`.

    Raises:
        MediaError: see `check_output`.
    """
    return check_output(output_file(output, name), overwrite=overwrite, inputs=inputs, suffixes=suffixes)


def write_all(writes: Iterable[Callable[[], object]]) -> None:
    """Write several outputs. One whose name was taken during the run, or that could not be signed, does not stop the
    others; those are reported together.

    Args:
        writes: one call for each output.

    Raises:
        OutputTakenError, SigningError: after the last call; see `StagedFile.commit`.
    """
    taken: list[tuple[Path, Path]] = []
    unsigned: list[SigningError] = []
    for write in writes:
        try:
            write()
        except OutputTakenError as error:
            taken += error.taken
        except SigningError as error:
            unsigned.append(error)
    if unsigned:
        raise SigningError(unsigned[0].reason, *(path for error in unsigned for path in error.kept))
    if taken:
        raise OutputTakenError(*taken)


def _refuse_streams(path: Path, *, reading: bool) -> None:
    """Refuse names that are not files: URLs, and "-", which means standard input or output to many programs."""
    if str(path) == "-":
        if reading:
            raise MediaError("-: standard input is not read", fix="Save it as a file, and name the file.")
        raise MediaError("-: nothing is written to standard output", fix="Name a file.")
    address = as_address(path)
    if address is not None:
        if reading:
            raise MediaError(f"{address}: addresses are not read", fix="Download it, and name the file.")
        raise MediaError(f"{address}: nothing is written to addresses", fix="Name a file of this machine.")
