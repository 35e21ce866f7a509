"""From what Python programs have to what the native half reads."""

from __future__ import annotations

import os
import sys
from typing import Any

from . import _echo
from ._audio import SAMPLE_RATE_HZ, Audio
from ._errors import OptionError
from ._types import AudioSource

_FLOAT32 = ("f", "@f", "=f", "<f" if sys.byteorder == "little" else ">f")
_BYTES = ("B", "b", "c")


def as_source(source: AudioSource, sample_rate_hz: int | None = None) -> _echo.Source:
    """Tells what ``source`` is; raises before any work is done if it is nothing that sounds."""
    given: Any = source
    if isinstance(given, Audio):
        return _echo.Source.samples(given.samples, SAMPLE_RATE_HZ)
    if isinstance(given, (str, os.PathLike)):
        _refuse_rate(sample_rate_hz, "a path")
        return _echo.Source.path(os.fspath(given))
    if isinstance(given, (bytes, bytearray)):
        _refuse_rate(sample_rate_hz, "the bytes of a file")
        return _echo.Source.bytes(bytes(given))
    if hasattr(given, "read"):
        _refuse_rate(sample_rate_hz, "a file object")
        return _from_file(given)
    try:
        view = memoryview(given)
    except TypeError:
        if hasattr(given, "__array__"):
            return _from_view(memoryview(given.__array__()), sample_rate_hz)
        raise TypeError(
            f"source is {type(given).__name__}, expected a path, the bytes of a file, a binary "
            "file object, or an array of float32 samples"
        ) from None
    except ValueError as error:
        # numpy refuses a view of types that have no letter, such as float16 in old versions.
        raise OptionError(f"option `source` is an array without a view: {error}") from error
    return _from_view(view, sample_rate_hz)


def _from_file(file: Any) -> _echo.Source:
    if isinstance(file.read(0), str):
        raise TypeError("source is a text file, expected one opened with mode 'rb'")
    if hasattr(file, "seekable") and file.seekable():
        return _echo.Source.file(file)
    return _echo.Source.bytes(file.read())


def _from_view(view: memoryview[Any], sample_rate_hz: int | None) -> _echo.Source:
    if view.format in _BYTES and view.contiguous and sample_rate_hz is None:
        return _echo.Source.bytes(view.tobytes())
    if view.format not in _FLOAT32:
        raise OptionError(
            f"option `source` is an array of type {view.format!r}, expected 32-bit floats ('f'): "
            "with numpy, .astype('float32')"
        )
    if view.ndim != 1:
        raise OptionError(
            f"option `source` is an array of shape {view.shape}, expected one dimension: "
            "mix the channels, or take one of them"
        )
    if not view.c_contiguous:
        raise OptionError(
            "option `source` is an array with gaps, expected a contiguous one: "
            "with numpy, numpy.ascontiguousarray()"
        )
    if sample_rate_hz is None:
        raise OptionError(
            "option `sample_rate_hz` is missing, expected the rate of the samples given"
        )
    if isinstance(sample_rate_hz, bool) or not hasattr(sample_rate_hz, "__index__"):
        raise TypeError(
            f"sample_rate_hz is {type(sample_rate_hz).__name__}, expected a whole number"
        )
    rate_hz = sample_rate_hz.__index__()
    if not 0 <= rate_hz < 2**32:
        raise OptionError(
            f"option `sample_rate_hz` is {rate_hz}, expected 1,000 to 768,000"
        )
    return _echo.Source.samples(view, rate_hz)


def _refuse_rate(sample_rate_hz: int | None, what: str) -> None:
    if sample_rate_hz is not None:
        raise OptionError(
            f"option `sample_rate_hz` is {sample_rate_hz}, expected none for {what}, which says "
            "its own"
        )
