"""Reads small files from users with limits: text, JSON, YAML and tables; also checks whether paths exist.

A file may be damaged or malicious: nested 100,000 levels deep, with aliases that expand exponentially, in another
encoding, in a folder without permission. Parsers raise many kinds of exceptions for that. These functions turn them
into one error that a user can act on, of a class that the caller chooses. They reject files that would take much time
or memory before they parse them.
"""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from megaportraits.errors import MegaPortraitsError

Kind = type[MegaPortraitsError]

FAULTS: tuple[type[Exception], ...] = (
    OSError,
    ValueError,  # JSON and Unicode errors among them
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    csv.Error,
)
"""Exceptions that parsers, and code that reads parsed values, raise for invalid content."""
_YAML_FAULTS: tuple[type[Exception], ...] = (yaml.YAMLError, *FAULTS)
MOST_BYTES = 256 << 20
"""Largest text, JSON or table file that is read."""
MOST_YAML = 100_000
"""Longest YAML text, characters. PyYAML reads about 0.2 MB a second; the shipped configs have 2,000 characters."""
MOST_VALUES = 20_000
"""Most values and keys of a YAML document, with aliases expanded."""
_CHECK = "Check the path and its permissions."
_AGAIN = "Get or make the file again."


@contextmanager
def access(path: Path | str, error: Kind, *, fix: str = _CHECK) -> Iterator[None]:
    """Convert an OSError to `error`: no permission, a name that is too long, a loop of links, a broken disk."""
    try:
        yield
    except OSError as reason:
        raise error(f"{path} cannot be accessed: {reason.strerror or reason}", fix=fix) from reason


def is_file(path: Path | str, error: Kind) -> bool:
    """`Path.is_file`, but raises `error` if the path cannot be checked (a folder without permission, a long name)."""
    with access(path, error):
        return Path(path).is_file()


def is_folder(path: Path | str, error: Kind) -> bool:
    """`Path.is_dir`, but raises `error` if the path cannot be checked."""
    with access(path, error):
        return Path(path).is_dir()


def list_files(folder: Path, pattern: str, error: Kind) -> list[Path]:
    """The paths in a folder that match a pattern, sorted; an empty list if the folder does not exist.

    Raises `error` for a folder without read permission, which `Path.glob` alone treats as empty.
    """
    with access(folder, error):
        if not folder.is_dir():
            return []
        os.scandir(folder).close()
        return sorted(folder.glob(pattern))


def read_text(path: Path | str, error: Kind, *, fix: str = _AGAIN, most: int = MOST_BYTES) -> str:
    """The text of a UTF-8 file, with or without byte order mark.

    Args:
        path: a regular file.
        error: the exception class to raise.
        fix: what the user can do about a file that is not text.
        most: size of the largest file that is read, bytes.

    Raises:
        error: the file is missing, not a regular file, larger than `most`, not readable, or not UTF-8.
    """
    path = Path(path)
    with access(path, error):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{path}: expected a file, got {'a folder' if path.is_dir() else 'something else'}", fix=_CHECK)
        if status.st_size > most:
            raise error(f"{path}: expected at most {most:,} bytes, got {status.st_size:,}", fix=fix)
        content = path.read_bytes()
    return decode(content, str(path), error, fix=fix)


def decode(content: bytes, where: str, error: Kind, *, fix: str = _AGAIN) -> str:
    """Decode UTF-8 bytes. Raises `error`, which calls them `where`, if they are not UTF-8 or too long."""
    if len(content) > MOST_BYTES:
        raise error(f"{where}: expected at most {MOST_BYTES:,} bytes, got more", fix=fix)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        found = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "other bytes"
        raise error(
            f"{where}: expected UTF-8 text, got {found} ({reason.reason} at byte {reason.start})",
            fix="Save it as UTF-8." if found == "UTF-16" else fix,
        ) from reason


def parse_json(text: str | bytes, where: str, error: Kind, *, fix: str = _AGAIN) -> Any:
    """The value of a JSON text. Raises `error`, which calls it `where`, if it is not JSON or nested too deep."""
    try:
        return json.loads(text)
    except FAULTS as reason:
        raise error(f"{where} is not valid JSON: {_said(reason)}", fix=fix) from reason


def read_json(path: Path | str, error: Kind, *, fix: str = _AGAIN) -> Any:
    """The value of a JSON file; raises as `read_text` and `parse_json`."""
    return parse_json(read_text(path, error, fix=fix), str(path), error, fix=fix)


def read_record(path: Path | str, error: Kind, *, fix: str = _AGAIN) -> dict[str, Any]:
    """The object in a JSON file; raises as `read_json`, and if the value is not an object."""
    value = read_json(path, error, fix=fix)
    if not isinstance(value, dict):
        raise error(f"{path}: expected a JSON object, got {shown(value)}", fix=fix)
    return value


def parse_table(text: str, where: str, error: Kind, *, fix: str = _AGAIN) -> list[list[str]]:
    """The rows of a CSV text. Raises `error`, which calls it `where`, also for fields of over 131,072 characters."""
    try:
        return list(csv.reader(io.StringIO(text, newline="")))
    except FAULTS as reason:
        raise error(f"{where} is not a readable table: {_said(reason)}", fix=fix) from reason


def parse_records(text: str, where: str, error: Kind, *, fix: str = _AGAIN) -> list[dict[str, str]]:
    """The rows of a CSV text as dicts by the header row; empty rows are skipped. Raises as `parse_table`."""
    header, *rows = parse_table(text, where, error, fix=fix) or [[]]
    return [dict(zip(header, row, strict=False)) for row in rows if row]


def parse_yaml(text: str, where: str, error: Kind, *, fix: str = _AGAIN) -> Any:
    """The value of a YAML text, of plain types only.

    Args:
        text: at most `MOST_YAML` characters and `MOST_VALUES` values with aliases expanded.
        where: the name of the text in messages.
        error: the exception class to raise.
        fix: what the user can do.

    Raises:
        error: the text is not YAML, exceeds a limit, is nested too deep, or has an alias to a value that contains it.
    """
    try:
        if len(text) > MOST_YAML:
            raise ValueError(f"expected at most {MOST_YAML:,} characters, got {len(text):,}")
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _written_out(node, {}, set())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except _YAML_FAULTS as reason:
        raise error(f"{where} is not valid YAML: {_said(reason)}", fix=fix) from reason


def shown(value: Any, most: int = 80) -> str:
    """The repr of a value for a message, cut to `most` characters; never raises."""
    try:
        return f"{value!r:.{most}}"
    except FAULTS:  # integers of 5,000 digits and deeply nested values have no repr
        return f"a {type(value).__name__} that cannot be shown"


def _written_out(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """The number of values and keys in a composed YAML node with aliases expanded; an alias is the same node again."""
    if id(node) in above:
        raise ValueError("an alias names the value that holds it")
    if id(node) not in known:
        above.add(id(node))
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for entry in inner for part in (entry if isinstance(entry, tuple) else (entry,)))
        known[id(node)] = 1 + sum(_written_out(part, known, above) for part in parts)
        above.remove(id(node))
    if known[id(node)] > MOST_VALUES:
        raise ValueError(f"expected at most {MOST_VALUES:,} values, aliases written out, got more")
    return known[id(node)]


def _said(reason: BaseException) -> str:
    if isinstance(reason, RecursionError):
        return "it is nested too deep"
    if isinstance(reason, OSError):
        return os.strerror(reason.errno) if reason.errno else str(reason)
    return " ".join(str(reason).split()) or type(reason).__name__
