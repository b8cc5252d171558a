"""Reading configs: strict YAML, `extends`, `--set a.b=c` overrides; all problems of a file are told at once."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from megaportraits.config.base import Config
from megaportraits.errors import ConfigError

C = TypeVar("C", bound=Config)

Override = str | tuple[str, str]
"""`a.b=c`, whose value is read as YAML, or a dotted key and a text that is taken as it is, as paths must be."""


def config_names() -> list[str]:
    """Names of the configs that ship with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load_config(schema: type[C], source: str | Path, overrides: Sequence[Override] = ()) -> C:
    """Read a shipped config by name, or a YAML file, and apply overrides.

    A file may say `extends: OTHER`, a shipped name or a file beside it, and then gives only what differs.

    Raises:
        ConfigError: unknown name, unreadable YAML, or all invalid keys and values together.
    """
    data = _read(source, ())
    for override in overrides:
        _apply(data, override)
    return parse_config(schema, data, str(source))


def parse_config(schema: type[C], data: dict[str, Any], where: str) -> C:
    """Validate a plain dict; `where` names it in the error."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or '(root)'}: {e['msg']} (got {e['input']!r:.80})" for e in error.errors()
        ]
        raise ConfigError(
            f"{where}: {error.error_count()} problem(s):\n" + "\n".join(lines),
            fix=f"Keys and defaults are in {schema.__name__} of megaportraits/config/.",
        ) from error


def differences(before: Config, after: Config, *, ignore: Sequence[str] = ()) -> list[str]:
    """What another config of the same kind says otherwise, one line a value: "optim.steps: 4 -> 6".

    Args:
        before, after: of the same class.
        ignore: dotted keys that may differ.
    """
    old, new = (_flat(config.model_dump(mode="json")) for config in (before, after))
    return [f"{key}: {old[key]} -> {value}" for key, value in new.items() if value != old[key] and key not in ignore]


def _flat(section: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Every value of a nested dict by its dotted key."""
    out: dict[str, Any] = {}
    for key, value in section.items():
        out |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return out


def _folder() -> Any:
    return resources.files("megaportraits") / "configs"


def _read(source: str | Path, below: tuple[str, ...]) -> dict[str, Any]:
    """A file's plain content, laid over that of the file it extends; `below` are the files that led here."""
    if str(source) in below:
        raise ConfigError(f"{source} extends itself by way of {' -> '.join(below)}", fix="Break the circle.")
    data = _parse(source)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError(f"{source}: extends is {base!r}, expected a name or file", fix="For example extends: nano")
    beside = Path(source).parent / base
    return _merge(_read(beside if beside.is_file() else base, (*below, str(source))), data)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key; everything else is replaced."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
    return out


def _parse(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise ConfigError(
                f"config file {path} does not exist",
                fix="Give a .yaml file or one of: " + ", ".join(config_names()),
            )
        text = path.read_text(encoding="utf-8")
    else:
        entry = _folder() / f"{source}.yaml"
        if not entry.is_file():
            raise ConfigError(f"no config named {str(source)!r}", fix="Shipped configs: " + ", ".join(config_names()))
        text = entry.read_text(encoding="utf-8")
    try:
        data = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}", fix="Check indentation and colons there.") from error
    if not isinstance(data, dict):
        raise ConfigError(
            f"{source}: expected a mapping of sections, got {type(data).__name__}",
            fix="See the shipped configs.",
        )
    return data


def _apply(data: dict[str, Any], override: Override) -> None:
    key, value = _split(override) if isinstance(override, str) else override
    *parents, last = key.split(".")
    node = data
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(
                f"override {override!r}: {parent!r} is a value, not a section", fix="Check the dotted path."
            )
    node[last] = value


def _split(override: str) -> tuple[str, Any]:
    """Key and value of `a.b=c`."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form a.b=c", fix="For example --set optim.batch_size=8")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"override {override!r}: {text!r} is not valid YAML: {error}", fix="Quote the value or close its brackets."
        ) from error
