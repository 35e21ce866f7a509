"""A progress bar for ``on_progress``: tqdm's where it is installed, else a line on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from ._types import Progress


def progress_bar(*, file: TextIO | None = None) -> ProgressBar:
    """A bar to give as ``on_progress``; one bar is for one run."""
    return ProgressBar(sys.stderr if file is None else file)


class ProgressBar:
    """Draws reports of progress."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._percent = -1
        self._bar: Any = None
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=100, unit="%", file=file, bar_format="{l_bar}{bar}| {elapsed}")

    def __call__(self, progress: Progress) -> None:
        percent = int(progress.fraction * 100)
        if percent == self._percent:
            return
        if self._bar is None:
            end = "\n" if percent == 100 else ""
            self._file.write(f"\r{progress.stage:<12} {percent:3d} %{end}")
            self._file.flush()
        else:
            self._bar.set_description(progress.stage, refresh=False)
            self._bar.update(percent - max(self._percent, 0))
            if percent == 100:
                self._bar.close()
        self._percent = percent
