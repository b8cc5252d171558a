"""The project's exceptions. Each message says what was expected, what was found and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class MegaPortraitsError(Exception):
    """Base of all expected errors; the command line prints its text without a traceback.

    Args:
        message: what happened, with the expected and the actual value.
        fix: what the user can do about it, one sentence.
    """

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.message = message
        self.fix = fix
        super().__init__(f"{message}\n{fix}" if fix else message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.message, self.fix, self.__dict__)


def _restored(kind: type[MegaPortraitsError], message: str, fix: str, attributes: dict[str, Any]) -> MegaPortraitsError:
    """Restore an error that was pickled, for example to send it to another process."""
    error = kind.__new__(kind)
    MegaPortraitsError.__init__(error, message, fix=fix)
    error.__dict__.update(attributes)
    return error


class ConfigError(MegaPortraitsError):
    """A configuration file or override is not valid."""


class MissingPackageError(ConfigError):
    """A package of an optional dependency group is not installed.

    Args:
        package: the package that could not be imported.
        extra: the extra of this package that installs it.
        purpose: what needs it; the subject of the message's first sentence.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed.",
            fix=f'Install it with: pip install "megaportraits[{extra}]"',
        )


class MediaError(MegaPortraitsError):
    """An image, video or audio file cannot be read or written."""


class OutputTakenError(MediaError):
    """A file appeared at an output's path during the run, so the result was saved under another name.

    Args:
        taken: pairs of the requested path and the path of the result.
    """

    def __init__(self, *taken: tuple[Path, Path]) -> None:
        self.taken = taken
        told = [f"{path}: a file appeared there during the run; the result is {kept}" for path, kept in taken]
        super().__init__("\n".join(told), fix="Rename it, or pass --overwrite next time.")


class SigningError(MediaError):
    """A finished output could not be signed with content credentials.

    Args:
        reason: why.
        kept: paths under which results were saved without signature.
    """

    def __init__(self, reason: str, *kept: Path) -> None:
        self.reason, self.kept = reason, kept
        told = "".join(f"\nThe result without signature is {path}." for path in kept)
        super().__init__(f"Signing failed: {reason}{told}", fix="Repeat the command when the cause is removed.")


class FaceError(MegaPortraitsError):
    """No usable human face was found where one is needed."""


class WeightsError(MegaPortraitsError):
    """A weights file is missing, cannot be fetched, or does not have the expected content."""


class DataError(MegaPortraitsError):
    """Training data (shards, portraits, a morphable head) is missing or not readable."""


class ShapeError(MegaPortraitsError, ValueError):
    """A tensor or array has a shape that a public function does not accept."""


class TrainingError(MegaPortraitsError):
    """A training run cannot start or continue (wrong resume, NaN, full disk)."""


class ExportError(MegaPortraitsError):
    """A network cannot be exported to another runtime, or the exported file gives other outputs than the network."""
