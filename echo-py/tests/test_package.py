"""The package: the command line, types, logging, the modules for other libraries' programs."""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import echo
from echo import _echo
from echo._types import TranscribeOptions


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_the_command_line_is_the_same_as_in_rust() -> None:
    version = run("-m", "echo", "--version")
    assert (version.returncode, version.stdout.strip()) == (0, f"echo-asr {echo.__version__}")
    assert run("-m", "echo", "devices").stdout.splitlines()[0] == "cpu"
    assert run("-m", "echo", "transcribe").returncode == 2
    missing = run("-m", "echo", "models", "path", "no-such-model")
    assert missing.returncode == 1 and "no-such-model" in missing.stderr


def test_every_option_of_the_core_has_a_type() -> None:
    assert set(TranscribeOptions.__annotations__) == set(_echo.option_names()) - {"decode"}


def test_a_users_file_passes_strict_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    user = Path(__file__).parent / "typed_user.py"
    found = run("-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(user))
    assert found.returncode == 0, found.stdout


def test_the_package_passes_strict_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    settings = str(Path(__file__).parents[1] / "pyproject.toml")
    found = run("-m", "mypy", "--config-file", settings, "--cache-dir", str(tmp_path), "-p", "echo")
    assert found.returncode == 0, found.stdout


def test_the_stubs_say_what_is_there() -> None:
    pytest.importorskip("mypy")
    found = run("-m", "mypy.stubtest", "echo._echo")
    assert found.returncode == 0, found.stdout + found.stderr


def test_importing_loads_neither_numpy_nor_asyncio() -> None:
    heavy = "numpy asyncio pandas tqdm logging inspect"
    program = f"import sys, echo; print([n for n in {heavy.split()} if n in sys.modules])"
    assert run("-c", program).stdout.strip() in ("[]", "['inspect']")


def test_records_of_the_core_go_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="echo"):
        _echo.log_from(logging.INFO)
        assert logging.getLogger("echo").isEnabledFor(logging.INFO)


def test_a_faster_whisper_program_runs_with_its_import_changed(store: str, dialogue: Path) -> None:
    from echo.compat.faster_whisper import WhisperModel

    model = WhisperModel("base", device="cpu", compute_type="float32", download_root=store)
    segments, info = model.transcribe(str(dialogue), beam_size=5)
    assert info.language == "en" and info.language_probability > 0.8
    found = list(segments)
    assert found[0].text.startswith(" ") and found[0].id == 1
    assert "honey" in "".join(segment.text for segment in found)
    segments, _ = model.transcribe(
        numpy.asarray(echo.load_audio(dialogue)),
        beam_size=1,
        vad_filter=True,
        vad_parameters={"threshold": 0.5},
        word_timestamps=True,
    )
    words = [word for segment in segments for word in segment.words or []]
    assert " bees" in "".join(word.word for word in words)
    assert all(word.start <= word.end for word in words)
    with pytest.raises(echo.OptionError, match="hallucination"):
        model.transcribe(str(dialogue), hallucination_silence_threshold=1.0)


def test_a_whisperx_program_runs_with_its_import_changed(store: str, dialogue: Path) -> None:
    import echo.compat.whisperx as whisperx

    model = whisperx.load_model("base", "cpu", compute_type="float32", download_root=store)
    audio = whisperx.load_audio(str(dialogue))
    assert isinstance(audio, numpy.ndarray)
    percents: list[float] = []
    result = model.transcribe(audio, batch_size=16, progress_callback=percents.append)
    assert result["language"] == "en" and percents[-1] == 100.0
    assert {"text", "start", "end"} <= set(result["segments"][0])
    model_a, metadata = whisperx.load_align_model(language_code=result["language"], device="cpu")
    aligned = whisperx.align(result["segments"], model_a, metadata, audio, "cpu")
    assert {"word", "start", "end"} <= set(aligned["segments"][0]["words"][0])
    assert aligned["word_segments"][0] == aligned["segments"][0]["words"][0]
    with pytest.raises(echo.OptionError, match="transcript"):
        whisperx.align([{"text": "hello"}], model_a, metadata, audio, "cpu")


def test_a_recording_without_speech_has_a_language_and_no_segments(store: str) -> None:
    import echo.compat.whisperx as whisperx
    from echo.compat.faster_whisper import WhisperModel

    silence = numpy.zeros(3 * 16_000, dtype=numpy.float32)
    model = WhisperModel("base", device="cpu", download_root=store)
    segments, info = model.transcribe(silence)
    assert (info.language, info.language_probability, list(segments)) == ("en", 0.0, [])
    assert model.detect_language(silence) == ("en", 0.0, [("en", 0.0)])
    assert whisperx.load_model("base", "cpu", download_root=store).detect_language(silence) == "en"


def test_whisperx_speakers_are_those_who_share_most_time() -> None:
    pandas = pytest.importorskip("pandas")
    from echo.compat.whisperx import assign_word_speakers

    table = pandas.DataFrame(
        [
            {"start": 0.0, "end": 1.0, "speaker": "SPEAKER_00"},
            {"start": 1.0, "end": 5.0, "speaker": "SPEAKER_01"},
        ]
    )
    words = [{"word": "one", "start": 0.2, "end": 0.6}, {"word": "two", "start": 9.0, "end": 9.5}]
    segment = {"text": "one two", "start": 0.5, "end": 4.0, "words": words}
    result = assign_word_speakers(table, {"segments": [segment]})
    assert result["segments"][0]["speaker"] == "SPEAKER_01"
    assert words[0]["speaker"] == "SPEAKER_00" and "speaker" not in words[1]
    assign_word_speakers(table, {"segments": [segment]}, fill_nearest=True)
    assert words[1]["speaker"] == "SPEAKER_01"


def test_whisperx_speakers_are_told_by_the_model_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dialogue: Path
) -> None:
    pytest.importorskip("pandas")
    from echo.compat.whisperx import DiarizationPipeline

    # Whichever model is missing here is the one that was asked for.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ECHO_CACHE", str(tmp_path))
    models = {"pyannote/speaker-diarization-community-1": "community-1", "cam++": "segmentation-3.0"}
    for name, asked in [*models.items(), ("community-1", "community-1"), (None, "segmentation-3.0")]:
        with pytest.raises(echo.ModelError, match=f"`{asked}`: is not in {tmp_path}"):
            DiarizationPipeline(name)(str(dialogue))
    with pytest.raises(echo.OptionError, match="speaker-diarization-3.1', expected None, campplus"):
        DiarizationPipeline("pyannote/speaker-diarization-3.1")


def test_speakers_are_told_apart_without_a_recogniser(store: str, dialogue: Path) -> None:
    names = {model.name for model in echo.models.list(cache=store)}
    if not {"campplus", "segmentation-3.0"} <= names:
        pytest.skip("the store of ECHO_TEST_STORE has no networks for speakers")
    transcript = echo.diarize(dialogue, cache=store, offline=True, max_speakers=2)
    assert len(transcript.speakers) == 2 and len(transcript.turns) > 3
    with pytest.raises(TypeError, match="'speakers'"):
        echo.diarize(dialogue, speakers=2)  # type: ignore[call-arg]


def test_a_number_format_that_is_missing_gives_way_with_a_warning(store: str) -> None:
    from echo.compat.faster_whisper import WhisperModel

    with pytest.raises(echo.OptionError, match="float99"):
        WhisperModel("base", compute_type="float99", download_root=store)


def test_memory_is_flat_over_many_lives(store: str, dialogue: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads /proc")
    program = """
import sys, echo
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
sizes = []
clip = echo.load_audio(sys.argv[1]).samples[:32000]
for turn in range(int(sys.argv[3])):
    with echo.Transcriber("base", cache=sys.argv[2], offline=True, device="cpu") as transcriber:
        transcriber.transcribe(clip, sample_rate_hz=16000, beam_size=1, language="en")
    sizes.append(resident())
print(*sizes)
"""
    done = run("-c", program, str(dialogue), store, "12")
    assert done.returncode == 0, done.stderr
    sizes = [int(size) for size in done.stdout.split()]
    # The allocator keeps some of what was freed, more in the first lives; a leak of the model, 290 MB,
    # would show eight times.
    growth = statistics.median(sizes[8:]) - statistics.median(sizes[4:8])
    assert growth < 200e6, sizes
