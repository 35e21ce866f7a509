#!/usr/bin/env python3
"""Run one peer on one file in this process and print one JSON line: what speed.py starts for every measurement.

    run_peer.py --peer faster-whisper|faster-whisper-batched|openai-whisper|whispercpp|whisperx --model DIR
                --audio FILE [--threads N] [--runs N] [--precision P] [--beam N] [--language CODE|auto]

load_s: importing the peer and building the model; decode_s: reading the file; first_s: from the start of a run to its
first segment; wall_s, cpu_s: one transcription.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

from echo_bench import engines

PROGRAMS = {
    "faster-whisper": ("fw", "seq"),
    "faster-whisper-batched": ("fw", "batched"),
    "openai-whisper": ("openai", "seq"),
    "whispercpp": ("wcpp", "seq"),
    "whisperx": ("wx", "batched"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PROGRAMS, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--precision")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--language", default="en")
    arguments = parser.parse_args()
    # Peers print on standard output; it is kept for the JSON line.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    print(json.dumps(measure(arguments), ensure_ascii=False), file=answer, flush=True)
    # Some peers' threads do not end by themselves.
    os._exit(0)


def measure(arguments: argparse.Namespace) -> dict:
    """Loads, reads, transcribes `runs` times."""
    engines.limit_threads(arguments.threads)
    program, mode = PROGRAMS[arguments.peer]
    suffix = f"+{arguments.precision}" if arguments.precision else ""
    weights = f"@ggml-{arguments.precision}.bin" if program == "wcpp" and arguments.precision else ""
    engine = engines.Engine.parse(f"{program}-{mode}-b{arguments.beam}{weights or suffix}")

    start = time.perf_counter()
    samples = engines.load_samples(arguments.audio)
    decode_s = time.perf_counter() - start
    start = time.perf_counter()
    transcribe = engines.load_peer(engine, arguments.model, arguments.threads)
    load_s = time.perf_counter() - start

    language = None if arguments.language == "auto" else arguments.language
    wall_s, cpu_s, first_s, found = [], [], [], None
    for _ in range(arguments.runs):
        start, cpu_start = time.perf_counter(), time.process_time()
        found = transcribe(samples, language)
        wall_s.append(time.perf_counter() - start)
        cpu_s.append(time.process_time() - cpu_start)
        first_s.append(found.first_segment_s)
    audio_s = len(samples) / 16_000
    median_s = statistics.median(wall_s)
    return {
        "peer": arguments.peer, "precision": engine.compute_type, "beam": engine.beam, "threads": arguments.threads,
        "audio": arguments.audio.name, "audio_s": round(audio_s, 2), "decode_s": round(decode_s, 3),
        "load_s": round(load_s, 3), "first_s": first_s, "wall_s": wall_s, "cpu_s": cpu_s,
        "wall_median": median_s, "cpu_median": statistics.median(cpu_s), "speed_x": round(audio_s / median_s, 2),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "n_segments": len(found.segments), "text": found.text,
    }


if __name__ == "__main__":
    main()
