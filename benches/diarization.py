#!/usr/bin/env python3
"""Diarization and voice activity of Echo and its peers on recordings with reference turns.

    diarization.py --audio DIR --out DIR [--threads N]                run Echo, then print the table
    diarization.py --audio DIR --out DIR --score [--files]            print the table of all engines in OUT
    diarization.py --audio DIR --out DIR --vad silero,pyannote        detection error of speech regions
    diarization.py --audio DIR --out DIR --vad silero --chunks        the same of what the recogniser hears
    diarization.py --audio DIR --out DIR --plot NAME                  OUT/NAME.svg: Echo's turns beside the reference

DIR holds NAME.rttm (and NAME.uem, the stretch that is scored) beside NAME.flac, .wav or .mp3. Echo writes
OUT/echo/NAME.rttm and OUT/echo/cost.json; an engine is any folder of RTTM files in OUT, so peers are run by their own
programs and put beside it, with `{"cpu_s": …, "audio_s": …}` in cost.json if their time is known. Rates: echo_bench/der.py,
at collar 0 and with 0.25 s left out on both sides of each reference boundary; overlap counted. Halves
are every other file in order of name.
Needs nothing but Python, and ffprobe where a recording has no .uem.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from echo_bench import der, turns_svg
from echo_bench.process import find_program, run_measured

SUFFIXES = (".flac", ".wav", ".mp3", ".opus", ".m4a")


@dataclass(frozen=True)
class Recording:
    """One file and who speaks when in it."""

    name: str
    path: Path
    turns: list
    span: tuple[float, float]


def main() -> None:
    arguments = parse_arguments()
    recordings = load(arguments.audio)
    if not recordings:
        sys.exit(f"error: no NAME.rttm beside a recording in {arguments.audio}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.vad:
        for model in arguments.vad.split(","):
            measure_speech(model, recordings, arguments)
        return
    if arguments.plot:
        plot(arguments.plot, recordings, arguments.out)
        return
    if not arguments.score:
        run_echo(recordings, arguments)
    print_table(recordings, arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--echo", type=Path, metavar="PATH", help="echo-asr; default: target/release/echo-asr")
    parser.add_argument("--echo-options", default="", metavar="TEXT", help="more options of `echo-asr diarize` or `speech`")
    parser.add_argument("--score", action="store_true", help="only print the table")
    parser.add_argument("--files", action="store_true", help="a line for each file, too")
    parser.add_argument("--plot", metavar="NAME", help="draw one recording")
    parser.add_argument("--vad", metavar="MODEL,..", help="measure speech regions: silero, pyannote")
    parser.add_argument("--chunks", action="store_true", help="measure the recogniser's chunks instead")
    return parser.parse_args()


def load(folder: Path) -> list[Recording]:
    recordings = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES):
        rttm = path.with_suffix(".rttm")
        if rttm.exists():
            span = der.read_uem(path.with_suffix(".uem")) or (0.0, duration(path))
            recordings.append(Recording(path.stem, path, der.read_rttm(rttm, path.stem), span))
    return recordings


def duration(path: Path) -> float:
    line = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    return float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def environment(threads: int) -> dict:
    return {**os.environ, "RAYON_NUM_THREADS": str(threads)}


def run_echo(recordings: list[Recording], arguments: argparse.Namespace) -> None:
    folder = arguments.out / "echo"
    line = [find_program("echo-asr", arguments.echo), "diarize", "--offline", "--quiet", "-o", folder]
    line += arguments.echo_options.split()
    files = [recording.path for recording in recordings]
    measured = run_measured(line + files, env=environment(arguments.threads))
    if measured.exit_code != 0:
        sys.exit(f"error: echo-asr ended with {measured.exit_code}: {measured.stderr[-2000:]}")
    cost = {"cpu_s": measured.cpu_s, "wall_s": measured.wall_s, "peak_rss_bytes": measured.peak_rss_bytes}
    cost["audio_s"] = sum(recording.span[1] for recording in recordings)
    (folder / "cost.json").write_text(json.dumps(cost))


def plot(name: str, recordings: list[Recording], out: Path) -> None:
    recording = next((recording for recording in recordings if recording.name == name), None)
    if recording is None:
        sys.exit(f"error: no recording {name}")
    found = der.read_rttm(out / "echo" / f"{name}.rttm")
    picture = turns_svg.draw(name, recording.turns, found, recording.span)
    (out / f"{name}.svg").write_text(picture, encoding="utf-8")


def print_table(recordings: list[Recording], arguments: argparse.Namespace) -> None:
    halves = {"all": recordings, "first half": recordings[0::2], "second half": recordings[1::2]}
    print("| engine | files | DER 0 / ±0.25 | miss / false alarm / confusion | speakers exact | CPU s per hour | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for folder in sorted(path for path in arguments.out.iterdir() if any(path.glob("*.rttm"))):
        cost = read_cost(folder)
        for title, part in halves.items():
            print(f"| {folder.name} | {title} | {rates(folder, part)} | {cost} |")
        if arguments.files:
            for recording in recordings:
                print(f"| {folder.name} | {recording.name} | {rates(folder, [recording])} | |")


def rates(folder: Path, recordings: list[Recording]) -> str:
    exact, plain, with_collar = 0, {}, {}
    for recording in recordings:
        path = folder / f"{recording.name}.rttm"
        found = der.read_rttm(path) if path.exists() else []
        der.add(plain, der.score(recording.turns, found, recording.span))
        der.add(with_collar, der.score(recording.turns, found, recording.span, 0.25))
        exact += len({turn[2] for turn in recording.turns}) == len({turn[2] for turn in found})
    parts = " / ".join(f"{100 * plain[key] / plain['total']:.1f}" for key in ("miss", "false_alarm", "confusion"))
    return f"{der.rate(plain):.1f} / {der.rate(with_collar):.1f} | {parts} | {exact}/{len(recordings)}"


def read_cost(folder: Path) -> str:
    path = folder / "cost.json"
    if not path.exists():
        return "| "
    cost = json.loads(path.read_text())
    peak = cost.get("peak_rss_bytes")
    per_hour = 3600 * cost["cpu_s"] / cost["audio_s"]
    return f"{per_hour:.0f} | {peak / 1e6:.0f}" if peak else f"{per_hour:.0f} | "


def measure_speech(model: str, recordings: list[Recording], arguments: argparse.Namespace) -> None:
    """Detection error of one detector, and its time with loading and decoding."""
    line = [find_program("echo-asr", arguments.echo), "speech", "--offline", "--vad", model]
    line += ["--chunks"] * arguments.chunks + arguments.echo_options.split()
    each, cpu_s = [], 0.0
    for recording in recordings:
        measured = run_measured([*line, recording.path], env=environment(arguments.threads))
        if measured.exit_code != 0:
            sys.exit(f"error: echo-asr ended with {measured.exit_code}: {measured.stderr[-2000:]}")
        regions = [tuple(map(float, row.split("\t"))) for row in measured.stdout.splitlines()]
        each.append(der.detection(recording.turns, regions, recording.span))
        cpu_s += measured.cpu_s
    audio_s = sum(recording.span[1] for recording in recordings)
    for title, part in {"all": each, "first half": each[0::2], "second half": each[1::2]}.items():
        print(f"{model}, {title}: {detection_rates(part)}")
    print(f"{model}: {3600 * cpu_s / audio_s:.1f} CPU s per hour of audio, loading and decoding included")
    if arguments.files:
        for recording, sums in zip(recordings, each):
            print(f"{model}, {recording.name}: {detection_rates([sums])}")


def detection_rates(each: list[dict[str, float]]) -> str:
    sums: dict[str, float] = {}
    for part in each:
        der.add(sums, part)
    miss, false_alarm = (100 * sums[key] / sums["total"] for key in ("miss", "false_alarm"))
    return f"{der.rate(sums):.1f} % = miss {miss:.1f} + false alarm {false_alarm:.1f}"


if __name__ == "__main__":
    main()
