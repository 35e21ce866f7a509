"""faster-whisper's names over Echo.

>>> from echo.compat.faster_whisper import WhisperModel          # doctest: +SKIP
>>> segments, info = WhisperModel("base").transcribe("talk.mp3")

``WhisperModel`` walks through the windows one after the other, as there; with ``vad_filter=True`` the
chunks between pauses are decoded in batches, as by ``BatchedInferencePipeline``. An argument that
Echo has no answer to is refused, not passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import load_audio
from .._audio import SAMPLE_RATE_HZ, Audio
from .._transcript import Decoding
from .._transcript import Segment as EchoSegment
from . import _common

if TYPE_CHECKING:
    from .._types import AudioSource

__all__ = ["BatchedInferencePipeline", "Segment", "TranscriptionInfo", "WhisperModel", "Word"]

_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass
class Word:
    """A word with its times; ``word`` starts with a space where one was said."""

    start: float
    end: float
    word: str
    probability: float


@dataclass
class Segment:
    """A segment; ``text`` starts with a space, as Whisper's tokens do."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: list[Word] | None
    temperature: float | None


@dataclass
class TranscriptionInfo:
    """What is known before the first segment."""

    language: str
    language_probability: float
    duration: float
    duration_after_vad: float
    all_language_probs: list[tuple[str, float]] | None
    transcription_options: dict[str, Any]
    vad_options: dict[str, Any] | None


class WhisperModel:
    """A loaded model."""

    def __init__(
        self,
        model_size_or_path: str,
        device: str = "auto",
        device_index: int | Sequence[int] = 0,
        compute_type: str = "default",
        cpu_threads: int = 0,
        num_workers: int = 1,
        download_root: str | None = None,
        local_files_only: bool = False,
        files: object = None,
        revision: str | None = None,
        use_auth_token: str | bool | None = None,
    ) -> None:
        _common.only("files", files, None, "give the model as a folder")
        name = model_size_or_path if revision is None else f"{model_size_or_path}@{revision}"
        self.transcriber = _common.load(
            name, device, device_index, compute_type, cpu_threads, download_root, local_files_only
        )

    @property
    def is_multilingual(self) -> bool:
        """Whether it knows languages other than English."""
        return self.transcriber.is_multilingual

    def detect_language(
        self, audio: AudioSource
    ) -> tuple[str, float, list[tuple[str, float]]]:
        """The likeliest language, its probability, and those of all; English where nobody speaks."""
        found = self.transcriber.detect_language(audio, sample_rate_hz=_rate(audio))
        table = list(found.items()) or [("en", 0.0)]
        return (*table[0], table)

    def transcribe(
        self,
        audio: AudioSource,
        language: str | None = None,
        task: str = "transcribe",
        log_progress: bool = False,
        beam_size: int = 5,
        best_of: int = 5,
        patience: float = 1,
        length_penalty: float = 1,
        repetition_penalty: float = 1,
        no_repeat_ngram_size: int = 0,
        temperature: float | Sequence[float] = _TEMPERATURES,
        compression_ratio_threshold: float | None = 2.4,
        log_prob_threshold: float | None = -1.0,
        no_speech_threshold: float | None = 0.6,
        condition_on_previous_text: bool = True,
        prompt_reset_on_temperature: float = 0.5,
        initial_prompt: str | None = None,
        prefix: str | None = None,
        suppress_blank: bool = True,
        suppress_tokens: list[int] | None = None,
        without_timestamps: bool = False,
        max_initial_timestamp: float = 1.0,
        word_timestamps: bool = False,
        multilingual: bool = False,
        vad_filter: bool = False,
        vad_parameters: Any = None,
        max_new_tokens: int | None = None,
        chunk_length: int | None = None,
        clip_timestamps: str | Sequence[float] = "0",
        hallucination_silence_threshold: float | None = None,
        hotwords: str | None = None,
        language_detection_threshold: float | None = 0.5,
        language_detection_segments: int = 1,
    ) -> tuple[Iterator[Segment], TranscriptionInfo]:
        """Segments as they are decoded, and what is known before the first one."""
        _common.only(
            "hallucination_silence_threshold",
            hallucination_silence_threshold,
            None,
            "use vad_filter=True",
        )
        is_list = isinstance(temperature, Sequence)
        options: dict[str, Any] = {
            "task": task,
            "multilingual": multilingual,
            "mode": "batched" if vad_filter else "sequential",
            "clips": _clips(clip_timestamps),
            "beam_size": beam_size,
            "best_of": best_of,
            "patience": patience,
            "length_penalty": length_penalty,
            "repetition_penalty": repetition_penalty,
            "no_repeat_ngram_size": no_repeat_ngram_size,
            "temperatures": list(temperature) if is_list else [temperature],  # type: ignore[arg-type]
            "compression_ratio_threshold": compression_ratio_threshold,
            "logprob_threshold": log_prob_threshold,
            "no_speech_threshold": no_speech_threshold,
            "condition_on_previous_text": condition_on_previous_text,
            "prompt_reset_on_temperature": prompt_reset_on_temperature,
            "initial_prompt": initial_prompt,
            "prefix": prefix,
            "suppress_blank": suppress_blank,
            "suppress_tokens": [-1] if suppress_tokens is None else suppress_tokens,
            "without_timestamps": without_timestamps,
            "max_initial_timestamp": max_initial_timestamp,
            "max_new_tokens": max_new_tokens,
            "hotwords": hotwords,
        }
        vad = {} if vad_parameters is None else _common.vad_options(vad_parameters)
        if chunk_length is not None:
            vad["max_chunk_seconds"] = chunk_length
        if vad:
            options["vad"] = vad
        if word_timestamps:
            options["words"] = True
            options["align"] = "attention"
        decoded = audio if isinstance(audio, Audio) else _load(audio)
        table: list[tuple[str, float]] | None = None
        probability = 1.0
        if language is None and self.is_multilingual:
            _, _, table = self.detect_language(decoded)
            language, probability = table[0]
        options["language"] = language or "en"
        info = TranscriptionInfo(
            language=options["language"],
            language_probability=probability,
            duration=decoded.duration,
            duration_after_vad=decoded.duration,
            all_language_probs=table,
            transcription_options=options,
            vad_options=vad or None,
        )
        return self._segments(decoded, options, word_timestamps, log_progress), info

    def _segments(
        self, audio: Audio, options: dict[str, Any], with_words: bool, log_progress: bool
    ) -> Iterator[Segment]:
        from .._progress import progress_bar

        bar = progress_bar() if log_progress else None
        segments = self.transcriber.segments(audio, on_progress=bar, **json.loads(json.dumps(options)))
        for index, segment in enumerate(segments, 1):
            yield _segment(index, segment, with_words)


class BatchedInferencePipeline:
    """Decodes the chunks between pauses in batches, whose size the model was loaded with."""

    def __init__(self, model: WhisperModel) -> None:
        self.model = model

    def transcribe(
        self, audio: AudioSource, batch_size: int = 8, **arguments: Any
    ) -> tuple[Iterator[Segment], TranscriptionInfo]:
        """Like :meth:`WhisperModel.transcribe` with ``vad_filter=True``; Echo chooses the batch."""
        return self.model.transcribe(audio, **{**arguments, "vad_filter": True})


def _rate(audio: AudioSource) -> int | None:
    is_array = hasattr(audio, "__array__") and not isinstance(audio, Audio)
    return SAMPLE_RATE_HZ if is_array else None


def _load(audio: AudioSource) -> Audio:
    return load_audio(audio, sample_rate_hz=_rate(audio))


def _clips(given: str | Sequence[float]) -> list[dict[str, float]]:
    """Pairs of seconds; an end that is missing is the end of the source."""
    times = [float(part) for part in given.split(",")] if isinstance(given, str) else list(given)
    if times == [0.0] or not times:
        return []
    if len(times) % 2 == 1:
        times.append(1e9)
    return [{"start": a, "end": b} for a, b in zip(times[::2], times[1::2])]


def _segment(index: int, segment: EchoSegment, with_words: bool) -> Segment:
    decoding = segment.decoding or Decoding()
    words: Iterable[Word] = (
        Word(word.start, word.end, f" {word.text}", 1.0 if word.probability is None else word.probability)
        for word in segment.words
    )
    return Segment(
        id=index,
        seek=round(segment.start * 100),
        start=segment.start,
        end=segment.end,
        text=f" {segment.text}",
        tokens=decoding.tokens,
        avg_logprob=decoding.avg_logprob,
        compression_ratio=decoding.compression_ratio,
        no_speech_prob=decoding.no_speech_prob,
        words=list(words) if with_words else None,
        temperature=decoding.temperature,
    )
