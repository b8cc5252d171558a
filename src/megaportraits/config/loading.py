"""Reading configs: strict YAML, `extends`, `--set a.b=c` overrides. One error lists all problems of a file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from megaportraits.config.base import Config
from megaportraits.errors import ConfigError
from megaportraits.reading import MOST_YAML, is_file, parse_yaml, read_text, shown

C = TypeVar("C", bound=Config)

Override = str | tuple[str, str]
"""Either `a.b=c`, whose value is parsed as YAML, or a dotted key and a string that is not parsed (for paths)."""
_MOST_PROBLEMS = 20
"""Most problems that one error lists."""
_MOST_MEANT = 3
"""Most keys that are suggested for an unknown one."""


def config_names() -> list[str]:
    """Names of the configs that ship with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load_config(schema: type[C], source: str | Path, overrides: Sequence[Override] = ()) -> C:
    """Read a shipped config by name, or a YAML file, and apply overrides.

    A file may contain `extends: OTHER`, a shipped name or a file beside it. Then it needs only the values that differ.

    Raises:
        ConfigError: unknown name, unreadable YAML, or all invalid keys and values together.
    """
    data = _read(source, ())
    for override in overrides:
        _apply(data, override)
    return parse_config(schema, data, str(source))


def parse_config(schema: type[C], data: dict[str, Any], where: str) -> C:
    """Validate a plain dict; the error names it as `where`.

    Raises:
        ConfigError: all invalid keys and values together.
    """
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        lines = [f"  {_problem(schema, dict(e))}" for e in error.errors()[:_MOST_PROBLEMS]]
        if error.error_count() > _MOST_PROBLEMS:
            lines.append(f"  and {error.error_count() - _MOST_PROBLEMS} more")
        raise ConfigError(
            f"{where}: {error.error_count()} problem(s):\n" + "\n".join(lines),
            fix=f"Keys and defaults are in {schema.__name__} of megaportraits/config/.",
        ) from error


def _problem(schema: type[Config], error: dict[str, Any]) -> str:
    """One of pydantic's errors as a line; for unknown keys with suggestions."""
    key = _key(schema, error["loc"])
    line = f"{key or '(root)':.200}: {error['msg']} (got {shown(error['input'])})"
    if error["type"] != "extra_forbidden":
        return line
    meant = _similar_keys(key, _keys(schema))
    return f"{line}; did you mean {' or '.join(meant)}?" if meant else line


def _key(schema: type[BaseModel], location: Sequence[str | int]) -> str:
    """The dotted key of an error, without the names of alternatives that pydantic adds for unions of sections."""
    parts: list[str] = []
    models = [schema]
    for number, part in enumerate(location):
        fields = [model.model_fields[str(part)] for model in models if str(part) in model.model_fields]
        alternatives = not fields and len(models) > 1 and number < len(location) - 1
        if not alternatives:
            parts.append(str(part))
            models = [section for field in fields for section in _sections(field.annotation)]
    return ".".join(parts)


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The config classes of a field's type: one for a section, several for a union of sections."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections(part)]


def _similar_keys(key: str, known: Sequence[str]) -> list[str]:
    """Keys with the same last part in other sections; if there are none, the keys with the most similar spelling."""
    last = key.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == last]
    return same[:_MOST_MEANT] or difflib.get_close_matches(key, known, n=_MOST_MEANT)


def _keys(schema: type[BaseModel], above: str = "") -> list[str]:
    """The dotted keys of all values and sections of a config, outer sections first."""
    sections: list[str] = []
    values: list[str] = []
    for name, field in schema.model_fields.items():
        if found := _sections(field.annotation):
            sections += [above + name, *(key for section in found for key in _keys(section, f"{above}{name}."))]
        else:
            values.append(above + name)
    return list(dict.fromkeys([*values, *sections]))


def differences(before: Config, after: Config, *, ignore: Sequence[str] = ()) -> list[str]:
    """Values that differ between two configs of one class, one line for each: "optim.steps: 4 -> 6".

    Args:
        before: one configuration.
        after: another of the same class.
        ignore: dotted keys that may differ.
    """
    old, new = (_flat(config.model_dump(mode="json")) for config in (before, after))
    return [f"{key}: {old[key]} -> {value}" for key, value in new.items() if value != old[key] and key not in ignore]


def _flat(section: dict[str, Any], above: str = "") -> dict[str, Any]:
    """All values of a nested dict by dotted key."""
    out: dict[str, Any] = {}
    for key, value in section.items():
        out |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return out


_SUFFIXES = {".yaml", ".yml"}


def _folder() -> Any:
    return resources.files("megaportraits") / "configs"


def _read(source: str | Path, below: tuple[str, ...]) -> dict[str, Any]:
    """A file's content merged over that of the file it extends; `below` are the files that extend this one."""
    place = str(Path(source).resolve()) if Path(source).suffix in _SUFFIXES else str(source)
    if place in below:
        raise ConfigError(f"{source} extends itself through {' -> '.join(below)}", fix="Remove one `extends`.")
    data = _parse(source)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError(
            f"{source}: extends is {shown(base)}, expected a name or file", fix="For example extends: nano"
        )
    beside = Path(source).parent / base
    return _merge(_read(beside if is_file(beside, ConfigError) else base, (*below, place)), data)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge sections key by key; replace everything else."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
    return out


def _parse(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in _SUFFIXES:
        if not is_file(path, ConfigError):
            raise ConfigError(
                f"config file {path} does not exist",
                fix="Give a .yaml file or one of: " + ", ".join(config_names()),
            )
        text = read_text(path, ConfigError, fix="Give a YAML file.", most=4 * MOST_YAML)
    else:
        if str(source) not in config_names():
            raise ConfigError(
                f"no config named {shown(str(source))}", fix=f"Shipped configs: {', '.join(config_names())}"
            )
        text = (_folder() / f"{source}.yaml").read_text(encoding="utf-8")
    data = parse_yaml(text, str(source), ConfigError, fix="Check indentation and colons there.") or {}
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
                f"override {shown(override)}: {shown(parent)} is a value, not a section", fix="Check the dotted path."
            )
    node[last] = value


def _split(override: str) -> tuple[str, Any]:
    """Key and value of `a.b=c`."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"override {shown(override)} is not of the form a.b=c", fix="For example --set optim.batch_size=8"
        )
    return key, parse_yaml(
        text, f"override {shown(override)}: {shown(text)}", ConfigError, fix="Quote the value or close its brackets."
    )
