#!/usr/bin/env python3
"""How far the word times of Echo and of faster-whisper lie from the truth.

    word_times.py --make --out DIR
    word_times.py --out DIR --model MODELS/base --engines echo,echo-seq,echo-even,fw [--only TEXT] [--threads N]
    word_times.py --out DIR --score

The first speaks sentences of four languages with synthesisers that tell when they say what (espeak-ng; flite for
English) and joins them with pauses of 0.2 to 2.5 s; the second transcribes greedily with word times what is not yet in
OUT/ENGINE.jsonl; the third prints a table: of the words that both have, the median and the 95th percentile of the
distance of starts and ends from the truth, in milliseconds, and the share of words that end before they start, lie
outside their segment or overlap the next word.
"""

import argparse
import difflib
import json
import random
import subprocess
import sys
import time
import unicodedata
import wave
from pathlib import Path

import numpy as np

from echo_bench.process import find_program
from echo_bench.sentences import SENTENCES, sentences

VOICES = {
    "en": ["flite:slt", "flite:rms", "flite:awb", "espeak:en-us"],
    "de": ["espeak:de:150", "espeak:de:175"],
    "es": ["espeak:es:150", "espeak:es:175"],
    "fr": ["espeak:fr:150", "espeak:fr:175"],
}
ECHO_OPTIONS = {
    "echo": ["--align", "attention"],
    "echo-seq": ["--align", "attention", "--sequential"],
    "echo-even": ["--align", "none"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--score", action="store_true")
    parser.add_argument("--model", type=Path, metavar="DIR", help="one model in several formats (ct2/ is taken)")
    parser.add_argument("--engines", default="echo,fw")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--echo", type=Path, metavar="PATH", help="echo-asr; default: target/release/echo-asr")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.make:
        make(arguments.out)
    elif arguments.score:
        score(arguments.out, arguments.only)
    else:
        for engine in arguments.engines.split(","):
            transcribe(engine, arguments)


def make(out: Path) -> None:
    from echo_bench.spoken import Espeak, Flite, TARGET_HZ, joined

    espeak = Espeak()
    seconds = 0.0
    for language in SENTENCES:
        for voice in VOICES[language]:
            program, name, *rate = voice.split(":")
            speaker = Flite(name) if program == "flite" else None
            generator = random.Random(voice)
            parts, pauses = [], []
            for sentence in sentences(language):
                if speaker:
                    parts.append(speaker.say(sentence))
                else:
                    parts.append(espeak.say(sentence, name, int(rate[0]) if rate else 160))
                pauses.append(generator.choice([0.2, 0.4, 0.7, 1.2, 2.5]))
            speech = joined(parts, pauses)
            file = out / f"{language}-{voice.replace(':', '-')}.wav"
            with wave.open(str(file), "wb") as writer:
                writer.setparams((1, 2, TARGET_HZ, 0, "NONE", ""))
                # A little noise: digital silence between words is found too easily.
                noise = np.random.default_rng(1).normal(0, 1e-3, len(speech.samples))
                samples = np.clip((speech.samples * 0.7 + noise) * 32767, -32768, 32767)
                writer.writeframes(samples.astype("<i2").tobytes())
            words = [[word, round(start, 4), round(end, 4)] for word, start, end in speech.words]
            file.with_suffix(".json").write_text(json.dumps({"language": language, "words": words}, ensure_ascii=False))
            seconds += len(speech.samples) / TARGET_HZ
            print(f"{file.name}: {len(speech.samples) / TARGET_HZ:.1f} s, {len(words)} words")
    print(f"{seconds / 60:.1f} minutes")


def transcribe(engine: str, arguments: argparse.Namespace) -> None:
    done_file = arguments.out / f"{engine}.jsonl"
    done = {json.loads(line)["file"] for line in done_file.read_text().splitlines()} if done_file.exists() else set()
    model = None
    for file in sorted(arguments.out.glob("*.wav")):
        if file.name in done or arguments.only not in file.name:
            continue
        language = json.loads(file.with_suffix(".json").read_text())["language"]
        started = time.time()
        if engine.startswith("fw"):
            if model is None:
                from faster_whisper import WhisperModel

                model = WhisperModel(str(arguments.model / "ct2"), device="cpu", compute_type="float32",
                                     cpu_threads=arguments.threads)
            segments, _ = model.transcribe(str(file), language=language, beam_size=1, word_timestamps=True)
            segments = [{"start": s.start, "end": s.end,
                         "words": [[w.word.strip(), w.start, w.end] for w in s.words]} for s in segments]
        else:
            program = find_program("echo-asr", arguments.echo)
            command = [program, "transcribe", "--offline", "-q", "--device", "cpu", "--compute-type", "f32",
                       "--threads", str(arguments.threads), "--beam-size", "1", "--model", str(arguments.model / "ct2"), "-l", language,
                       "-f", "json", *ECHO_OPTIONS[engine], str(file)]
            transcript = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            segments = [{"start": s["start"], "end": s["end"],
                         "words": [[w["word"], w["start"], w["end"]] for w in s["words"]]}
                        for s in transcript["segments"]]
        row = {"file": file.name, "seconds": round(time.time() - started, 2), "segments": segments}
        with done_file.open("a") as out:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(engine, file.name, row["seconds"], "s", file=sys.stderr)


def plain(word: str) -> str:
    word = unicodedata.normalize("NFC", word).lower()
    return "".join(c for c in word if c.isalnum())


def matched(truth: list, found: list) -> list:
    """Pairs of words that both have, in order."""
    a, b = [plain(w[0]) for w in truth], [plain(w[0]) for w in found]
    blocks = difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return [(truth[x.a + i], found[x.b + i]) for x in blocks for i in range(x.size)]


def faults(segments: list) -> int:
    count, last = 0, 0.0
    for segment in segments:
        for _, start, end in segment["words"]:
            inside = segment["start"] - 1e-6 <= start and end <= segment["end"] + 1e-6
            count += not (start <= end and inside and last <= start + 1e-6)
            last = end
    return count


def score(out: Path, only: str) -> None:
    heads = ["engine", "set", "words", "start median", "start p95", "end median", "end p95", "faults"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for done_file in sorted(out.glob("*.jsonl")):
        sets = {}
        for line in done_file.read_text().splitlines():
            row = json.loads(line)
            if only not in row["file"]:
                continue
            truth = json.loads((out / row["file"]).with_suffix(".json").read_text())["words"]
            found = [word for segment in row["segments"] for word in segment["words"]]
            pairs = matched(truth, found)
            language, program = row["file"].split("-")[:2]
            for name in [f"{language} {program}", "all"]:
                entry = sets.setdefault(name, [[], [], 0, 0])
                entry[0] += [abs(t[1] - f[1]) * 1000 for t, f in pairs]
                entry[1] += [abs(t[2] - f[2]) * 1000 for t, f in pairs]
                entry[2] += len(truth)
                entry[3] += faults(row["segments"])
        for name, (starts, ends, n_truth, n_faults) in sorted(sets.items()):
            numbers = [np.percentile(starts, 50), np.percentile(starts, 95), np.percentile(ends, 50),
                       np.percentile(ends, 95)] if starts else [float("nan")] * 4
            cells = [done_file.stem, name, f"{len(starts)}/{n_truth}", *[f"{n:.0f}" for n in numbers], str(n_faults)]
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
