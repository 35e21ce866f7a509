#!/usr/bin/env python3
"""How soon Python and Node let go of a long transcription, and how a Node server answers meanwhile.

    bindings_latency.py [--runs N] [--model NAME] [--threads N] [--python PYTHON] [--node-module DIR] FILE

Medians and worst of N runs, in milliseconds: from Ctrl-C to `KeyboardInterrupt`, from the end of
`AbortSignal.timeout(100)` to the rejection, and the 99th percentile of answers of an HTTP server in a Node process that
transcribes on one thread less than the machine has, unless told otherwise. FILE is said sixteen times over where the
work has to be long. Ends with 1 above the promised 200, 150 and 20 ms.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from echo_bench.process import REPOSITORY

PYTHON_RUN = """
import signal, sys, time, echo
signal.signal(signal.SIGINT, signal.default_int_handler)
model, threads, file = sys.argv[1:]
audio = echo.Audio(echo.load_audio(file).samples.tobytes() * 16)
transcriber = echo.Transcriber(model, device="cpu", threads=int(threads))
def started(progress):
    if progress.stage == "transcribing":
        print("started", flush=True)
try:
    transcriber.transcribe(audio, on_progress=started)
except KeyboardInterrupt:
    print(time.time(), flush=True)
"""
NODE_START = """
import { createRequire } from "node:module";
const [folder, model, threads, file] = process.argv.slice(1);
const { Transcriber, loadAudio } = createRequire(import.meta.url)(folder);
const transcriber = await Transcriber.load({ model, device: "cpu", threads: Number(threads) });
"""
ABORT_RUN = """
const { samples, sampleRateHz } = await loadAudio(file);
const long = new Float32Array(samples.length * 16);
for (let copy = 0; copy < 16; copy += 1) long.set(samples, copy * samples.length);
const signal = AbortSignal.timeout(100);
const started = performance.now();
await transcriber.transcribe({ samples: long, sampleRateHz }, { signal }).catch(() => {});
console.log(performance.now() - started - 100);
"""
SERVER_RUN = """
import http from "node:http";
const server = http.createServer((_, response) => response.end("ok")).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const { port } = server.address();
const agent = new http.Agent({ keepAlive: true });
const times = [];
let isDone = false;
const work = transcriber.transcribe(file).finally(() => (isDone = true));
while (!isDone) {
  const started = performance.now();
  await new Promise((resolve, reject) =>
    http.get({ port, host: "127.0.0.1", agent }, (r) => r.resume().on("end", resolve)).on("error", reject));
  times.push(performance.now() - started);
  await new Promise((resolve) => setTimeout(resolve, 1));
}
await work;
agent.destroy();
server.close();
times.sort((a, b) => a - b);
console.log(times[Math.floor(times.length * 0.99)]);
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="base")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--python", default=sys.executable, help="a Python that has the package echo")
    parser.add_argument("--node-module", type=Path, default=REPOSITORY / "echo-node", metavar="DIR")
    arguments = parser.parse_args()
    common = [arguments.model, str(arguments.threads), str(arguments.file.resolve())]
    python = [arguments.python, "-c", PYTHON_RUN, *common]

    def node(code: str) -> float:
        command = ["node", "--input-type=module", "-e", NODE_START + code, "--", arguments.node_module.resolve()]
        return float(subprocess.run([*command, *common], check=True, capture_output=True, text=True).stdout)

    measured = {
        "Python, Ctrl-C": (200, [interrupt(python) for _ in range(arguments.runs)]),
        "Node, AbortSignal": (150, [node(ABORT_RUN) for _ in range(arguments.runs)]),
        "Node, answers' 99th percentile": (20, [node(SERVER_RUN) for _ in range(arguments.runs)]),
    }
    for name, (limit, times) in measured.items():
        print(f"{name}: median {statistics.median(times):.1f} ms, worst {max(times):.1f} ms of {len(times)} (limit {limit})")
    sys.exit(0 if all(statistics.median(times) <= limit for limit, times in measured.values()) else 1)


def interrupt(command: list) -> float:
    """Milliseconds from a SIGINT in the middle of the work to the exception."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout.readline().strip() != "started":
            sys.exit("error: the transcription did not start")
        time.sleep(0.3)
        sent_at = time.time()
        process.send_signal(signal.SIGINT)
        lines = [line.strip() for line in process.stdout if line.strip() != "started"]
    return (float(lines[-1]) - sent_at) * 1000


if __name__ == "__main__":
    main()
