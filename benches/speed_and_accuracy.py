#!/usr/bin/env python3
"""A picture of speed against accuracy, from what accuracy.py has left in one folder for each model.

    speed_and_accuracy.py --audio DIR --picture FILE.svg [--language en] [--subsets A,B] NAME=DIR…

NAME is a model, DIR the `--out` of accuracy.py for it. All engines there are drawn that did every recording in the
language and the subsets (all): word error rate over all of them, and seconds of audio for a CPU second. Echo's processes are counted from
start to end, loading and all; peers without loading and without reading the file. The figures are printed as a table.
"""

import argparse
from pathlib import Path

from echo_bench import engines, scoring
from echo_bench.clips import SUBSETS, load_clips, read_transcripts
from echo_bench.process import machine
from echo_bench.scatter_svg import NAMES, Point, draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="NAME=DIR")
    parser.add_argument("--audio", type=Path, required=True, metavar="DIR", help="recordings with a manifest.json")
    parser.add_argument("--picture", type=Path, required=True, metavar="FILE.svg")
    parser.add_argument("--language", default="en", help="every model must speak it")
    parser.add_argument("--subsets", default=",".join(SUBSETS), metavar="A,B")
    arguments = parser.parse_args()
    clips = [
        clip for clip in load_clips(arguments.audio)
        if clip.language == arguments.language and clip.reference and clip.subset in arguments.subsets.split(",")
    ]
    points = [point for model in arguments.models for point in measured(*model.split("=", 1), clips)]
    seconds = sum(clip.seconds for clip in clips)
    title = f"{len(clips)} recordings of {seconds / 60:.0f} minutes, one thread of {machine().split(',')[0]}"
    arguments.picture.write_text(draw(title, points), encoding="utf-8")
    print("| engine | model | options | audio s for a CPU s | WER % |\n|---|---|---|---|---|")
    for point in sorted(points, key=lambda point: -point.speed):
        print(f"| {NAMES[point.program]} | {point.model} | {point.label} | {point.speed:.1f} | {point.error:.2f} |")


def measured(model: str, folder: str, clips: list) -> list[Point]:
    """The engines that did all of the clips with one model."""
    points = []
    for path in sorted(Path(folder).glob("*.jsonl")):
        engine, found = engines.Engine.parse(path.stem), scoring.score(clips, read_transcripts(path))
        if found.missing or found.failed or not found.cpu_s_per_audio_s:
            print(f"{path.stem}: left out, {len(found.missing)} recordings missing, {len(found.failed)} failed")
            continue
        weights = "" if engine.weights == engines.DEFAULT_WEIGHTS[engine.program] else f" {engine.weights}"
        kind = "f16" if engine.compute_type == "stored" and not weights else engine.compute_type.replace("stored", "")
        label = f"{kind.replace('float32', 'f32')}{weights} {engine.mode} b{engine.beam}".strip()
        points.append(Point(engine.program, model, label, 1 / found.cpu_s_per_audio_s, found.all.percent))
    return points


if __name__ == "__main__":
    main()
