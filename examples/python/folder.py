"""Transcribes every file of a folder; a bad one costs itself: ``python folder.py FOLDER``."""

import sys
from pathlib import Path

import echo


def main() -> int:
    paths = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_file())
    failures = 0
    with echo.Transcriber("base") as transcriber:
        for source, result in transcriber.transcribe_many(paths):
            if isinstance(result, echo.EchoError):
                print(f"{source}: {result.code}: {result}", file=sys.stderr)
                failures += 1
            else:
                print(f"{source}: {result.text}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
