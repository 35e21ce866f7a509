"""Subtitles beside a recording: ``python subtitles.py FILE [MODEL]``."""

import sys
from pathlib import Path

import echo


def main() -> None:
    path = Path(sys.argv[1])
    model = sys.argv[2] if len(sys.argv) > 2 else "base"
    with echo.Transcriber(model) as transcriber:
        transcript = transcriber.transcribe(path, on_progress=echo.progress_bar())
    target = path.with_suffix(".srt")
    transcript.save(target, max_line_chars=42, max_lines=2)
    print(target)


if __name__ == "__main__":
    main()
