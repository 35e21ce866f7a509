#!/usr/bin/env python3
"""Whether the same weights give the same text through every file format, and what quantised ones cost.

    formats_same_text.py --audio DIR --model DIR --out DIR [--engine echo-seq-b1] [--threads N] [--only TEXT]

Transcribes with the weights of --exact (each must give the text of the first, on every clip) and of --quantised (each
must stay within 0.3 points of its word error rate), prints a table, and ends with 1 if one does not. Taken up again
where it stopped: transcripts are kept in OUT as accuracy.py keeps them.
"""

import argparse
import sys
from pathlib import Path

from accuracy import run
from echo_bench import scoring
from echo_bench.clips import load_clips, read_transcripts

EXACT = "ct2,hf,hf-sharded-f32,openai.pt,ggml-f16.bin"
QUANTISED = "ggml-q8_0.bin,ct2-int8"
MOST_POINTS = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help="recordings with a manifest.json")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="one model in several formats")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where transcripts are kept")
    parser.add_argument("--engine", default="echo-seq-b1")
    parser.add_argument("--exact", default=EXACT, help=f"weights, comma-separated; default {EXACT}")
    parser.add_argument("--quantised", default=QUANTISED, help=f"weights, comma-separated; default {QUANTISED}")
    parser.add_argument("--only", default="", metavar="TEXT", help="only clips whose name contains this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--echo", type=Path, metavar="PATH", help="echo-asr; default: target/release/echo-asr")
    arguments = parser.parse_args()
    # What accuracy.run also looks at.
    arguments.echo_weights = arguments.compute_type = None
    arguments.echo_options, arguments.ffmpeg = "", False
    arguments.out.mkdir(parents=True, exist_ok=True)
    sys.exit(0 if check(arguments) else 1)


def check(arguments: argparse.Namespace) -> bool:
    """Transcribes, prints the table, and says whether every format held."""
    clips = load_clips(arguments.audio, arguments.only)
    exact, quantised = ([name for name in text.split(",") if name] for text in (arguments.exact, arguments.quantised))
    transcripts, scores = {}, {}
    for weights in exact + quantised:
        name = f"{arguments.engine}@{weights}"
        run(name, clips, arguments)
        transcripts[weights] = read_transcripts(arguments.out / f"{name}.jsonl")
        scores[weights] = scoring.score(clips, transcripts[weights])
    base = exact[0]
    is_good = True
    rows = ["| weights | identical texts | WER | against the first | holds |", "|---|---|---|---|---|"]
    for weights in exact + quantised:
        both, different = scoring.differing(clips, transcripts[base], transcripts[weights])
        points = scores[weights].all.percent - scores[base].all.percent
        is_complete = len(both) == len(clips) and not scores[weights].failed
        holds = is_complete and (not different if weights in exact else points <= MOST_POINTS)
        is_good &= holds
        rows.append(f"| {weights} | {len(both) - len(different)} of {len(clips)} | {scores[weights].all.percent:.2f} % "
                    f"| {points:+.2f} points | {'yes' if holds else 'NO'} |")
        for clip in different if weights in exact else []:
            texts = (transcripts[name][clip.file]["text"][:300] for name in (base, weights))
            print(f"{clip.file}\n  {base}: {next(texts)}\n  {weights}: {next(texts)}")
    print("\n".join(rows))
    return is_good


if __name__ == "__main__":
    main()
