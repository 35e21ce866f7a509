"""Work of the native half: waiting for it, hearing of it, stopping it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from . import _echo
from ._types import Download, Progress

if TYPE_CHECKING:
    import asyncio

    from ._types import OnDownload, OnProgress

Event = tuple[str, Any]


def prepare_logging() -> None:
    """Tells the native half from which level on the logger ``echo`` is heard."""
    logging = sys.modules.get("logging")
    _echo.log_from(30 if logging is None else logging.getLogger("echo").getEffectiveLevel())


def events(
    job: _echo.Job, on_progress: OnProgress | None = None, on_download: OnDownload | None = None
) -> Iterator[Event]:
    """Every event but reports, which go to their callbacks, up to ``done``."""
    try:
        while True:
            event = job.wait()
            if not _report(event, on_progress, on_download):
                yield event
                if event[0] == "done":
                    return
    finally:
        job.cancel()


def finish(
    job: _echo.Job, on_progress: OnProgress | None = None, on_download: OnDownload | None = None
) -> Any:
    """What a job was done for."""
    for kind, value in events(job, on_progress, on_download):
        if kind == "done":
            return value


async def events_async(
    job: _echo.Job, on_progress: OnProgress | None = None, on_download: OnDownload | None = None
) -> AsyncIterator[Event]:
    """Like :func:`events`, in an event loop: no thread waits."""
    import asyncio

    loop = asyncio.get_running_loop()
    bell = asyncio.Event()
    job.listen(_Ringer(loop, bell))
    try:
        while True:
            bell.clear()
            event = job.poll()
            if event is None:
                await bell.wait()
            elif not _report(event, on_progress, on_download):
                yield event
                if event[0] == "done":
                    return
    finally:
        job.cancel()


async def finish_async(
    job: _echo.Job, on_progress: OnProgress | None = None, on_download: OnDownload | None = None
) -> Any:
    """Like :func:`finish`, in an event loop."""
    stream = events_async(job, on_progress, on_download)
    try:
        async for kind, value in stream:
            if kind == "done":
                return value
    finally:
        job.cancel()


class _Ringer:
    """Rings a bell from another thread, unless the loop has ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bell: asyncio.Event) -> None:
        self._loop = loop
        self._bell = bell

    def __call__(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._bell.set)


def _report(event: Event, on_progress: OnProgress | None, on_download: OnDownload | None) -> bool:
    kind, value = event
    if kind == "progress":
        if on_progress is not None:
            on_progress(Progress(*value))
        return True
    if kind == "download":
        if on_download is not None:
            on_download(Download(*value))
        return True
    return False
