#!/usr/bin/env python3
"""Whether Rust, Python and Node write the same JSON, byte for byte.

    bindings_same_json.py [--model NAME] [--python PYTHON] [--node-module DIR] [--threads N] [--out DIR] FILE...

The same files, with words and speakers, through echo-asr, through the package `echo` of PYTHON and through the npm
package at DIR. Prints each file that differs and ends with 1 if there is one. A file that none of them can read is
the same in all when none writes anything.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from echo_bench.process import REPOSITORY, find_program

PYTHON_RUN = """
import sys, echo
model, threads, out, *files = sys.argv[1:]
with echo.Transcriber(model, device="cpu", threads=int(threads)) as transcriber:
    for index, file in enumerate(files):
        try:
            transcript = transcriber.transcribe(file, words=True, diarize={})
        except echo.EchoError as error:
            print(error, file=sys.stderr)
        else:
            transcript.save(f"{out}/{index:04d}.json")
"""

NODE_RUN = """
import { createRequire } from "node:module";
const [folder, model, threads, out, ...files] = process.argv.slice(1);
const { Transcriber, EchoError } = createRequire(import.meta.url)(folder);
const transcriber = await Transcriber.load({ model, device: "cpu", threads: Number(threads) });
for (const [index, file] of files.entries()) {
  try {
    const transcript = await transcriber.transcribe(file, { words: true, diarize: {} });
    await transcript.save(`${out}/${String(index).padStart(4, "0")}.json`);
  } catch (error) {
    if (!(error instanceof EchoError)) throw error;
    console.error(error.message);
  }
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--model", default="base")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the transcripts here")
    parser.add_argument("--python", default=sys.executable, help="a Python that has the package echo")
    parser.add_argument("--node-module", type=Path, default=REPOSITORY / "echo-node", metavar="DIR")
    parser.add_argument("--echo", type=Path, metavar="PATH", help="echo-asr; default: target/release/echo-asr")
    arguments = parser.parse_args()
    files = [os.path.abspath(file) for file in arguments.files]
    with tempfile.TemporaryDirectory() as temporary:
        outputs = {name: (arguments.out or Path(temporary)) / name for name in ("rust", "python", "node")}
        for folder in outputs.values():
            folder.mkdir(parents=True, exist_ok=True)
        run_rust(arguments, files, outputs["rust"], Path(temporary))
        common = [arguments.model, arguments.threads]
        subprocess.run([arguments.python, "-c", PYTHON_RUN, *common, outputs["python"], *files], check=True)
        module = arguments.node_module.resolve()
        node = ["node", "--input-type=module", "-e", NODE_RUN, "--", module, *common, outputs["node"], *files]
        subprocess.run(node, check=True)
        sys.exit(0 if compare(files, outputs) else 1)


def run_rust(arguments: argparse.Namespace, files: list[str], out: Path, temporary: Path) -> None:
    """Files of one name in two folders would be written to one: each gets a folder of its own."""
    program = find_program("echo-asr", arguments.echo)
    links = []
    for index, file in enumerate(files):
        # A link named by its place; the ending stays, since raw formats are known by it.
        link = temporary / "links" / f"{index:04d}{Path(file).suffix}"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(file)
        links.append(link)
    line = [program, "transcribe", "--quiet", "--device", "cpu", "--model", arguments.model, "--threads",
            arguments.threads, "--words", "--diarize", "-f", "json", "-o", f"{out}/", *links]
    ended = subprocess.run(line).returncode
    if ended not in (0, 1):
        raise RuntimeError(f"{program.name} ended with {ended}")


def compare(files: list[str], outputs: dict[str, Path]) -> bool:
    """Prints what differs and a count of what does not."""
    n_same = n_written = 0
    for index, file in enumerate(files):
        written = {name: read(folder / f"{index:04d}.json") for name, folder in outputs.items()}
        n_written += written["rust"] is not None
        if len(set(written.values())) == 1:
            n_same += 1
        else:
            sizes = ", ".join(f"{name} {'nothing' if text is None else len(text)}" for name, text in written.items())
            print(f"{file}: {sizes}")
    print(f"{n_same} of {len(files)} the same ({n_written} transcribed, the others errors in each)")
    return n_same == len(files)


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


if __name__ == "__main__":
    main()
