"""WhisperX's names over Echo.

>>> import echo.compat.whisperx as whisperx          # doctest: +SKIP
>>> model = whisperx.load_model("base", "cpu", compute_type="float32")
>>> result = model.transcribe(whisperx.load_audio("talk.mp3"), batch_size=16)

Words are found while Echo transcribes, so ``align`` only hands them over: it takes the segments that
``transcribe`` gave. An argument that Echo has no answer to is refused, not passed over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ... import load_audio as _load_audio
from ..._audio import SAMPLE_RATE_HZ, Audio
from ..._errors import OptionError
from ..._transcriber import Transcriber
from ..._transcript import Transcript
from .. import _common
from .diarize import DiarizationPipeline, assign_word_speakers

if TYPE_CHECKING:
    import numpy

    from ..._types import AudioSource, Progress

__all__ = [
    "DiarizationPipeline",
    "align",
    "assign_word_speakers",
    "load_align_model",
    "load_audio",
    "load_model",
]

_RENAMED = {"log_prob_threshold": "logprob_threshold"}


class Segments(list[dict[str, Any]]):
    """Segments as dictionaries, which remember the transcript they are of."""

    def __init__(self, transcript: Transcript, segments: list[dict[str, Any]]) -> None:
        super().__init__(segments)
        self.transcript = transcript


class Pipeline:
    """A loaded model, as ``load_model`` gives it."""

    def __init__(
        self,
        transcriber: Transcriber,
        language: str | None,
        task: str,
        options: dict[str, Any],
    ) -> None:
        self.transcriber = transcriber
        self.preset_language = language
        self.task = task
        self._options = options

    def detect_language(self, audio: AudioSource) -> str:
        """The likeliest language of the first speech; English where nobody speaks."""
        found = self.transcriber.detect_language(audio, sample_rate_hz=_rate(audio))
        return next(iter(found), "en")

    def transcribe(
        self,
        audio: AudioSource,
        batch_size: int | None = None,
        num_workers: int = 0,
        language: str | None = None,
        task: str | None = None,
        chunk_size: int = 30,
        print_progress: bool = False,
        combined_progress: bool = False,
        verbose: bool = False,
        progress_callback: Callable[[float], object] | None = None,
    ) -> dict[str, Any]:
        """A dictionary of ``segments`` and ``language``. Echo chooses the batch itself."""
        options = dict(self._options)
        options["vad"] = {**options.get("vad", {}), "max_chunk_seconds": min(chunk_size, 30)}
        options["language"] = language or self.preset_language
        options["task"] = task or self.task
        options["words"] = True
        rate_hz = _rate(audio)
        transcript = self.transcriber.transcribe(
            audio,
            sample_rate_hz=rate_hz,
            on_progress=_report(print_progress, progress_callback),
            **options,
        )
        segments = Segments(transcript, [_plain(segment) for segment in transcript.segments])
        if verbose:
            for segment in segments:
                print(f"Transcript: [{segment['start']} --> {segment['end']}] {segment['text']}")
        return {"segments": segments, "language": transcript.language}


def load_model(
    whisper_arch: str,
    device: str,
    device_index: int | Sequence[int] = 0,
    compute_type: str = "default",
    asr_options: Mapping[str, Any] | None = None,
    language: str | None = None,
    vad_model: object = None,
    vad_method: str | None = "silero",
    vad_options: Mapping[str, Any] | None = None,
    model: object = None,
    task: str = "transcribe",
    download_root: str | None = None,
    local_files_only: bool = False,
    threads: int = 4,
    use_auth_token: str | bool | None = None,
) -> Pipeline:
    """Loads a model. Voice activity is Silero's, whatever ``vad_method`` says."""
    _common.only("vad_model", vad_model, None, "Echo brings its own")
    _common.only("model", model, None, "name the model")
    options: dict[str, Any] = {"without_timestamps": True}
    for name, value in (asr_options or {}).items():
        if name == "suppress_numerals":
            _common.only(name, value, False, "numerals are written as the model writes them")
            continue
        options[_RENAMED.get(name, name)] = value
    if vad_options:
        options["vad"] = _common.vad_options(vad_options)
    transcriber = _common.load(
        whisper_arch, device, device_index, compute_type, threads, download_root, local_files_only
    )
    return Pipeline(transcriber, language, task, options)


def load_audio(file: str, sr: int = SAMPLE_RATE_HZ) -> numpy.ndarray[Any, Any]:
    """Decodes a file to 16 kHz mono samples in a numpy array."""
    import numpy

    _common.only("sr", sr, SAMPLE_RATE_HZ, "Whisper hears no other rate")
    samples: numpy.ndarray[Any, Any] = numpy.array(_load_audio(file), dtype=numpy.float32)
    return samples


def load_align_model(
    language_code: str, device: str, model_name: str | None = None, model_dir: str | None = None
) -> tuple[None, dict[str, Any]]:
    """Nothing to load: Echo times words while it transcribes."""
    _common.only("model_name", model_name, None, "words are timed while Echo transcribes")
    return None, {"language": language_code, "dictionary": {}, "type": "echo"}


def align(
    transcript: list[dict[str, Any]],
    model: object,
    align_model_metadata: Mapping[str, Any],
    audio: object,
    device: str,
    interpolate_method: str = "nearest",
    return_char_alignments: bool = False,
    print_progress: bool = False,
    combined_progress: bool = False,
    progress_callback: Callable[[float], object] | None = None,
) -> dict[str, Any]:
    """A dictionary of ``segments`` with ``words``, and ``word_segments``."""
    _common.only("return_char_alignments", return_char_alignments, False, "words are the unit")
    if not isinstance(transcript, Segments):
        raise OptionError("option `transcript` is of other origin, expected the segments of `transcribe`")
    found = json.loads(transcript.transcript.write("whisperx"))
    if progress_callback is not None:
        progress_callback(100.0)
    return {
        "segments": Segments(transcript.transcript, found["segments"]),
        "word_segments": found.get("word_segments", []),
    }


def _plain(segment: Any) -> dict[str, Any]:
    plain = {"text": f" {segment.text}", "start": segment.start, "end": segment.end}
    if segment.decoding is not None:
        plain["avg_logprob"] = segment.decoding.avg_logprob
    return plain


def _report(
    is_printed: bool, callback: Callable[[float], object] | None
) -> Callable[[Progress], None] | None:
    if not is_printed and callback is None:
        return None

    def report(progress: Progress) -> None:
        percent = progress.fraction * 100
        if is_printed:
            print(f"Progress: {percent:.2f}%...")
        if callback is not None:
            callback(percent)

    return report


def _rate(audio: AudioSource) -> int | None:
    is_array = hasattr(audio, "__array__") and not isinstance(audio, Audio)
    return SAMPLE_RATE_HZ if is_array else None
