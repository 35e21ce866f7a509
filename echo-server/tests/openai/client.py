"""The official Python client against $ECHO_TEST_URL: every format x granularity x stream."""

import itertools
import os
import pathlib

import openai

FORMATS = ["json", "text", "srt", "vtt", "verbose_json", "diarized_json"]
GRANULARITIES = [None, ["word"], ["segment"], ["word", "segment"]]
SOUND = pathlib.Path(os.environ["ECHO_TEST_SOUND"])
TEXT = "pretended"

client = openai.OpenAI(
    base_url=f"{os.environ['ECHO_TEST_URL']}/v1", api_key=os.environ["ECHO_TEST_TOKEN"], max_retries=0, timeout=60
)


def is_refused(format: str, granularities: list[str] | None, stream: bool) -> str | None:
    """The parameter that OpenAI's documentation does not allow together with the others."""
    if granularities and format != "verbose_json":
        return "timestamp_granularities"
    return "stream" if stream and format not in ("json", "text", "diarized_json") else None


def transcribe(format: str, granularities: list[str] | None, stream: bool):
    more = {"timestamp_granularities": granularities} if granularities else {}
    model = "gpt-4o-transcribe-diarize" if format == "diarized_json" else "whisper-1"
    with SOUND.open("rb") as file:
        answer = client.audio.transcriptions.create(
            file=file, model=model, response_format=format, stream=stream, **more
        )
        return list(answer) if stream else answer


def check_events(events, format: str) -> None:
    kinds = [event.type for event in events]
    assert kinds[-1] == "transcript.text.done" and events[-1].text == TEXT, events
    if format == "diarized_json":
        assert kinds[:-1] == ["transcript.text.segment"] and events[0].speaker == "A", events
    else:
        assert set(kinds[:-1]) == {"transcript.text.delta"}, events
        assert "".join(event.delta for event in events[:-1]) == TEXT, events


def check_answer(answer, format: str, granularities: list[str] | None) -> None:
    if format in ("text", "srt", "vtt"):
        assert isinstance(answer, str) and TEXT in answer, answer
        beginning = {"text": TEXT, "srt": "1\n00:00:00,", "vtt": "WEBVTT"}[format]
        assert answer.startswith(beginning), answer
        return
    assert answer.text == TEXT, answer
    if format == "json":
        assert answer.usage.type == "duration" and answer.usage.seconds == 2, answer
    elif format == "diarized_json":
        assert [segment.speaker for segment in answer.segments] == ["A"], answer
    else:
        assert (answer.language, answer.duration, answer.task) == ("english", 2.0, "transcribe"), answer
        asks_segments = granularities is None or "segment" in granularities
        assert (answer.segments is not None) == asks_segments, answer
        assert (answer.words is not None) == ("word" in (granularities or [])), answer
        for part in [*(answer.segments or []), *(answer.words or [])]:
            assert 0 <= part.start < part.end <= 2, part


def check_matrix() -> int:
    count = 0
    for format, granularities, stream in itertools.product(FORMATS, GRANULARITIES, [False, True]):
        count += 1
        param = is_refused(format, granularities, stream)
        try:
            answer = transcribe(format, granularities, stream)
        except openai.BadRequestError as error:
            assert error.param == param and error.code == "invalid_option", (format, granularities, stream, error)
            continue
        assert param is None, (format, granularities, stream, answer)
        check_events(answer, format) if stream else check_answer(answer, format, granularities)
    return count


def check_the_rest() -> None:
    with SOUND.open("rb") as file:
        answer = client.audio.translations.create(file=file, model="whisper-1", response_format="verbose_json")
    assert (answer.text, answer.task) == (TEXT, "translate"), answer
    # Bytes without a name, and every field that the client knows.
    answer = client.audio.transcriptions.create(
        file=SOUND.read_bytes(),
        model="whisper-1",
        language="en",
        prompt="Echo",
        temperature=0.2,
        include=["logprobs"],
        chunking_strategy={"type": "server_vad", "threshold": 0.4},
        extra_body={"hotwords": ["Echo", "Kühn"], "diarize": True},
    )
    assert answer.text == TEXT, answer
    names = [model.id for model in client.models.list()]
    assert "whisper-1" in names and client.models.retrieve(names[0]).owned_by == "echo", names
    for call, expected in [
        (lambda: client.models.retrieve("gpt-9"), openai.NotFoundError),
        (lambda: client.audio.transcriptions.create(file=SOUND.open("rb"), model="gpt-9"), openai.NotFoundError),
        (lambda: client.audio.transcriptions.create(file=b"<html>", model="whisper-1"), openai.APIStatusError),
        (lambda: client.audio.transcriptions.create(file=b"", model="whisper-1"), openai.BadRequestError),
    ]:
        try:
            call()
        except expected as error:
            assert error.code and error.request_id, error
        else:
            raise AssertionError(f"{expected} was expected")


print(f"Python's client {openai.__version__}: {check_matrix()} combinations")
check_the_rest()
