"""Echo: speech to text, from any audio or video file to a timed transcript.

>>> import echo
>>> with echo.Transcriber("base") as transcriber:          # doctest: +SKIP
...     transcriber.transcribe("talk.mp3").save("talk.srt")
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from . import _echo, _jobs, models
from ._audio import SAMPLE_RATE_HZ, Audio
from ._echo import __version__
from ._errors import (
    AccessError,
    AudioError,
    Cancelled,
    DeviceError,
    EchoError,
    InferenceError,
    ModelError,
    NotFoundError,
    OptionError,
    TranscriptError,
)
from ._progress import progress_bar
from ._source import as_source
from ._transcriber import Segments, Transcriber
from ._transcript import Decoding, Format, Segment, Transcript, Turn, Word
from ._types import (
    Clip,
    CueOptions,
    Diarization,
    Download,
    Progress,
    TranscribeOptions,
    VadOptions,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._types import AudioSource

__all__ = [
    "SAMPLE_RATE_HZ",
    "AccessError",
    "Audio",
    "AudioError",
    "Cancelled",
    "Clip",
    "CueOptions",
    "Decoding",
    "DeviceError",
    "Diarization",
    "Download",
    "EchoError",
    "Format",
    "InferenceError",
    "ModelError",
    "NotFoundError",
    "OptionError",
    "Progress",
    "Segment",
    "Segments",
    "TranscribeOptions",
    "Transcriber",
    "Transcript",
    "TranscriptError",
    "Turn",
    "VadOptions",
    "Word",
    "__version__",
    "detect_language",
    "diarize",
    "load_audio",
    "models",
    "progress_bar",
]


def load_audio(source: AudioSource, *, sample_rate_hz: int | None = None) -> Audio:
    """Decodes any audio or video file to 16 kHz mono samples."""
    samples, warnings = _jobs.finish(_echo.load_audio(as_source(source, sample_rate_hz)))
    return Audio(samples, warnings)


def detect_language(
    source: AudioSource,
    *,
    sample_rate_hz: int | None = None,
    model: str | os.PathLike[str] = "base",
    cache: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
) -> dict[str, float]:
    """The languages of the first speech with their probabilities, likeliest first.

    Loads a model for it; a :class:`Transcriber` that is loaded has a method for the same.
    """
    with Transcriber(model, cache=cache, offline=offline) as transcriber:
        return transcriber.detect_language(source, sample_rate_hz=sample_rate_hz)


def diarize(
    source: AudioSource,
    *,
    sample_rate_hz: int | None = None,
    model: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    **options: Unpack[Diarization],
) -> Transcript:
    """Who speaks when, without what they say: a transcript of turns and speakers.

    ``model`` is the ``diarization_model`` of a :class:`Transcriber`.
    """
    for name in options:
        if name not in Diarization.__annotations__:
            raise TypeError(f"unexpected keyword argument {name!r}")
    given = as_source(source, sample_rate_hz)
    named = None if model is None else os.fspath(model)
    job = _echo.diarize(given, json.dumps(options), named, cache, offline)
    return Transcript.from_json(_jobs.finish(job))
