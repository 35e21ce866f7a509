"""The command line: the same as the Rust program ``echo-asr``."""

from __future__ import annotations

import sys

from . import _echo


def main() -> int:
    """Runs the command with the program's arguments; answers with its exit code."""
    return _echo.run_command(["echo-asr", *sys.argv[1:]])
