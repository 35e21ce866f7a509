"""What the tests share. They need the model `base`: ECHO_TEST_STORE names the folder it is in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import echo

DIALOGUE = Path(__file__).parents[2] / "examples" / "media" / "dialogue.opus"


@pytest.fixture(scope="session")
def store() -> str:
    """The folder of the real weights."""
    folder = os.environ.get("ECHO_TEST_STORE")
    if folder is None:
        pytest.skip("set ECHO_TEST_STORE to a model folder that holds `base`")
    return folder


@pytest.fixture(scope="session")
def transcriber(store: str) -> Iterator[echo.Transcriber]:
    """A transcriber on real weights, which every test shares."""
    with echo.Transcriber("base", cache=store, offline=True, device="cpu") as transcriber:
        yield transcriber


@pytest.fixture(scope="session")
def transcript(transcriber: echo.Transcriber) -> echo.Transcript:
    """The bundled dialogue, transcribed greedily."""
    return transcriber.transcribe(DIALOGUE, beam_size=1)


@pytest.fixture
def dialogue() -> Path:
    """A recording of 30 seconds."""
    return DIALOGUE


@pytest.fixture(scope="session")
def long_audio() -> echo.Audio:
    """Four minutes of speech: more than any test waits for."""
    samples = echo.load_audio(DIALOGUE).samples.tobytes()
    return echo.Audio(samples * 8)
