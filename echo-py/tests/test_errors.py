"""Bad input: the right class, and a message that names the value and what was expected."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy
import pytest

import echo


@pytest.mark.parametrize(
    ("samples", "rate_hz", "error", "message"),
    [
        (numpy.zeros(10, numpy.float64), 16_000, echo.OptionError, "'d'.*32-bit floats"),
        (numpy.zeros(10, numpy.int16), 16_000, echo.OptionError, "'h'.*32-bit floats"),
        (numpy.zeros((2, 10), numpy.float32), 16_000, echo.OptionError, r"\(2, 10\).*one dimension"),
        (numpy.zeros(20, numpy.float32)[::2], 16_000, echo.OptionError, "gaps.*contiguous"),
        (numpy.zeros(10, numpy.float32), None, echo.OptionError, "sample_rate_hz.*missing"),
        (numpy.zeros(10, numpy.float32), 10, echo.OptionError, "10, expected 1,000"),
        (numpy.zeros(10, numpy.float32), -1, echo.OptionError, "-1, expected 1,000"),
        (numpy.zeros(10, numpy.float32), "16k", TypeError, "sample_rate_hz is str"),
        (numpy.array([0, numpy.nan], numpy.float32), 16_000, echo.OptionError, "index 1"),
        (b"RIFF", 16_000, echo.OptionError, "sample_rate_hz"),
        (42, None, TypeError, "source is int, expected"),
        (None, None, TypeError, "source is NoneType"),
        (io.StringIO("text"), None, TypeError, "mode 'rb'"),
        (b"no sound at all", None, echo.AudioError, "15 bytes"),
        (b"", None, echo.AudioError, "0 bytes"),
    ],
)
def test_wrong_sources_are_named(
    samples: object, rate_hz: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        echo.load_audio(samples, sample_rate_hz=rate_hz)  # type: ignore[arg-type]


def test_a_missing_file_is_an_os_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "missing.wav"
    with pytest.raises(FileNotFoundError) as caught:
        echo.load_audio(path)
    error = caught.value
    assert isinstance(error, echo.AccessError) and isinstance(error, echo.EchoError)
    assert (error.code, error.errno, error.filename) == ("io", 2, str(path))
    assert str(path) in str(error)
    with pytest.raises(echo.AccessError):
        echo.load_audio(tmp_path)


def test_broken_files_are_errors_or_give_what_they_have() -> None:
    folder = __import__("os").environ.get("ECHO_TEST_AUDIO")
    if folder is None:
        pytest.skip("set ECHO_TEST_AUDIO to a folder of recordings")
    paths = sorted((Path(folder) / "broken").iterdir())
    assert paths
    for path in paths:
        try:
            echo.load_audio(path)
        except echo.EchoError as error:
            assert error.code in ("audio", "io"), path


def test_a_file_object_that_fails_says_why() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if size == 0:
                return b""
            raise RuntimeError("the tape broke")

    with pytest.raises(echo.EchoError, match="the tape broke"):
        echo.load_audio(Failing(b"RIFF"))


def test_wrong_options_are_named(transcriber: echo.Transcriber, dialogue: Path) -> None:
    cases = [
        ({"beam_size": 0}, "`beam_size` is 0, expected 1 or more"),
        ({"beam_size": "five"}, '`beam_size` is "five", expected a whole number'),
        ({"language": "klingon"}, "klingon"),
        ({"patience": float("nan")}, "patience"),
        ({"temperatures": object()}, "temperatures"),
        ({"vad": {"loud": 1}}, "`loud`"),
    ]
    for options, message in cases:
        with pytest.raises(echo.OptionError, match=message) as caught:
            transcriber.transcribe(dialogue, **options)  # type: ignore[arg-type]
        assert isinstance(caught.value, ValueError)
        assert caught.value.code == "option"
    with pytest.raises(TypeError, match="'beam'; did you mean"):
        transcriber.transcribe(dialogue, beam=5)  # type: ignore[call-arg]


def test_wrong_models_and_devices_are_named(tmp_path: Path) -> None:
    with pytest.raises(echo.ModelError, match="bas"):
        echo.Transcriber("bass", cache=tmp_path, offline=True)
    with pytest.raises(echo.ModelError, match="offline"):
        echo.Transcriber("base", cache=tmp_path, offline=True)
    with pytest.raises(echo.OptionError, match="`abacus`"):
        echo.Transcriber("base", device="abacus")
    with pytest.raises(echo.OptionError, match="threads"):
        echo.Transcriber("base", threads=-1)
    with pytest.raises(echo.OptionError, match="batch_size"):
        echo.Transcriber("base", batch_size=0)


def test_errors_can_be_pickled_with_their_class() -> None:
    error = echo.OptionError("option `x` is 1, expected 2")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is echo.OptionError and str(again) == str(error)
