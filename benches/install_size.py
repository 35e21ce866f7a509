#!/usr/bin/env python3
"""What a Python package costs before it does anything: download, disk and import.

    install_size.py [--runs N] PYTHON:PACKAGE:MODULE...

For each: the Python in which the package is installed, its name and the module to import. The download is the sum of
what pip would fetch for an empty environment (`pip install --dry-run`; a package that no index has, such as a wheel
built here, by its file: PACKAGE may be the path of a wheel). The disk is the sum of the files of the package and all it
depends on, as installed. The import is the median of fresh processes, less a process that imports nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

INSTALLED = """
import re, sys, importlib.metadata as m
from pathlib import Path
try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement
todo, seen, size = [sys.argv[1]], set(), 0
while todo:
    name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
    if name in seen:
        continue
    try:
        found = m.distribution(name)
    except m.PackageNotFoundError:
        continue
    seen.add(name)
    paths = [Path(found.locate_file(file)) for file in found.files or []]
    size += sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")
    for text in found.requires or []:
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            todo.append(need.name)
print(size, len(seen))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="+", metavar="PYTHON:PACKAGE:MODULE")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    print("| package | packages | download MB | installed MB | import ms |\n|---|---|---|---|---|")
    for entry in arguments.packages:
        python, package, module = entry.split(":")
        name = Path(package).name.split("-")[0] if package.endswith(".whl") else package
        line = [python, "-c", INSTALLED, name]
        size, count = subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()
        empty = seconds(python, "pass", arguments.runs)
        imported = seconds(python, f"import {module}", arguments.runs) - empty
        cells = [name, count, f"{download(python, package) / 1e6:.1f}", f"{int(size) / 1e6:.1f}", f"{imported * 1e3:.0f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def download(python: str, package: str) -> int:
    """Bytes that pip would fetch for an empty environment."""
    line = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", package]
    report = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    return sum(length(entry["download_info"]["url"]) for entry in report["install"])


def length(url: str) -> int:
    """Bytes of a file, by its path or by asking who has it."""
    if url.startswith("file://"):
        return os.stat(urllib.request.url2pathname(url.removeprefix("file://"))).st_size
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=60) as answer:
        return int(answer.headers["Content-Length"])


def seconds(python: str, code: str, runs: int) -> float:
    """Median time of a process that runs `code`."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run([python, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # The first reads from the disk.


if __name__ == "__main__":
    main()
