"""Transcripts as data: JSON and back, files, tables, notebooks, pickles. No model is needed."""

from __future__ import annotations

import copy
import io
import json
import pickle
from pathlib import Path

import pytest

import echo


def sample() -> echo.Transcript:
    words = [
        echo.Word(0.5, 0.9, "Good", probability=0.5, timing="attention", speaker="SPEAKER_00"),
        echo.Word(1.0, 1.4, "morning <b>.", speaker="SPEAKER_00"),
    ]
    decoding = echo.Decoding([50364, 2205], 0.0, -0.25, 1.5, 0.125)
    return echo.Transcript(
        duration=3.5,
        language="en",
        language_probability=0.75,
        segments=[
            echo.Segment(0.5, 1.4, "Good morning <b>.", words, "SPEAKER_00", decoding=decoding),
            echo.Segment(2.0, 3.0, "Hello.", speaker="SPEAKER_01"),
        ],
        speakers=["SPEAKER_00", "SPEAKER_01"],
        warnings=["truncated"],
    )


def test_json_goes_there_and_back() -> None:
    transcript = sample()
    text = transcript.write("json")
    assert json.loads(text) == transcript.to_dict()
    assert echo.Transcript.from_json(text) == transcript
    assert echo.Transcript.from_dict(transcript.to_dict()) == transcript
    assert json.loads(text)["segments"][0]["words"][0]["word"] == "Good"


def test_members_of_later_versions_are_passed_over() -> None:
    members = {**sample().to_dict(), "mood": "cheerful"}
    assert echo.Transcript.from_dict(members) == sample()


def test_an_empty_transcript_is_valid_json() -> None:
    assert json.loads(echo.Transcript().write("json"))["segments"] == []


@pytest.mark.parametrize("format", ["txt", "srt", "vtt", "tsv", "json", "whisperx"])
def test_every_format_is_written_and_saved(tmp_path: Path, format: echo.Format) -> None:
    transcript, file = sample(), io.StringIO()
    text = transcript.write(format, file)
    assert text and file.getvalue() == text
    path = tmp_path / "talk.out"
    transcript.save(path, format)
    assert path.read_text(encoding="utf-8") == text


def test_the_name_of_a_file_tells_its_format(tmp_path: Path) -> None:
    for name in ("a.srt", "a.vtt", "a.json"):
        sample().save(str(tmp_path / name))
        loaded = echo.Transcript.load(tmp_path / name)
        assert [segment.text for segment in loaded][-1].endswith("Hello.")
    assert echo.Transcript.from_srt(sample().write("srt")).segments[0].start == 0.5
    assert echo.Transcript.from_vtt(sample().write("vtt")).segments[0].start == 0.5


def test_cues_are_cut_as_told() -> None:
    text = sample().write("srt", max_line_chars=10, max_lines=1)
    lines = [line for line in text.splitlines() if line and "-->" not in line]
    assert text.count("-->") > sample().write("srt").count("-->")
    assert all(len(line) < 30 for line in lines)


def test_every_way_to_cut_cues_is_known_to_the_core() -> None:
    defaults: echo.CueOptions = {
        "max_line_chars": None,
        "max_lines": None,
        "highlight_words": False,
        "max_chars_per_second": None,
        "close_gaps_ms": 0,
    }
    assert set(defaults) == set(echo.CueOptions.__annotations__)
    assert sample().write("srt", **defaults) == sample().write("srt")
    with pytest.raises(TypeError, match="'max_line'"):
        sample().write("srt", max_line=1)  # type: ignore[call-arg]
    with pytest.raises(echo.OptionError, match="cues"):
        sample().write("srt", max_lines="two")  # type: ignore[typeddict-item]


def test_changes_reach_the_file() -> None:
    transcript = sample()
    transcript.segments[1].speaker = "Anna"
    assert "Anna" in transcript.write("srt")


def test_everything_can_be_pickled_and_copied() -> None:
    transcript = sample()
    assert pickle.loads(pickle.dumps(transcript)) == transcript
    assert copy.deepcopy(transcript) == transcript
    audio = echo.Audio(b"\0" * 64, ["short"])
    assert pickle.loads(pickle.dumps(audio)) == audio


def test_reprs_are_short_and_say_what_matters() -> None:
    transcript = sample()
    assert repr(transcript) == "<Transcript 3.50 s, language en, 2 segments, 2 speakers>"
    assert "morning" in repr(transcript.segments[0])
    assert str(transcript) == transcript.text == "Good morning <b>. Hello."
    assert [word.text for word in transcript.words()] == ["Good", "morning <b>."]
    assert len(transcript) == 2


def test_a_notebook_shows_speakers_in_colour_and_escapes_text(tmp_path: Path) -> None:
    transcript = sample()
    html = transcript._repr_html_()
    assert "&lt;b&gt;" in html and "<b>." not in html
    assert html.count("#0072b2") == 1 and "audio" not in html
    sound = tmp_path / "talk.wav"
    sound.write_bytes(b"RIFF")
    transcript.source = str(sound)
    assert "<audio controls" in transcript._repr_html_()


def test_tables_have_a_row_a_segment_or_a_word() -> None:
    pytest.importorskip("pandas")
    assert list(sample().to_dataframe()["speaker"]) == ["SPEAKER_00", "SPEAKER_01"]
    assert list(sample().to_dataframe("words")["text"]) == ["Good", "morning <b>."]


def test_nonsense_is_refused_with_its_place(tmp_path: Path) -> None:
    broken = tmp_path / "broken.srt"
    broken.write_text("1\n00:00:01 --> never\nHello\n")
    with pytest.raises(echo.TranscriptError, match="line"):
        echo.Transcript.load(broken)
    with pytest.raises(echo.OptionError, match="docx"):
        sample().write("docx")  # type: ignore[arg-type]
    with pytest.raises(echo.OptionError, match="path"):
        sample().save(tmp_path / "talk.docx")
