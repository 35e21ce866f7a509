"""Threads, signals and cancellation: the lock is free while work goes on, and work can be stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import echo


def native_threads() -> int:
    """Threads of this process, whoever made them."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def resting(transcript: echo.Transcript) -> int:
    """The number of threads when nothing runs: one run has started the pools that stay."""
    del transcript
    before = native_threads()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = native_threads()
        if now == before:
            return now
        before = now
    return before


def wait_for_workers(count: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while native_threads() > count:
        assert time.monotonic() < deadline, "a worker goes on"
        time.sleep(0.02)


def test_eight_threads_share_one_transcriber(
    transcriber: echo.Transcriber, transcript: echo.Transcript, dialogue: Path
) -> None:
    clips = [{"start": 0.0, "end": 5.0}]

    def run(_: int) -> echo.Transcript:
        return transcriber.transcribe(dialogue, beam_size=1, language="en", clips=clips)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, range(8)))
    assert all(one == found[0] for one in found)
    assert found[0].text.startswith(transcript.text[:40])


def test_python_runs_while_work_goes_on(transcriber: echo.Transcriber, dialogue: Path) -> None:
    done = threading.Event()
    gaps: list[float] = []

    def tick() -> None:
        last = time.monotonic()
        while not done.is_set():
            time.sleep(0.001)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    ticker = threading.Thread(target=tick)
    ticker.start()
    transcriber.transcribe(dialogue, beam_size=1)
    done.set()
    ticker.join()
    assert len(gaps) > 3


def test_leaving_the_loop_stops_the_work(
    transcriber: echo.Transcriber, long_audio: echo.Audio, resting: int
) -> None:
    for _ in transcriber.segments(long_audio, beam_size=1):
        break
    wait_for_workers(resting)
    with transcriber.segments(long_audio, beam_size=1) as segments:
        next(segments)
    wait_for_workers(resting)
    with pytest.raises(ValueError, match="stopped"):
        segments.finish()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_ends_a_long_run_at_once(store: str, dialogue: Path) -> None:
    program = """
import signal, sys, time, echo
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
audio = echo.Audio(echo.load_audio(sys.argv[1]).samples.tobytes() * 16)
transcriber = echo.Transcriber("base", cache=sys.argv[2], offline=True, device="cpu")
def started(progress):
    if progress.stage == "transcribing":
        print("started", flush=True)
try:
    transcriber.transcribe(audio, on_progress=started)
except KeyboardInterrupt:
    print(time.time(), flush=True)
"""
    command = [sys.executable, "-c", program, str(dialogue), store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "started"
        sent_at = time.time()
        process.send_signal(signal.SIGINT)
        lines = [line.strip() for line in process.stdout if line.strip() != "started"]
    assert process.returncode == 0, lines
    # 200 ms on an idle machine; tests share theirs.
    assert float(lines[-1]) - sent_at < 5


def test_a_task_that_is_cancelled_stops_the_work(
    transcriber: echo.Transcriber, long_audio: echo.Audio, resting: int
) -> None:
    async def main() -> None:
        task = asyncio.create_task(transcriber.transcribe_async(long_audio))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    wait_for_workers(resting)


def test_tasks_run_together_and_the_loop_goes_on(
    transcriber: echo.Transcriber, transcript: echo.Transcript, dialogue: Path
) -> None:
    ticks = 0

    async def main() -> list[echo.Transcript]:
        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticker = asyncio.create_task(tick())
        runs = [transcriber.transcribe_async(dialogue, beam_size=1) for _ in range(2)]
        found = await asyncio.gather(*runs)
        ticker.cancel()
        return found

    assert all(one == transcript for one in asyncio.run(main()))
    assert ticks > 3


def test_segments_come_to_an_async_loop(
    store: str, transcript: echo.Transcript, dialogue: Path
) -> None:
    async def main() -> list[echo.Segment]:
        reports: list[echo.Progress] = []
        transcriber = await echo.Transcriber.load_async(
            "base", cache=store, offline=True, device="cpu"
        )
        stream = transcriber.segments_async(dialogue, beam_size=1, on_progress=reports.append)
        found = [segment async for segment in stream]
        assert reports[-1].fraction == 1.0
        return found

    assert asyncio.run(main()) == transcript.segments


def test_errors_reach_an_async_caller(transcriber: echo.Transcriber) -> None:
    with pytest.raises(echo.NotFoundError):
        asyncio.run(transcriber.transcribe_async("nowhere.wav"))


def test_a_program_may_end_in_the_middle_of_work(store: str, dialogue: Path) -> None:
    program = """
import sys, echo
audio = echo.Audio(echo.load_audio(sys.argv[1]).samples.tobytes() * 16)
transcriber = echo.Transcriber("base", cache=sys.argv[2], offline=True, device="cpu")
segments = transcriber.segments(audio, beam_size=1)
print(next(segments).text)
"""
    command = [sys.executable, "-c", program, str(dialogue), store]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
