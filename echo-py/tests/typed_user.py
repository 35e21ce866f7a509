"""A program as a user writes it, for `mypy --strict`; it is not run."""

import asyncio
import io
from array import array
from pathlib import Path

import echo


def show(progress: echo.Progress) -> None:
    print(progress.stage, progress.fraction)


def main() -> None:
    with echo.Transcriber("base", device="cpu", threads=2) as transcriber:
        transcript = transcriber.transcribe(
            Path("talk.mp3"),
            language="de",
            beam_size=1,
            temperatures=[0.0],
            vad={"onset": 0.4},
            on_progress=show,
        )
        transcript.save("talk.srt", max_line_chars=42)
        for segment in transcript.segments:
            speaker: str | None = segment.speaker
            print(segment.start, speaker, segment.text, [word.text for word in segment.words])
        transcriber.transcribe(array("f", [0.0]), sample_rate_hz=16_000)
        transcriber.transcribe(io.BytesIO(b""))
        for part in transcriber.segments("talk.mp3", on_progress=echo.progress_bar()):
            print(part.text)
        for source, result in transcriber.transcribe_many(["a.mp3", b"bytes"]):
            if isinstance(result, echo.EchoError):
                print(source, result.code)
            else:
                print(result.text)
        asyncio.run(follow(transcriber))
    probability: float = echo.detect_language("talk.mp3")["en"]
    print(probability, echo.load_audio("talk.mp3").duration)


async def follow(transcriber: echo.Transcriber) -> None:
    transcript: echo.Transcript = await transcriber.transcribe_async("talk.mp3")
    print(transcript.to_dict())
    async for segment in transcriber.segments_async("talk.mp3"):
        print(segment.text)
