#!/usr/bin/env python3
"""Time of Echo and its peers on one file, in turns on the same machine.

    speed.py --audio FILE --model DIR [--engines A,B,…] [--runs N] [--threads 1,2] [--out FILE.jsonl]

Every measurement is a fresh process; the engines take turns, so that a slow minute of the machine hurts all alike.
Columns (medians): `transcribe` is, for peers, from samples to segments alone, without importing, loading and decoding
the file; for Echo it is the whole process, all of these included. Then times real time, CPU seconds of the same,
first segment, loading, the whole process with its CPU seconds and peak memory, and the share of the machine that
other processes took meanwhile (a row above a few percent is not to be trusted). `ratio`: Echo's `transcribe` over that
of the fastest peer in the same number format and beam where there is one, else of the fastest peer at all.
Echo is run as echo-asr, peers by run_peer.py (or a program that takes the same arguments).
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

from echo_bench import echo, engines
from echo_bench.process import REPOSITORY, Measured, find_program, machine, run_measured

DEFAULT_ENGINES = (
    "echo-seq-b1,echo-batched-b1,echo-seq-b5,echo-batched-b5,openai-seq-b1,fw-seq-b1,fw-batched-b1,fw-seq-b5,"
    "fw-batched-b5,fw-seq-b1+int8,fw-batched-b1+int8"
)
PEERS = {
    ("fw", "seq"): "faster-whisper",
    ("fw", "batched"): "faster-whisper-batched",
    ("openai", "seq"): "openai-whisper",
    ("wcpp", "seq"): "whispercpp",
    ("wx", "batched"): "whisperx",
}
SAME_TYPE = {"f32": "float32"}


def main() -> None:
    arguments = parse_arguments()
    contestants = [engines.Engine.parse(name) for name in arguments.engines.split(",")]
    for threads in [int(number) for number in arguments.threads.split(",")]:
        results: dict[str, list[dict]] = {}
        for turn in range(arguments.runs):
            for engine in contestants:
                print(f"{threads} threads, run {turn + 1}: {engine.name}", file=sys.stderr, flush=True)
                found = measure(engine, threads, arguments)
                results.setdefault(engine.name, []).append(found)
                if arguments.out:
                    with arguments.out.open("a", encoding="utf-8") as out:
                        out.write(json.dumps(found, ensure_ascii=False) + "\n")
        count = f"{threads} thread{'s' if threads > 1 else ''}"
        print(f"\n{count}, {arguments.audio.name}, {arguments.runs} runs each, {machine()}\n")
        print(table(contestants, results), flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, metavar="FILE")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="one model in several formats")
    parser.add_argument("--engines", default=DEFAULT_ENGINES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", default="1,2", help="comma-separated, each a table")
    parser.add_argument("--language", default="en", help="a code, or auto")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append every measurement as a JSON line")
    parser.add_argument("--echo", type=Path, metavar="PATH", help="echo-asr; default: target/release/echo-asr")
    parser.add_argument("--run-peer", type=Path, metavar="PATH", default=REPOSITORY / "benches" / "run_peer.py")
    parser.add_argument("--python", default=sys.executable, help="the Python that has the peers")
    return parser.parse_args()


def measure(engine: engines.Engine, threads: int, arguments: argparse.Namespace) -> dict:
    """One process: its own JSON line, and what it cost from outside."""
    busy_s, start = _busy_cpu_s(), time.perf_counter()
    measured = run_measured(command(engine, threads, arguments))
    elapsed_s = time.perf_counter() - start
    if measured.exit_code != 0:
        sys.exit(f"error: {engine.name} ended with {measured.exit_code}: {measured.stderr[-2000:]}")
    found = echo_answer(measured) if engine.program == "echo" else json.loads(measured.stdout.splitlines()[-1])
    other_s = max(0.0, _busy_cpu_s() - busy_s - measured.cpu_s)
    return found | {
        "engine": engine.name,
        "threads": threads,
        "process_wall_s": round(measured.wall_s, 3),
        "process_cpu_s": round(measured.cpu_s, 3),
        "peak_rss_bytes": measured.peak_rss_bytes,
        "other_share": round(other_s / (elapsed_s * (os.cpu_count() or 1)), 3),
    }


def echo_answer(measured: Measured) -> dict:
    """What echo-asr wrote, with the whole process as its time."""
    transcript = json.loads(measured.stdout)
    return {
        "audio_s": transcript["duration"],
        "wall_median": measured.wall_s,
        "cpu_median": measured.cpu_s,
        "text": " ".join(segment["text"] for segment in transcript["segments"]),
    }


def command(engine: engines.Engine, threads: int, arguments: argparse.Namespace) -> list:
    """The process that does one run."""
    language = None if arguments.language == "auto" else arguments.language
    if engine.program == "echo":
        program = find_program("echo-asr", arguments.echo)
        line = echo.command(program, engine, arguments.model / engine.weights, threads, language)
        return [*line, "-f", "json", "-o", "-", arguments.audio]
    precision = engine.compute_type
    if engine.program == "wcpp":
        precision = Path(engine.weights).stem.removeprefix("ggml-")
    return [arguments.python, arguments.run_peer, "--peer", PEERS[engine.program, engine.mode], "--model", arguments.model,
            "--audio", arguments.audio, "--threads", threads, "--runs", 1, "--precision", precision,
            "--beam", engine.beam, "--language", arguments.language]


def table(contestants: list[engines.Engine], results: dict[str, list[dict]]) -> str:
    """A Markdown table, a row for each engine in the order given."""
    heads = ["engine", "transcribe s", "× real time", "CPU s", "first segment s", "load s", "process s",
             "process CPU s", "peak MB", "others' share", "ratio", "words"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    walls = {name: statistics.median(row["wall_median"] for row in rows) for name, rows in results.items()}
    for engine in contestants:
        rows = results[engine.name]

        def median(key, rows=rows):
            return statistics.median(row[key] for row in rows)

        firsts = [row["first_s"][0] for row in rows if row.get("first_s") and row["first_s"][0] is not None]
        loads = [row.get("import_s", 0) + row["load_s"] for row in rows if "load_s" in row]
        cells = [engine.name, f"{walls[engine.name]:.2f}", f"{rows[0]['audio_s'] / walls[engine.name]:.1f}",
                 f"{median('cpu_median'):.2f}", f"{statistics.median(firsts):.2f}" if firsts else "–",
                 f"{statistics.median(loads):.2f}" if loads else "–",
                 f"{median('process_wall_s'):.2f}", f"{median('process_cpu_s'):.2f}",
                 f"{median('peak_rss_bytes') / 1e6:.0f}", f"{100 * max(row['other_share'] for row in rows):.0f} %",
                 ratio(engine, contestants, walls), str(len(rows[0]["text"].split()))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(engine: engines.Engine, contestants: list[engines.Engine], walls: dict[str, float]) -> str:
    """Time over the fastest comparable peer's, below 1 is faster; peers themselves have none."""
    peers = [other for other in contestants if other.program != "echo"]
    if engine.program != "echo" or not peers:
        return "–"
    wanted = SAME_TYPE.get(engine.compute_type, engine.compute_type)
    alike = [other for other in peers if other.compute_type == wanted and other.beam == engine.beam]
    best = min(alike or peers, key=lambda other: walls[other.name])
    return f"{walls[engine.name] / walls[best.name]:.2f} of {best.name}"


def _busy_cpu_s() -> float:
    """CPU seconds the machine has been busy since it started (Linux; 0 elsewhere)."""
    try:
        ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
