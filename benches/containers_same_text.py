#!/usr/bin/env python3
"""Whether a recording says the same whatever it is packed in.

    containers_same_text.py --audio DIR --model DIR [--baseline FILE] [--threads N]

Transcribes every file of `formats/` as it is. Files that hold the words of --baseline are compared with it, the others
with what ffmpeg makes of them. Prints a table and ends with 1 if a lossless file differs by a word, or a lossy one by
more than 2 points of word error rate. Files that name no codec (headerless) and those without speech are left out.
"""

import argparse
import json
import sys
from pathlib import Path

from echo_bench import echo, engines, scoring
from echo_bench.clips import Clip, load_clips
from echo_bench.process import find_program

BASELINE = "formats/wav_s16_16k.wav"
LOSSLESS = ("alac", "flac", "pcm_s16", "pcm_s24", "pcm_s32", "pcm_f32", "pcm_f64", "tta", "wavpack")
MOST_POINTS = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help="recordings with a manifest.json")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a folder that holds ct2/")
    parser.add_argument("--baseline", default=BASELINE, help=f"default: {BASELINE}")
    parser.add_argument("--engine", default="echo-seq-b5")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--echo", type=Path, metavar="PATH", help="echo-asr; default: target/release/echo-asr")
    arguments = parser.parse_args()
    sys.exit(0 if check(arguments) else 1)


def check(arguments: argparse.Namespace) -> bool:
    """Prints the table, and says whether every file held."""
    manifest = json.loads((arguments.audio / "manifest.json").read_text(encoding="utf-8"))
    codecs = {entry["file"]: entry["codec"] for entry in manifest}
    clips = [clip for clip in load_clips(arguments.audio, folder="formats/") if codecs[clip.file]]
    baseline = next(clip for clip in clips if clip.file == arguments.baseline)
    ours = transcribe(arguments, clips, is_by_ffmpeg=False)
    others = [clip for clip in clips if clip.reference != baseline.reference]
    decoded = transcribe(arguments, others, is_by_ffmpeg=True)
    is_good = True
    print("| file | codec | WER against | words differ | WER to the reference | holds |\n|---|---|---|---|---|---|")
    for clip in clips:
        line, other = ours[clip.file], decoded.get(clip.file) or ours[baseline.file]
        by = "ffmpeg" if clip.file in decoded else "lossless"
        if line.get("error"):
            is_good = False
            print(f"| {clip.file} | {codecs[clip.file]} | – | – | – | NO: {line['error'][:90]} |")
            continue
        language = clip.language or line["language"]
        found, expected = (scoring.normalise(text["text"], language) for text in (line, other))
        errors = scoring.edits(expected, found, language)
        points = 100 * errors.edits / errors.words if errors.words else 100.0 * bool(found)
        most = 0.0 if codecs[clip.file].startswith(LOSSLESS) else MOST_POINTS
        holds = points <= most
        is_good &= holds
        to_reference = "–"
        if clip.reference:
            reference = scoring.normalise(clip.reference, language)
            to_reference = f"{scoring.edits(reference, found, language).percent:.1f}"
        verdict = "yes" if holds else f"NO: {found[:60]} / {expected[:60]}"
        print(f"| {clip.file} | {codecs[clip.file]} | {by} | {errors.edits} | {to_reference} | {verdict} |")
    return is_good


def transcribe(arguments: argparse.Namespace, clips: list[Clip], is_by_ffmpeg: bool) -> dict[str, dict]:
    """Transcripts by file."""
    engine = engines.Engine.parse(arguments.engine)
    program = find_program("echo-asr", arguments.echo)
    setup = echo.Setup(program, arguments.model, arguments.threads, [], is_by_ffmpeg)
    return {line["file"]: line for line in echo.transcribe_clips(setup, engine, clips)}


if __name__ == "__main__":
    main()
