"""Errors that a user can act on: each says what was expected, what came, and what to do."""

from __future__ import annotations


class MegaPortraitsError(Exception):
    """Base of all expected errors; the command line prints its text without a traceback.

    Args:
        message: what happened, with the expected and the received value.
        fix: what the user can do about it, one sentence.
    """

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.message = message
        self.fix = fix
        super().__init__(f"{message}\n{fix}" if fix else message)


class ConfigError(MegaPortraitsError):
    """A configuration file or override is not valid."""


class MediaError(MegaPortraitsError):
    """An image, video or audio file cannot be read or written."""


class FaceError(MegaPortraitsError):
    """No usable human face was found where one is needed."""


class WeightsError(MegaPortraitsError):
    """A weights file is missing, cannot be fetched, or its bytes are not the expected ones."""


class DataError(MegaPortraitsError):
    """Training data (shards, portraits, a morphable head) is missing or not readable."""


class ShapeError(MegaPortraitsError, ValueError):
    """A tensor or array has another shape than a public function takes."""


class TrainingError(MegaPortraitsError):
    """A training run cannot start or go on (wrong resume, NaN, no space)."""


class ExportError(MegaPortraitsError):
    """A network cannot leave as a file for another runtime, or does not compute there what it computes here."""
