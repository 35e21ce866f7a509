"""A loaded model that transcribes: load once, use from any thread."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from . import _echo, _jobs
from ._errors import EchoError, OptionError
from ._source import as_source
from ._transcript import Segment, Transcript

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from ._types import AudioSource, OnDownload, OnProgress, TranscribeOptions


class Transcriber:
    """A loaded model that transcribes.

    >>> with Transcriber("base") as transcriber:          # doctest: +SKIP
    ...     print(transcriber.transcribe("talk.mp3").text)

    Threads share one: the interpreter's lock is free while it works. Leaving the ``with`` block
    frees the memory of the model as soon as no run uses it any more.

    :param model: a name of the catalogue, a hub repository (``owner/name``), a folder or a file.
    :param device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``metal``.
    :param compute_type: ``auto``, ``f32``, ``bf16``, ``f16`` or ``int8``.
    :param threads: threads for work on the CPU; one for each processor by default.
    :param batch_size: windows decoded at once in batched mode; 8 by default.
    :param aligner: an acoustic model of the language spoken, which places words better than attention.
    :param diarization_model: what tells speakers apart: ``campplus`` (the default), ``community-1`` (needs
        ``HF_TOKEN`` to be downloaded), a hub repository, or a folder laid out as that one.
    :param cache: the folder of the models; the user's cache folder by default.
    :param offline: open no socket; by default as ``HF_HUB_OFFLINE`` says.
    :param on_download: called while the model is downloaded.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "base",
        *,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int | None = None,
        batch_size: int | None = None,
        aligner: str | os.PathLike[str] | None = None,
        diarization_model: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        offline: bool | None = None,
        on_download: OnDownload | None = None,
    ) -> None:
        job = _load(
            model, device, compute_type, threads, batch_size, aligner, diarization_model, cache, offline
        )
        self._native: _echo.Native | None = _jobs.finish(job, None, on_download)

    @classmethod
    async def load_async(
        cls,
        model: str | os.PathLike[str] = "base",
        *,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int | None = None,
        batch_size: int | None = None,
        aligner: str | os.PathLike[str] | None = None,
        diarization_model: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        offline: bool | None = None,
        on_download: OnDownload | None = None,
    ) -> Self:
        """Loads a model without blocking the event loop."""
        job = _load(
            model, device, compute_type, threads, batch_size, aligner, diarization_model, cache, offline
        )
        transcriber = cls.__new__(cls)
        transcriber._native = await _jobs.finish_async(job, None, on_download)
        return transcriber

    def transcribe(
        self,
        source: AudioSource,
        *,
        sample_rate_hz: int | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> Transcript:
        """Transcribes a path, the bytes of a file, a file object, or samples with their rate."""
        job = self._start("transcribe", source, sample_rate_hz, on_progress, options)
        return _transcript(_jobs.finish(job, on_progress), source)

    async def transcribe_async(
        self,
        source: AudioSource,
        *,
        sample_rate_hz: int | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> Transcript:
        """Like :meth:`transcribe`, in an event loop; cancelling the task cancels the work."""
        job = self._start("transcribe", source, sample_rate_hz, on_progress, options)
        return _transcript(await _jobs.finish_async(job, on_progress), source)

    def segments(
        self,
        source: AudioSource,
        *,
        sample_rate_hz: int | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> Segments:
        """Yields segments as they are decoded; leaving the loop stops the work."""
        job = self._start("segments", source, sample_rate_hz, on_progress, options)
        return Segments(job, source, on_progress)

    async def segments_async(
        self,
        source: AudioSource,
        *,
        sample_rate_hz: int | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> AsyncIterator[Segment]:
        """Like :meth:`segments`, for ``async for``."""
        job = self._start("segments", source, sample_rate_hz, on_progress, options)
        try:
            async for kind, value in _jobs.events_async(job, on_progress):
                if kind == "segment":
                    yield Segment.from_dict(json.loads(value))
        finally:
            job.cancel()

    def transcribe_many(
        self,
        sources: Iterable[AudioSource],
        *,
        sample_rate_hz: int | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> Iterator[tuple[AudioSource, Transcript | EchoError]]:
        """Transcribes many sources; chunks of several share a batch.

        Yields each source with its transcript or, if it cannot be read, with its error, in order and
        as soon as they are ready. Sources are taken as results are; leaving the loop stops the work.
        """
        taken: list[Any] = []

        def take() -> Iterator[_echo.Source]:
            for source in sources:
                taken.append(source)
                yield as_source(source, sample_rate_hz)

        _jobs.prepare_logging()
        job = self._model().transcribe_many(take(), _options(options))
        return _outcomes(job, taken)

    def detect_language(
        self, source: AudioSource, *, sample_rate_hz: int | None = None
    ) -> dict[str, float]:
        """The languages of the first speech with their probabilities, likeliest first."""
        job = self._model().detect_language(as_source(source, sample_rate_hz))
        return dict(_jobs.finish(job))

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._model().model

    @property
    def device(self) -> str:
        """The device that was chosen."""
        return self._model().device

    @property
    def compute_type(self) -> str:
        """The number format that was chosen."""
        return self._model().compute_type

    @property
    def is_multilingual(self) -> bool:
        """Whether the model knows languages other than English."""
        return self._model().is_multilingual

    def close(self) -> None:
        """Frees the model as soon as no run uses it any more."""
        self._native = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._native is None:
            return "<Transcriber (closed)>"
        return f"<Transcriber {self.model!r} on {self.device} in {self.compute_type}>"

    def _model(self) -> _echo.Native:
        if self._native is None:
            raise ValueError("the transcriber is closed")
        return self._native

    def _start(
        self,
        method: str,
        source: AudioSource,
        sample_rate_hz: int | None,
        on_progress: OnProgress | None,
        options: TranscribeOptions,
    ) -> _echo.Job:
        _jobs.prepare_logging()
        start = getattr(self._model(), method)
        given = _options(options)
        job: _echo.Job = start(as_source(source, sample_rate_hz), given, on_progress is not None)
        return job


class Segments(Iterator[Segment]):
    """Segments as they are decoded, in order of time."""

    def __init__(
        self, job: _echo.Job, source: AudioSource, on_progress: OnProgress | None
    ) -> None:
        self._events = _jobs.events(job, on_progress)
        self._source = source
        self._transcript: Transcript | None = None

    def __next__(self) -> Segment:
        for kind, value in self._events:
            if kind == "segment":
                return Segment.from_dict(json.loads(value))
            self._transcript = _transcript(value, self._source)
        raise StopIteration

    def finish(self) -> Transcript:
        """Does the rest of the work; returns the whole transcript."""
        for _ in self:
            pass
        if self._transcript is None:
            raise ValueError("the work was stopped")
        return self._transcript

    def close(self) -> None:
        """Stops the work."""
        self._events.close()  # type: ignore[attr-defined]

    def __enter__(self) -> Segments:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _load(
    model: str | os.PathLike[str],
    device: str,
    compute_type: str,
    threads: int | None,
    batch_size: int | None,
    aligner: str | os.PathLike[str] | None,
    diarization_model: str | os.PathLike[str] | None,
    cache: str | os.PathLike[str] | None,
    offline: bool | None,
) -> _echo.Job:
    _jobs.prepare_logging()
    return _echo.load(
        os.fspath(model),
        device=device,
        compute_type=compute_type,
        threads=_count("threads", threads),
        batch_size=_count("batch_size", batch_size),
        aligner=None if aligner is None else os.fspath(aligner),
        diarization_model=None if diarization_model is None else os.fspath(diarization_model),
        cache=None if cache is None else os.fspath(cache),
        offline=offline,
    )


def _count(option: str, value: int | None) -> int | None:
    if value is not None and value < 0:
        raise OptionError(f"option `{option}` is {value}, expected 1 or more")
    return value


_NAMES = frozenset(_echo.option_names())


def _options(options: TranscribeOptions) -> str:
    """Options as JSON; a name that is none is a ``TypeError``, as for any keyword."""
    for name, value in options.items():
        if name not in _NAMES:
            raise TypeError(_unexpected(name))
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OptionError(f"option `{name}` is {value!r}: {error}") from error
    return json.dumps(options)


def _unexpected(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _NAMES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unexpected keyword argument {name!r}{hint}"


def _transcript(text: str, source: AudioSource) -> Transcript:
    transcript = Transcript.from_json(text)
    if isinstance(source, (str, os.PathLike)):
        transcript.source = os.fspath(source)
    return transcript


def _outcomes(
    job: _echo.Job, sources: list[Any]
) -> Iterator[tuple[AudioSource, Transcript | EchoError]]:
    for kind, value in _jobs.events(job):
        if kind == "done":
            return
        index, outcome = value
        source, sources[index] = sources[index], None
        yield source, _transcript(outcome, source) if kind == "transcript" else outcome
