#!/usr/bin/env python3
"""Word error rates of Echo and its peers on the same recordings and the same weights.

    accuracy.py --audio DIR --model DIR --out DIR --engines echo-seq-b1,fw-seq-b1 [--only TEXT] [--threads N]
    accuracy.py --audio DIR --out DIR --score [--worst N]
    accuracy.py --audio DIR --out DIR --equal echo-seq-b1 fw-seq-b1

The first transcribes what is not yet in OUT/ENGINE.jsonl, the second prints the table of all engines in OUT (or those
of --engines), the third the share of clips with identical text and the ones that differ. Engines: echo_bench/engines.py.
Needs jiwer, zhconv and openai-whisper (its normalisers) for the table, and the peers that are run.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from echo_bench import echo, engines, scoring
from echo_bench.clips import Clip, append_transcript, load_clips, read_transcripts
from echo_bench.process import find_program

DEFAULT_ENGINES = "echo-seq-b1,echo-batched-b5,fw-seq-b1,fw-batched-b5,openai-seq-b1,wcpp-seq-b5"


def main() -> None:
    arguments = parse_arguments()
    clips = load_clips(arguments.audio, arguments.only)
    if arguments.equal:
        print_equal(clips, arguments.out, *arguments.equal)
    elif arguments.score:
        print_scores(clips, arguments)
    else:
        if not arguments.model:
            sys.exit("error: --model DIR is missing")
        engines.limit_threads(arguments.threads)
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name in (arguments.engines or DEFAULT_ENGINES).split(","):
            run(name, clips, arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help="recordings with a manifest.json")
    parser.add_argument("--model", type=Path, metavar="DIR", help="one model in several formats: ct2, hf, openai.pt, …")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where transcripts are kept")
    parser.add_argument("--engines", help=f"default: {DEFAULT_ENGINES}; with --score, all in OUT")
    parser.add_argument("--only", default="", metavar="TEXT", help="only clips whose name contains this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--echo", type=Path, metavar="PATH", help="echo-asr; default: target/release/echo-asr")
    parser.add_argument("--echo-weights", metavar="NAME", help="for Echo: ct2 (default), hf, openai.pt, ggml-f16.bin, …")
    parser.add_argument("--echo-options", default="", metavar="TEXT", help="more options of echo-asr, as one text")
    parser.add_argument("--compute-type", help="for Echo: f32 (default), int8, …")
    parser.add_argument("--ffmpeg", action="store_true", help="give Echo what ffmpeg decodes, as ENGINE.ffmpeg")
    parser.add_argument("--score", action="store_true", help="print the table")
    parser.add_argument("--worst", type=int, default=0, metavar="N", help="with --score: the N clips with most errors")
    parser.add_argument("--equal", nargs=2, metavar=("A", "B"), help="compare the texts of two engines")
    return parser.parse_args()


def run(name: str, clips: list[Clip], arguments: argparse.Namespace) -> None:
    """Transcribes with one engine what it has not transcribed yet."""
    engine = engines.Engine.parse(name)
    is_by_ffmpeg = arguments.ffmpeg and engine.program == "echo"
    path = arguments.out / f"{name}{'.ffmpeg' if is_by_ffmpeg else ''}.jsonl"
    done = {file for file, line in read_transcripts(path).items() if not line.get("error")}
    left = [clip for clip in clips if clip.file not in done]
    print(f"{name}: {len(left)} of {len(clips)} clips to do", file=sys.stderr)
    if not left:
        return
    if engine.program == "echo":
        engine = replace(
            engine,
            weights=arguments.echo_weights or engine.weights,
            compute_type=arguments.compute_type or engine.compute_type,
        )
        program = find_program("echo-asr", arguments.echo)
        extra = arguments.echo_options.split()
        setup = echo.Setup(program, arguments.model, arguments.threads, extra, is_by_ffmpeg)
        lines = echo.transcribe_clips(setup, engine, left)
    else:
        lines = transcribe_with_peer(engine, arguments.model, left, arguments.threads)
    for line in lines:
        if line.get("error"):
            print(f"{name}: {line['file']}: {line['error']}", file=sys.stderr)
        append_transcript(path, line)


def transcribe_with_peer(engine: engines.Engine, model_dir: Path, clips: list[Clip], threads: int):
    """One line of a transcript file for each clip."""
    transcribe = engines.load_peer(engine, model_dir, threads)
    for clip in clips:
        samples = engines.load_samples(clip.path)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        line = {"file": clip.file, "text": "", "segments": [], "engine": engine.name, "language_given": clip.language}
        try:
            found = transcribe(samples, clip.language)
        except Exception as error:  # a peer may fail in any way; the next clip can still be done
            yield {**line, "error": repr(error)}
            continue
        line |= {"text": found.text, "segments": found.segments, "language": found.language, **found.extra}
        line["seconds_wall"] = round(time.perf_counter() - wall_s, 3)
        line["seconds_cpu"] = round(time.process_time() - cpu_s, 3)
        yield line


def print_scores(clips: list[Clip], arguments: argparse.Namespace) -> None:
    names = arguments.engines.split(",") if arguments.engines else sorted(p.stem for p in arguments.out.glob("*.jsonl"))
    rows = [(name, scoring.score(clips, read_transcripts(arguments.out / f"{name}.jsonl"))) for name in names]
    for name, found in rows:
        for clip, errors, reference, text in sorted(found.per_clip, key=lambda row: -row[1].edits)[: arguments.worst]:
            print(f"{name} {clip.file}: {errors.edits}/{errors.words}\n  reference {reference}\n  text      {text}")
        for file in found.failed:
            print(f"{name} {file}: failed")
    print(scoring.table(rows))


def print_equal(clips: list[Clip], out: Path, first_name: str, second_name: str) -> None:
    first, second = (read_transcripts(out / f"{name}.jsonl") for name in (first_name, second_name))
    both, different = scoring.differing(clips, first, second)
    for clip in different:
        is_sampled = any(scoring.is_sampled(lines[clip.file]) for lines in (first, second))
        marks = [] if clip.reference else ["no reference"]
        marks += ["sampled: a temperature above 0 was needed"] if is_sampled else []
        print(f"{clip.file}{' (' + ', '.join(marks) + ')' if marks else ''}")
        print(f"  {first_name}: {first[clip.file]['text'][:400]}\n  {second_name}: {second[clip.file]['text'][:400]}")
    for label, has_reference in (("with a reference", True), ("without one", False)):
        total = sum(bool(clip.reference) == has_reference for clip in both)
        unequal = sum(bool(clip.reference) == has_reference for clip in different)
        if total:
            share = 100 * (total - unequal) / total
            print(f"clips {label}: {total - unequal} of {total} identical, {share:.1f} %")


if __name__ == "__main__":
    main()
