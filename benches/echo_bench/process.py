"""Child processes with what they cost: wall time, CPU time and peak memory."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Measured:
    """What one child process did and cost."""

    exit_code: int
    stdout: str
    stderr: str
    wall_s: float
    cpu_s: float  # user and system, all threads
    peak_rss_bytes: int
    rss_samples: list[tuple[float, int]] = field(default_factory=list)  # (seconds since start, bytes)


def run_measured(command: list, sample_every_s: float | None = None, env: dict | None = None) -> Measured:
    """Runs a command to its end; with `sample_every_s`, also reads its resident memory that often (Linux)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        child = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err, env=env)
        done, samples, watcher = threading.Event(), [], None
        if sample_every_s:
            watcher = threading.Thread(target=_watch, args=(child.pid, start, sample_every_s, done, samples))
            watcher.start()
        # wait4 and not getrusage(RUSAGE_CHILDREN): that one keeps the largest child of all.
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        done.set()
        if watcher:
            watcher.join()
        out.seek(0)
        err.seek(0)
        return Measured(
            exit_code=child.returncode,
            stdout=out.read().decode("utf-8", "replace"),
            stderr=err.read().decode("utf-8", "replace"),
            wall_s=wall_s,
            cpu_s=usage.ru_utime + usage.ru_stime,
            # Linux counts kibibytes, macOS bytes.
            peak_rss_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            rss_samples=samples,
        )


def _watch(pid: int, start: float, every_s: float, done: threading.Event, samples: list) -> None:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    while not done.wait(every_s):
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return
        # A process that is ending has no pages any more.
        if pages:
            samples.append((time.perf_counter() - start, pages * page_bytes))


def find_program(name: str, given: Path | None = None) -> Path:
    """A program of this workspace: the one given, else the release build."""
    path = given or REPOSITORY / "target" / "release" / name
    if not path.exists():
        sys.exit(f"error: {path} does not exist; build it (benches/README.md) or name it")
    return path


def machine() -> str:
    """The processor and its cores, for the line under a table."""
    name = "unknown processor"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} logical cores, load {os.getloadavg()[0]:.1f}"
