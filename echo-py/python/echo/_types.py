"""Types of arguments and reports."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypedDict, Union

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._audio import Audio


class Progress(NamedTuple):
    """How far a run is. ``fraction`` never falls and ends at exactly 1.0."""

    stage: str
    """``decoding``, ``detecting``, ``transcribing``, ``aligning`` or ``diarizing``."""
    fraction: float
    """The share of the whole run that is done, 0 to 1."""


class Download(NamedTuple):
    """How far the download of a model is."""

    model: str
    source: str
    """Where it comes from."""
    file: str
    done_bytes: int
    """Bytes of the whole model that are here."""
    total_bytes: int | None
    """Bytes of the whole model, if the source says."""


class Clip(TypedDict):
    """A stretch of the source, in seconds."""

    start: float
    end: float


class VadOptions(TypedDict, total=False):
    """Rules of voice activity detection."""

    model: Literal["silero", "pyannote", "none"]
    """What hears where speech is. Default ``silero``."""
    onset: float
    """Speech opens when its probability reaches this. Default 0.5."""
    offset: float
    """Speech closes when its probability stays below this. Default 0.35."""
    min_speech_ms: int
    """Shorter regions are dropped. Default 0."""
    min_silence_ms: int
    """Shorter pauses do not split a region. Default 160."""
    pad_ms: int
    """Added on both sides of a region. Default 400."""
    max_chunk_seconds: float
    """The longest chunk given to the recogniser. Default 30."""


class Diarization(TypedDict, total=False):
    """How speakers are told apart."""

    min_speakers: int | None
    """At least so many speakers, where there is speech of so many."""
    max_speakers: int | None
    """At most so many speakers."""
    clustering: Literal["auto", "average", "centroid", "vbx"]
    """How voices are clustered. Default ``auto``: ``vbx`` where the diarization model has a PLDA, else ``average``."""
    threshold: float | None
    """Voices farther apart than this are different speakers."""
    min_turn_ms: int
    """Shorter turns are dropped. Default 100."""
    min_gap_ms: int
    """Shorter pauses within a turn are filled. Default 300."""


class TranscribeOptions(TypedDict, total=False):
    """What can be asked of one transcription; every option is optional."""

    language: str | None
    """The language spoken, as a code or an English name; ``None`` (the default) detects it."""
    multilingual: bool
    """Detect the language of every window anew. Default false."""
    task: Literal["transcribe", "translate"]
    """Write down what is said (the default), or its English translation."""
    mode: Literal["batched", "sequential"]
    """Batched chunks (the default), or one window after the other as the reference does."""
    clips: list[Clip]
    """Only these stretches of the source."""
    channels: Literal["mix", "each"] | dict[Literal["one"], int]
    """The mean of the channels (the default), each by itself, or ``{"one": N}``."""
    track: int | None
    """The audio track, counted from 0; ``None`` (the default) takes the default one."""
    words: bool
    """Find the words of every segment, with their times. Default false."""
    align: Literal["auto", "ctc", "attention", "none"]
    """How the times of words are found. Default ``auto``."""
    sentences: bool
    """Make each segment a sentence; needs words, which are found for it. Default false."""
    vad: VadOptions
    """Rules of voice activity detection."""
    diarize: Diarization | None
    """Tell speakers apart by their voices; ``{}`` leaves their number to the voices."""

    beam_size: int
    """Hypotheses kept at temperature 0; 1 is greedy. Default 5."""
    best_of: int
    """Samples drawn at temperatures above 0. Default 5."""
    patience: float
    """Beam search goes on until ``beam_size * patience`` hypotheses are done. Default 1."""
    length_penalty: float | None
    """Exponent of length in the ranking of hypotheses. Default 1."""
    repetition_penalty: float
    """Divides the score of tokens already said. Default 1."""
    no_repeat_ngram_size: int
    """No sequence of this many tokens is said twice; 0 (the default) does nothing."""
    temperatures: list[float]
    """Tried in turn while a window's text fails its tests. Default 0, 0.2 … 1."""
    compression_ratio_threshold: float | None
    """Text that deflates better than this fails. Default 2.4."""
    logprob_threshold: float | None
    """Text whose mean log probability lies below this fails. Default -1."""
    no_speech_threshold: float | None
    """Above this no-speech probability an unlikely window is silent. Default 0.6."""
    condition_on_previous_text: bool
    """Give the last window's text to the next one as context (sequential). Default true."""
    prompt_reset_on_temperature: float
    """Forget that context after a window that needed a higher temperature. Default 0.5."""
    initial_prompt: str | None
    """Context for the first window: names, spelling, style."""
    prefix: str | None
    """The forced beginning of the first window's text."""
    hotwords: str | None
    """Words to favour in every window."""
    suppress_blank: bool
    """No empty text and no bare space at the start. Default true."""
    suppress_tokens: list[int]
    """Tokens that are never said; -1 stands for the symbols that are not speech."""
    without_timestamps: bool
    """Text without timestamp tokens; a window is then one segment. Default false."""
    max_initial_timestamp: float
    """The latest start of a window's first segment, in seconds. Default 1."""
    max_new_tokens: int | None
    """Most text tokens of a window; ``None`` (the default) leaves it to the model."""
    seed: int
    """Seed of sampling at temperatures above 0. Default 0."""


class CueOptions(TypedDict, total=False):
    """How segments are cut into subtitles."""

    max_line_chars: int | None
    """The longest line, in columns; ``None`` (the default) leaves a cue on one line."""
    max_lines: int | None
    """The most lines of a cue: a longer segment is cut into several."""
    highlight_words: bool
    """Repeat a cue for each of its words that has times, the word underlined. Default false."""
    max_chars_per_second: int | None
    """A cue that would have to be read faster stays longer, as far as the next one lets it."""
    close_gaps_ms: int
    """A cue stays until the next one where the gap is at most this. Default 0."""


class BinaryFile(Protocol):
    """A file object opened for reading bytes."""

    def read(self, size: int = ..., /) -> bytes: ...


class SupportsArray(Protocol):
    """An array of another library, such as a torch tensor."""

    def __array__(self) -> object: ...


OnProgress = Callable[[Progress], object]
"""Called as a run goes on; what it raises ends the run."""
OnDownload = Callable[[Download], object]
"""Called as a model is downloaded."""

if TYPE_CHECKING:
    AudioSource = Union[str, os.PathLike[str], bytes, BinaryFile, Buffer, SupportsArray, Audio]
else:
    AudioSource = Union[str, os.PathLike, bytes, BinaryFile, SupportsArray]
"""A path, the bytes of a file, a binary file object, or float32 samples."""
