#!/usr/bin/env python3
"""Peak memory and time per minute of audio on long recordings, by the number of minutes.

    memory.py --model PATH [--minutes 5,60] [--threads N] [--options TEXT] [--work DIR] RECORDING...

Recordings (WAV by Python alone, others through the package soundfile; all of one sample rate) are joined, again from
the first when they run out, to a mono WAV of each length; `echo-asr` transcribes it while its resident memory is
sampled every 0.2 s. The table has the peak, the memory at each quarter of the run (it must not grow with the
recording beyond the samples, 3.84 MB a minute) and time per minute of audio against the first length, by the clock and
by the CPU's count, which other programs disturb less. Starting up, measured on a tenth of a second of silence, is
taken off both.
"""

import argparse
import itertools
import json
import shlex
import sys
import tempfile
import wave
from array import array
from collections.abc import Iterator
from pathlib import Path

from echo_bench.process import Measured, find_program, machine, run_measured

SAMPLE_EVERY_S = 0.2
START_UP_SAMPLES = 1_600  # a tenth of a second at 16 kHz


def main() -> None:
    arguments = parse_arguments()
    program = find_program("echo-asr", arguments.echo)
    heads = ["minutes", "peak MB", "MB at 25/50/75/100 %", "wall s", "wall s per minute", "against the first",
             "CPU s per minute", "against the first", "segments"]
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    first = None
    with tempfile.TemporaryDirectory() as temporary:
        silence = Path(temporary, "silence.wav")
        write_wav(silence, 16_000, [array("h", [0] * START_UP_SAMPLES)])
        start_up, _ = transcribe(program, silence, arguments)
        for minutes in map(float, arguments.minutes.split(",")):
            path = (arguments.work or Path(temporary)) / f"joined-{minutes:g}-minutes.wav"
            if not path.exists():
                rate_hz, _ = read_mono(arguments.recordings[0])
                write_wav(path, rate_hz, joined(arguments.recordings, round(minutes * 60 * rate_hz), rate_hz))
            measured, transcript = transcribe(program, path, arguments)
            costs = [(measured.wall_s - start_up.wall_s) / minutes, (measured.cpu_s - start_up.cpu_s) / minutes]
            first = first or costs
            against = [f"{100 * (cost / base - 1):+.1f} %" for cost, base in zip(costs, first)]
            cells = [f"{minutes:g}", f"{measured.peak_rss_bytes / 1e6:.0f}", quarters(measured),
                     f"{measured.wall_s:.1f}", f"{costs[0]:.2f}", against[0], f"{costs[1]:.2f}", against[1],
                     str(len(transcript["segments"]))]
            rows.append("| " + " | ".join(cells) + " |")
            print(rows[-1], file=sys.stderr, flush=True)
    print(f"{arguments.model.name} {arguments.compute_type} {arguments.options}, {arguments.threads} threads, {machine()}; "
          f"starting up: {start_up.wall_s:.2f} s, {start_up.peak_rss_bytes / 1e6:.0f} MB\n")
    print("\n".join(rows))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, nargs="+", metavar="RECORDING")
    parser.add_argument("--model", type=Path, required=True, metavar="PATH", help="a model's folder or file")
    parser.add_argument("--minutes", default="5,60", help="lengths, comma-separated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compute-type", default="f32")
    parser.add_argument("--options", default="--language en", metavar="TEXT", help="more options of echo-asr, as one text")
    parser.add_argument("--echo", type=Path, metavar="PATH", help="echo-asr; default: target/release/echo-asr")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the long recordings here")
    return parser.parse_args()


def transcribe(program: Path, path: Path, arguments: argparse.Namespace) -> tuple[Measured, dict]:
    """One process that reads the file, as a user's would."""
    line = [program, "transcribe", "--offline", "--quiet", "--device", "cpu", "--model", arguments.model,
            "--compute-type", arguments.compute_type, "--threads", arguments.threads,
            *shlex.split(arguments.options), "-f", "json", "-o", "-", path]
    measured = run_measured(line, sample_every_s=SAMPLE_EVERY_S)
    if measured.exit_code != 0:
        sys.exit(f"error: {program.name} ended with {measured.exit_code}: {measured.stderr[-2000:]}")
    return measured, json.loads(measured.stdout)


def quarters(measured: Measured) -> str:
    """Resident memory when a quarter, a half, three quarters and all of the time had passed."""
    samples = measured.rss_samples
    if not samples:
        return "–"
    picked = [samples[min(len(samples) - 1, round(len(samples) * share) - 1)][1] for share in (0.25, 0.5, 0.75, 1.0)]
    return "/".join(f"{size / 1e6:.0f}" for size in picked)


def joined(recordings: list[Path], count: int, rate_hz: int) -> Iterator[array]:
    """`count` samples from the recordings, again from the first when they run out."""
    for recording in itertools.cycle(recordings):
        found_hz, samples = read_mono(recording)
        if found_hz != rate_hz or not samples:
            sys.exit(f"error: {recording} has {len(samples)} samples at {found_hz} Hz, expected some at {rate_hz} Hz")
        yield samples[:count]
        count -= min(count, len(samples))
        if count == 0:
            return


def write_wav(path: Path, rate_hz: int, parts) -> None:
    """Writes 16-bit mono samples."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        for samples in parts:
            out.writeframes(samples.tobytes())


def read_mono(path: Path) -> tuple[int, array]:
    """Sample rate and 16-bit samples of the first channel."""
    if path.suffix.lower() == ".wav":
        with wave.open(str(path), "rb") as source:
            if source.getsampwidth() != 2:
                sys.exit(f"error: {path} has {8 * source.getsampwidth()} bits a sample, expected 16")
            samples = array("h", source.readframes(source.getnframes()))
            return source.getframerate(), samples[:: source.getnchannels()]
    import soundfile

    frames, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    return rate_hz, array("h", frames[:, 0].tobytes())


if __name__ == "__main__":
    main()
