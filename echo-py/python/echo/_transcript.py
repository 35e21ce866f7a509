"""The result: a transcript of segments and words.

Plain data that may be changed (a speaker renamed, a word corrected) and then written. Its JSON is the
documented one, the same as from Rust and Node. A field that JSON gains is one line here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TextIO, TypeVar

from . import _echo
from ._types import CueOptions

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Unpack

Format = Literal["txt", "srt", "vtt", "tsv", "json", "whisperx", "rttm"]
"""The formats that Echo writes."""

Record = TypeVar("Record", bound="_Record")


class _Record:
    """Data that is also a JSON object. Members that are empty are left out of it."""

    __slots__ = ()

    _names: ClassVar[Mapping[str, str]] = {}
    """Names in JSON, where they differ."""
    _parts: ClassVar[Mapping[str, type[_Record]]] = {}
    """Members that are records themselves, or lists of them."""
    _kept: ClassVar[frozenset[str]] = frozenset()
    """Members that are written even when they are empty."""
    _unwritten: ClassVar[frozenset[str]] = frozenset()
    """Members that JSON does not have."""

    def to_dict(self) -> dict[str, Any]:
        """The object of the documented JSON."""
        members: dict[str, Any] = {}
        for member in fields(self):  # type: ignore[arg-type]
            value = getattr(self, member.name)
            is_empty = value is None or value == [] or value == {}
            if member.name in self._unwritten or (is_empty and member.name not in self._kept):
                continue
            if isinstance(value, _Record):
                value = value.to_dict()
            elif isinstance(value, list):
                value = [item.to_dict() if isinstance(item, _Record) else item for item in value]
            members[self._names.get(member.name, member.name)] = value
        return members

    @classmethod
    def from_dict(cls: type[Record], members: Mapping[str, Any]) -> Record:
        """The record of such an object; members of later versions are passed over."""
        values: dict[str, Any] = {}
        for member in fields(cls):  # type: ignore[arg-type]
            name = cls._names.get(member.name, member.name)
            if name not in members:
                continue
            value, part = members[name], cls._parts.get(member.name)
            if part is not None and isinstance(value, list):
                value = [part.from_dict(item) for item in value]
            elif part is not None and value is not None:
                value = part.from_dict(value)
            values[member.name] = value
        return cls(**values)


@dataclass(slots=True)
class Word(_Record):
    """A word with its times."""

    start: float
    """Seconds from the start of the source."""
    end: float
    """Seconds from the start of the source; never before ``start``."""
    text: str
    """The word with its punctuation, without surrounding space; ``word`` in JSON."""
    probability: float | None = None
    """How sure the recogniser (or aligner) is of it, 0 to 1."""
    timing: str = "interpolated"
    """How its times were found: ``aligned``, ``attention`` or ``interpolated``."""
    speaker: str | None = None
    """Who says it."""

    _names = {"text": "word"}


@dataclass(slots=True)
class Decoding(_Record):
    """What the recogniser knows about a segment beyond its text."""

    tokens: list[int] = field(default_factory=list)
    """The text tokens, without timestamps."""
    temperature: float = 0.0
    """The temperature of the attempt that was kept."""
    avg_logprob: float = 0.0
    """Mean natural logarithm of token probability over the window."""
    compression_ratio: float = 0.0
    """Bytes of the window's text over bytes of it deflated."""
    no_speech_prob: float = 0.0
    """The weight of the no-speech token at the window's first step."""

    _kept = frozenset({"tokens"})


@dataclass(slots=True)
class Segment(_Record):
    """What the recogniser emits with a start and an end: a sentence or so."""

    start: float
    """Seconds from the start of the source."""
    end: float
    """Seconds from the start of the source; never before ``start``."""
    text: str
    """The text, without surrounding space."""
    words: list[Word] = field(default_factory=list)
    """Its words with times; empty unless words were asked for."""
    speaker: str | None = None
    """Who says most of it."""
    language: str | None = None
    """The language, where it is not the transcript's."""
    decoding: Decoding | None = field(default=None, repr=False)
    """How it was decoded; ``None`` in a transcript read from subtitles."""

    _parts = {"words": Word, "decoding": Decoding}


@dataclass(slots=True)
class Turn(_Record):
    """A stretch in which one speaker speaks, perhaps not alone."""

    start: float
    """Seconds from the start of the source."""
    end: float
    """Seconds from the start of the source; never before ``start``."""
    speaker: str
    """Who speaks."""


@dataclass(slots=True)
class Transcript(_Record):
    """Everything that was said in one source."""

    duration: float = 0.0
    """The length of the source in seconds."""
    language: str | None = None
    """The language given or detected; ``None`` where there was no speech to tell from."""
    language_probability: float | None = None
    """How sure language detection was, 0 to 1; ``None`` when the language was given."""
    segments: list[Segment] = field(default_factory=list)
    """What was said, in order of time."""
    speakers: list[str] = field(default_factory=list)
    """The speakers, in order of first appearance; empty unless speakers were asked for."""
    turns: list[Turn] = field(default_factory=list, repr=False)
    """Who speaks when, in order of start, overlapping where people do."""
    speaker_embeddings: dict[str, list[float]] = field(default_factory=dict, repr=False)
    """A vector of each speaker's voice; compare two by the cosine of their angle."""
    warnings: list[str] = field(default_factory=list)
    """What went wrong without spoiling the rest, such as a truncated file."""
    version: int = 1
    """The version of the JSON schema."""
    source: str | None = field(default=None, compare=False)
    """The path it was made of, for the player in notebooks; no part of the JSON."""

    _parts = {"segments": Segment, "turns": Turn}
    _kept = frozenset({"segments", "language"})
    _unwritten = frozenset({"source"})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Transcript:
        """Reads SubRip, WebVTT or JSON (Echo's or WhisperX's), told apart by their content."""
        return cls.from_json(_echo.load_transcript(os.fspath(path)))

    @classmethod
    def from_json(cls, text: str) -> Transcript:
        """Reads JSON as :meth:`write` writes it."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_srt(cls, text: str) -> Transcript:
        """Reads SubRip subtitles."""
        return cls.from_json(_echo.from_srt(text))

    @classmethod
    def from_vtt(cls, text: str) -> Transcript:
        """Reads WebVTT subtitles."""
        return cls.from_json(_echo.from_vtt(text))

    @property
    def text(self) -> str:
        """The whole text."""
        return _echo.text(self._json())

    def words(self) -> Iterator[Word]:
        """Every word of every segment, in order."""
        for segment in self.segments:
            yield from segment.words

    def __len__(self) -> int:
        return len(self.segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        speakers = f", {len(self.speakers)} speakers" if self.speakers else ""
        return (
            f"<Transcript {self.duration:.2f} s, language {self.language}, "
            f"{len(self.segments)} segments{speakers}>"
        )

    def write(
        self,
        format: Format = "txt",
        file: TextIO | None = None,
        **cues: Unpack[CueOptions],
    ) -> str:
        """The transcript in a format, also written to ``file`` if there is one."""
        text = _echo.format(self._json(), format, _cues(cues))
        if file is not None:
            file.write(text)
        return text

    def save(
        self,
        path: str | os.PathLike[str],
        format: Format | None = None,
        **cues: Unpack[CueOptions],
    ) -> None:
        """Writes a file, in the format given or the one its name ends in; whole or not at all."""
        _echo.save(self._json(), os.fspath(path), format, _cues(cues))

    def to_dataframe(self, level: Literal["segments", "words"] = "segments") -> pandas.DataFrame:
        """A table with a row a segment or a word; needs pandas."""
        import pandas

        rows: list[dict[str, Any]] = []
        for index, segment in enumerate(self.segments):
            if level == "words":
                rows += [
                    {
                        "segment": index,
                        "start": word.start,
                        "end": word.end,
                        "text": word.text,
                        "speaker": word.speaker,
                        "probability": word.probability,
                        "timing": word.timing,
                    }
                    for word in segment.words
                ]
            else:
                decoding = segment.decoding or Decoding()
                rows.append(
                    {
                        "start": segment.start,
                        "end": segment.end,
                        "text": segment.text,
                        "speaker": segment.speaker,
                        "avg_logprob": decoding.avg_logprob,
                        "no_speech_prob": decoding.no_speech_prob,
                    }
                )
        return pandas.DataFrame(rows)

    def _json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def _repr_html_(self) -> str:
        from ._html import render

        return render(self)


def _cues(cues: CueOptions) -> str:
    """How subtitles are cut, as JSON; a name that is none is a ``TypeError``, as for any keyword."""
    for name in cues:
        if name not in CueOptions.__annotations__:
            raise TypeError(f"unexpected keyword argument {name!r}")
    return json.dumps(cues)
