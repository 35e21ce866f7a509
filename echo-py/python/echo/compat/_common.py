"""What the compatible modules share: other libraries' names for devices, formats and options."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import DeviceError, OptionError
from .._transcriber import Transcriber

_COMPUTE_TYPES = {
    "default": "auto",
    "auto": "auto",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "int8": "int8",
    "int8_float32": "int8",
    "int8_float16": "int8",
    "int8_bfloat16": "int8",
}

_VAD_OPTIONS = {
    "threshold": "onset",
    "vad_onset": "onset",
    "neg_threshold": "offset",
    "vad_offset": "offset",
    "min_speech_duration_ms": "min_speech_ms",
    "min_silence_duration_ms": "min_silence_ms",
    "speech_pad_ms": "pad_ms",
    "max_speech_duration_s": "max_chunk_seconds",
    "chunk_size": "max_chunk_seconds",
}


def load(
    model: str,
    device: str,
    device_index: int | Sequence[int],
    compute_type: str,
    threads: int,
    cache: str | None,
    offline: bool,
) -> Transcriber:
    """Loads a model; a number format that the device lacks gives way to one it has, with a warning,
    as in CTranslate2."""
    index = device_index if isinstance(device_index, int) else device_index[0]
    settings: dict[str, Any] = {
        "device": f"cuda:{index}" if device == "cuda" else device,
        "threads": threads or None,
        "cache": cache,
        "offline": True if offline else None,
    }
    if compute_type not in _COMPUTE_TYPES:
        expected = ", ".join(_COMPUTE_TYPES)
        raise OptionError(f"option `compute_type` is {compute_type!r}, expected {expected}")
    wanted = _COMPUTE_TYPES[compute_type]
    try:
        return Transcriber(model, compute_type=wanted, **settings)
    except (DeviceError, OptionError) as error:
        if wanted == "auto":
            raise
        transcriber = Transcriber(model, compute_type="auto", **settings)
        warnings.warn(
            f"{error}; computing in {transcriber.compute_type}", RuntimeWarning, stacklevel=3
        )
        return transcriber


def vad_options(given: Any) -> dict[str, Any]:
    """Rules of voice activity detection by Echo's names."""
    if not isinstance(given, Mapping):
        given = {name: value for name, value in vars(given).items() if value is not None}
    options: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _VAD_OPTIONS:
            raise OptionError(f"option `vad` is `{name}`, expected one of {', '.join(_VAD_OPTIONS)}")
        if value is None:
            continue
        if _VAD_OPTIONS[name] == "max_chunk_seconds":
            value = min(float(value), 30.0)  # a window is no longer; the others' default is infinite
        options[_VAD_OPTIONS[name]] = value
    if "onset" in options:
        # Both libraries take 0.15 below the threshold where only that is given.
        options.setdefault("offset", max(options["onset"] - 0.15, 0.01))
    return options


def only(option: str, value: object, accepted: object, why: str) -> None:
    """Refuses a value that would be passed over in silence."""
    if value != accepted:
        raise OptionError(f"option `{option}` is {value!r}, expected {accepted!r}: {why}")
