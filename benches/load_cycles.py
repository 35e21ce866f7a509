#!/usr/bin/env python3
"""Whether memory stays flat when a model is loaded, used and let go again and again, from Python and from Node.

    load_cycles.py [--cycles N] [--model NAME] [--python PYTHON] [--node-module DIR] FILE

Prints the median resident memory of every tenth of the cycles and ends with 1 if it grew by more than 5 % from the
second tenth (allocators keep some memory at first) to the last. Medians, since single cycles leave more or less.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

from echo_bench.process import REPOSITORY

MOST_GROWTH = 1.05
PYTHON_RUN = """
import gc, sys, echo
model, cycles, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for cycle in range(1, cycles + 1):
    with echo.Transcriber(model, device="cpu") as transcriber:
        assert transcriber.transcribe(file).segments
    gc.collect()
    pages = int(open("/proc/self/statm").read().split()[1])
    print(pages * 4096 // 1000, flush=True)
"""
NODE_RUN = """
import { createRequire } from "node:module";
import { setTimeout } from "node:timers/promises";
const [folder, model, count, file] = process.argv.slice(1);
const { Transcriber } = createRequire(import.meta.url)(folder);
const cycles = Number(count);
// Node reads 4 MB of its own code when it first compiles something that runs often; once is enough.
let words = 0;
for (let n = 0; n < 1e6; n += 1) words += `word ${n}`.split(" ").length;
for (let cycle = 1; cycle <= cycles; cycle += 1) {
  const transcriber = await Transcriber.load({ model, device: "cpu" });
  if ((await transcriber.transcribe(file)).segments.length === 0) process.exit(3);
  transcriber.close();
  globalThis.gc();
  await setTimeout(50);
  console.log(Math.round(process.memoryUsage.rss() / 1000));
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--cycles", type=int, default=200, help="a multiple of ten")
    parser.add_argument("--model", default="base")
    parser.add_argument("--python", default=sys.executable, help="a Python that has the package echo")
    parser.add_argument("--node-module", type=Path, default=REPOSITORY / "echo-node", metavar="DIR")
    arguments = parser.parse_args()
    common = [arguments.model, str(arguments.cycles), str(arguments.file.resolve())]
    node = ["node", "--expose-gc", "--input-type=module", "-e", NODE_RUN, "--", arguments.node_module.resolve()]
    is_flat = [
        check("Python", [arguments.python, "-c", PYTHON_RUN, *common]),
        check("Node", [*node, *common]),
    ]
    sys.exit(0 if all(is_flat) else 1)


def check(name: str, command: list) -> bool:
    """Runs one language's cycles and prints its memory."""
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    every_kb = [int(line) for line in printed.split()]
    tenth = len(every_kb) // 10
    sizes_kb = [median(every_kb[first : first + tenth]) for first in range(0, len(every_kb), tenth)]
    growth = sizes_kb[-1] / sizes_kb[1]
    print(f"{name}: {' '.join(f'{size / 1000:.0f}' for size in sizes_kb)} MB, {100 * (growth - 1):+.1f} %", flush=True)
    return growth <= MOST_GROWTH


if __name__ == "__main__":
    main()
