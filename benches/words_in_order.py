#!/usr/bin/env python3
"""Whether every word of some transcripts has its times, inside its segment and after the word before.

    words_in_order.py TRANSCRIPT.json...

The transcripts are Echo's, made with words. Prints what does not hold and ends with 1 if there is anything.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROUNDING_S = 0.0015  # times are written in milliseconds


def main() -> None:
    n_words = n_segments = n_wrong = 0
    for path in map(Path, sys.argv[1:]):
        transcript = json.loads(path.read_text(encoding="utf-8"))
        n_segments += len(transcript["segments"])
        n_words += sum(len(segment["words"]) for segment in transcript["segments"])
        for complaint in complaints(transcript):
            n_wrong += 1
            print(f"{path}: {complaint}")
    print(f"{len(sys.argv) - 1} transcripts, {n_segments} segments, {n_words} words: {n_wrong} wrong")
    sys.exit(1 if n_wrong else 0)


def complaints(transcript: dict) -> Iterator[str]:
    """What does not hold in one transcript."""
    for segment in transcript["segments"]:
        if segment["text"].strip() and not segment["words"]:
            yield f"no words in {segment['start']} {segment['text']!r}"
        before = segment["start"]
        for word in segment["words"]:
            start, end = word.get("start"), word.get("end")
            if start is None or end is None:
                yield f"no times: {word}"
                continue
            if start > end:
                yield f"ends before it starts: {word}"
            if start < before - ROUNDING_S:
                yield f"before {before}: {word}"
            if end > segment["end"] + ROUNDING_S:
                yield f"after its segment's {segment['end']}: {word}"
            before = end


if __name__ == "__main__":
    main()
