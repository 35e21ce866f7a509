"""Transcribing: every kind of source, options, segments, many, progress."""

from __future__ import annotations

import array
import io
from pathlib import Path

import numpy
import pytest

import echo


def test_a_path_a_string_bytes_a_file_and_samples_give_the_same_sound(dialogue: Path) -> None:
    audio = echo.load_audio(dialogue)
    samples = numpy.asarray(audio)
    with dialogue.open("rb") as file:
        for source, rate_hz in (
            (str(dialogue), None),
            (dialogue.read_bytes(), None),
            (memoryview(dialogue.read_bytes()), None),
            (file, None),
            (io.BytesIO(dialogue.read_bytes()), None),
            (audio, None),
            (samples, 16_000),
            (array.array("f", samples.tolist()), 16_000),
            (Tensor(samples), 16_000),
        ):
            found = echo.load_audio(source, sample_rate_hz=rate_hz)
            assert found == audio, type(source)


def test_samples_and_a_file_give_the_same_text(
    transcriber: echo.Transcriber, transcript: echo.Transcript, dialogue: Path
) -> None:
    samples = numpy.asarray(echo.load_audio(dialogue))
    found = transcriber.transcribe(samples, sample_rate_hz=16_000, beam_size=1)
    assert found == transcript
    assert "bees" in transcript.text


class Tensor:
    """What a torch tensor is to Python: no buffer, but an array."""

    def __init__(self, samples: numpy.ndarray) -> None:
        self._samples = samples

    def __array__(self) -> numpy.ndarray:
        return self._samples


def test_a_pipe_that_cannot_seek_is_read_to_its_end(dialogue: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self._bytes = io.BytesIO(dialogue.read_bytes())

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return False

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            return self._bytes.readinto(buffer)

    assert len(echo.load_audio(Pipe())) == len(echo.load_audio(dialogue))


def test_segments_come_one_by_one_and_finish_gives_the_whole(
    transcriber: echo.Transcriber, transcript: echo.Transcript, dialogue: Path
) -> None:
    segments = transcriber.segments(dialogue, beam_size=1)
    assert next(segments) == transcript.segments[0]
    assert segments.finish() == transcript


def test_many_sources_keep_their_order_and_a_bad_one_costs_itself(
    transcriber: echo.Transcriber, transcript: echo.Transcript, dialogue: Path
) -> None:
    missing = dialogue.with_name("missing.wav")
    sources = [dialogue, missing, dialogue.read_bytes()]
    outcomes = list(transcriber.transcribe_many(iter(sources), beam_size=1))
    assert [source for source, _ in outcomes] == sources
    assert isinstance(outcomes[1][1], echo.NotFoundError)
    for index in (0, 2):
        found = outcomes[index][1]
        assert isinstance(found, echo.Transcript)
        assert found.text == transcript.text


def test_what_an_iterator_of_sources_raises_comes_out(
    transcriber: echo.Transcriber, dialogue: Path
) -> None:
    def sources():
        yield dialogue
        raise RuntimeError("no more")

    outcomes = transcriber.transcribe_many(sources(), beam_size=1)
    with pytest.raises(RuntimeError, match="no more"):
        for _ in outcomes:
            pass
    with pytest.raises(TypeError, match="source is int"):
        list(transcriber.transcribe_many([5]))


def test_progress_never_falls_and_ends_at_one(
    transcriber: echo.Transcriber, dialogue: Path
) -> None:
    reports: list[echo.Progress] = []
    transcriber.transcribe(dialogue, beam_size=1, on_progress=reports.append)
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert "transcribing" in {report.stage for report in reports}


def test_an_exception_in_the_callback_comes_out(
    transcriber: echo.Transcriber, dialogue: Path
) -> None:
    def refuse(_: echo.Progress) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        transcriber.transcribe(dialogue, on_progress=refuse)


def test_progress_bars_draw_with_and_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    with_tqdm, without = io.StringIO(), io.StringIO()
    for file in (with_tqdm, without):
        if file is without:
            monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
        bar = echo.progress_bar(file=file)
        for fraction in (0.0, 0.5, 1.0):
            bar(echo.Progress("transcribing", fraction))
        assert "100" in file.getvalue()


def test_options_reach_the_core(transcriber: echo.Transcriber, dialogue: Path) -> None:
    found = transcriber.transcribe(
        dialogue,
        language="English",
        mode="sequential",
        beam_size=1,
        clips=[{"start": 14.0, "end": 20.0}],
        vad={"onset": 0.4},
    )
    assert found.language == "en"
    assert found.language_probability is None
    assert all(13.9 <= segment.start <= segment.end <= 20.1 for segment in found)


def test_languages_are_detected(transcriber: echo.Transcriber, dialogue: Path) -> None:
    table = transcriber.detect_language(dialogue)
    assert next(iter(table)) == "en"
    assert sum(table.values()) == pytest.approx(1.0, abs=1e-3)


def test_a_transcriber_says_what_it_is_and_closes(store: str, dialogue: Path) -> None:
    with echo.Transcriber("base", cache=store, offline=True, device="cpu") as transcriber:
        assert transcriber.model == "base"
        assert transcriber.device == "cpu"
        assert transcriber.is_multilingual
        assert "base" in repr(transcriber)
    assert repr(transcriber) == "<Transcriber (closed)>"
    with pytest.raises(ValueError, match="closed"):
        transcriber.transcribe(dialogue)


def test_audio_is_a_buffer_and_an_array(dialogue: Path) -> None:
    audio = echo.load_audio(dialogue)
    samples = numpy.asarray(audio)
    assert samples.dtype == numpy.float32
    assert len(audio) == len(samples)
    assert audio.duration == pytest.approx(30.0, abs=1.0)
    assert numpy.shares_memory(samples, numpy.asarray(audio))
    resampled = echo.load_audio(numpy.zeros(48_000, numpy.float32), sample_rate_hz=48_000)
    assert len(resampled) == 16_000


def test_models_are_listed(store: str) -> None:
    assert "base" in {entry.name for entry in echo.models.catalog()}
    assert "base" in {model.name for model in echo.models.list(cache=store)}
    assert echo.models.path("base", cache=store).exists()
    assert str(echo.models.root(cache=store)) == store
    assert echo.models.pull("base", cache=store, offline=True).name == "base"
