"""What can go wrong, by what you can do about it; ``code`` is the same word in every language."""

from __future__ import annotations

import os
from typing import Any


class EchoError(Exception):
    """Why Echo could not do what was asked; the base of every error here."""

    code: str = "echo"


class AudioError(EchoError):
    """The sound cannot be read: give another file."""

    code = "audio"


class ModelError(EchoError):
    """The model cannot be used: download, choose or repair it."""

    code = "model"


class DeviceError(EchoError):
    """The device cannot be used: take another one, or smaller batches."""

    code = "device"


class OptionError(EchoError, ValueError):
    """An argument is out of range: fix it."""

    code = "option"


class TranscriptError(EchoError, ValueError):
    """Subtitles or JSON cannot be read as a transcript: give another file, or mend it."""

    code = "transcript"


class AccessError(EchoError, OSError):
    """A file or folder cannot be read or written; has ``errno`` and ``filename``."""

    code = "io"

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotFoundError(AccessError, FileNotFoundError):
    """There is no such file or folder."""


class Cancelled(EchoError):
    """The work was cancelled."""

    code = "cancelled"


class InferenceError(EchoError):
    """A network did not compute: a bug worth reporting."""

    code = "inference"


_BY_CODE: dict[str, type[EchoError]] = {
    cls.code: cls
    for cls in (
        AudioError,
        ModelError,
        DeviceError,
        OptionError,
        TranscriptError,
        AccessError,
        Cancelled,
        InferenceError,
    )
}


def from_code(
    code: str, message: str, errno: int | None = None, path: os.PathLike[str] | None = None
) -> EchoError:
    """The error with a code; called by the native half."""
    cls = _BY_CODE.get(code, EchoError)
    if cls is AccessError and path is not None and not os.path.exists(path):
        cls = NotFoundError
    error: Any = cls(message)
    if isinstance(error, AccessError):
        error.errno = errno
        error.filename = None if path is None else os.fspath(path)
    return error  # type: ignore[no-any-return]
