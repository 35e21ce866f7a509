#!/usr/bin/env python3
"""What the server promises under load, measured from outside: memory, latency, durability's price, slow clients.

    server.py [--program PATH] [--scenarios uploads,large,slow,status,enqueue] [--seconds N] [--work DIR]
    server.py --peer PID:URL [--peer-health PATH] [--accepts STATUS] [--patience S] --scenarios uploads,large

Each scenario starts `echo-server serve` with an empty folder and no model that could be loaded, so jobs stay where
they are put and nothing but the API is measured. Clients run in processes of their own on the same machine: what they
take of the processor is in the figures. Another server, already running, takes the same uploads with `--peer`: the
number of its process and where files go, `123:http://127.0.0.1:8000/api/v1/transcribe`. A client waits `--patience`
seconds for its answer, and `/health` is given up after ten: both are counted.

    uploads   1,000 uploads of 1 MB at once: all accepted, at once or on retry; memory; `/health` meanwhile
    large     4 uploads of 300 MB at once: memory over idle
    slow      500 half-sent headers, 500 bodies at 1 byte/s, 200 readers that do not read: when they are cut off, and
              `GET /health` meanwhile
    status    `GET /transcription/{id}` 1,000 times a second
    enqueue   submissions by URL (a row, no file) and of small files, by 64 clients
"""

import argparse
import asyncio
import contextlib
import json
import math
import multiprocessing
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from echo_bench.process import find_program, machine

MB = 1024 * 1024
UPLOADS = 1000
LARGE_BYTES = 300 * MB
SLOW = 500
READERS = 200
HEALTH_S = 10


class Server:
    """A running server and its memory."""

    upload, health, accepts, patience_s = "/api/v1/upload/file", "/health", 202, 120

    def __init__(self, program: Path, folder: str, **variables: str) -> None:
        environment = {
            "PATH": os.environ["PATH"], "PORT": "0", "REDIS_URL": "redis://127.0.0.1:1", "ECHO_MODEL_DIR": folder,
            "ECHO_MIN_FREE_DISK": "1GB", "ECHO_MAX_PENDING": "1000000", "ECHO_DRAIN_DELAY": "0",
            "ECHO_DRAIN_SECONDS": "1", "RUST_LOG": "warn,echo_server=info", **variables,
        }
        self.log = open(Path(folder, "log"), "w+")
        self.process = subprocess.Popen([program, "serve"], cwd=folder, env=environment, stderr=self.log)
        while not (found := re.search(r"address=(\S+):(\d+)", Path(folder, "log").read_text())):
            if self.process.poll() is not None:
                sys.exit(f"the server ended: {Path(folder, 'log').read_text()}")
            time.sleep(0.05)
        self.pid, self.host, self.port = self.process.pid, found[1], int(found[2])

    def memory(self, name: str) -> float:
        """`VmRSS` or `VmHWM` (the peak) of the API in MB; its worker processes are not part of it."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Peer(Server):
    """A server that somebody else has started."""

    def __init__(self, where: str, health: str, accepts: int, patience_s: float) -> None:
        pid, url = where.split(":", 1)
        parts = urlsplit(url)
        self.pid, self.host, self.port, self.upload = int(pid), parts.hostname, parts.port, parts.path
        self.health, self.accepts, self.patience_s = health, accepts, patience_s

    def stop(self) -> None:
        """It is not ours to stop."""


class Client:
    """One connection, kept as long as the server keeps it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address, self.streams = address, None

    async def ask(self, method: str, path: str, body: list[bytes] = (), kind: str = "") -> tuple[int, dict, bytes]:
        """Status, headers and body of the answer."""
        if self.streams is not None:
            try:
                return await self._ask(method, path, body, kind)
            except (ConnectionError, asyncio.IncompleteReadError):
                # The server closed a connection that it had kept long enough.
                self.streams = None
        return await self._ask(method, path, body, kind)

    async def _ask(self, method: str, path: str, body: list[bytes], kind: str) -> tuple[int, dict, bytes]:
        length = sum(len(part) for part in body)
        head = f"{method} {path} HTTP/1.1\r\nhost: echo\r\ncontent-length: {length}\r\n"
        head += f"content-type: {kind}\r\n\r\n" if kind else "\r\n"
        if self.streams is None:
            self.streams = await asyncio.open_connection(*self.address)
        reader, writer = self.streams
        try:
            # The server may answer, and stop reading, before all is sent.
            writer.write(head.encode())
            for part in body:
                writer.write(part)
                await writer.drain()
        except ConnectionError:
            pass
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        answer = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            writer.close()
            self.streams = None
        return int(lines[0].split()[1]), headers, answer


def wav(data_bytes: int, mark: int) -> bytes:
    """The head of a recording with this much sound, and its first sample."""
    head = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", data_bytes)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(head) + data_bytes, b"WAVE") + head + struct.pack("<I", mark)


def form(size: int, mark: int, chunk: bytes) -> tuple[list[bytes], str]:
    """A form with a recording of `size` bytes, all different; the chunk is shared by all of them."""
    start = b'--sep\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + wav(size, mark)
    parts = [start] + [chunk] * (size // len(chunk)) + [b"\r\n--sep--\r\n"]
    return parts, "multipart/form-data; boundary=sep"


def percentiles(times_s: list[float]) -> str:
    ordered = sorted(times_s) or [math.nan]
    at = lambda share: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
    return f"p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, worst {1000 * ordered[-1]:.1f} ms of {len(ordered)}"


def watch(address: tuple[str, int], path: str, a_second: float, stop, results) -> None:
    """Asks at fixed times, in a process of its own; a late answer delays no later question."""

    async def run() -> None:
        times, pending, idle = [], set(), []

        async def one(due: float) -> None:
            client = idle.pop() if idle else Client(address)
            try:
                status, _, _ = await asyncio.wait_for(client.ask("GET", path), HEALTH_S)
                assert status == 200, status
                idle.append(client)
            except (asyncio.TimeoutError, OSError, asyncio.IncompleteReadError):
                pass
            times.append(time.monotonic() - due)

        due = time.monotonic()
        while not stop.is_set():
            due += 1 / a_second
            await asyncio.sleep(max(0, due - time.monotonic()))
            pending.add(task := asyncio.create_task(one(due)))
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)
        results.put(times)

    asyncio.run(run())


class Watch:
    """Latencies of a path while something else happens."""

    def __init__(self, server: Server, path: str, a_second: float) -> None:
        self.stop, self.results = multiprocessing.Event(), multiprocessing.Queue()
        arguments = ((server.host, server.port), path, a_second, self.stop, self.results)
        self.process = multiprocessing.Process(target=watch, args=arguments, daemon=True)
        self.process.start()

    def end(self) -> list[float]:
        self.stop.set()
        times = self.results.get(timeout=60)
        self.process.join()
        return times


async def uploads(server: Server) -> None:
    address, chunk = (server.host, server.port), os.urandom(64 * 1024)
    answers, times = Counter(), []

    async def one(mark: int) -> None:
        client, began = Client(address), time.monotonic()
        while True:
            parts, kind = form(MB, mark, chunk)
            try:
                asked = client.ask("POST", server.upload, parts, kind)
                status, headers, _ = await asyncio.wait_for(asked, server.patience_s)
            except asyncio.TimeoutError:
                answers["no answer"] += 1
                return
            except (OSError, asyncio.IncompleteReadError):
                answers["cut off"] += 1
                return
            answers[status] += 1
            if status == server.accepts:
                times.append(time.monotonic() - began)
            if status not in (429, 503) or "retry-after" not in headers:
                return
            await asyncio.sleep(int(headers["retry-after"]))

    health = Watch(server, server.health, 50)
    began = time.monotonic()
    await asyncio.gather(*(one(mark) for mark in range(UPLOADS)))
    took = time.monotonic() - began
    print(f"uploads: {len(times)} of {UPLOADS} accepted, {dict(answers)} in {took:.1f} s ({len(times) / took:.1f}/s), {percentiles(times)}")
    print(f"uploads: peak memory {server.memory('VmHWM'):.0f} MB; /health {percentiles(health.end())}")


async def large(server: Server) -> None:
    address, chunk = (server.host, server.port), os.urandom(MB)
    idle = server.memory("VmRSS")
    server.forget_peak()
    health, began = Watch(server, server.health, 50), time.monotonic()

    async def one(mark: int) -> int:
        return (await Client(address).ask("POST", server.upload, *form(LARGE_BYTES, mark, chunk)))[0]

    statuses = await asyncio.gather(*(one(mark) for mark in range(4)))
    over = server.memory("VmHWM") - idle
    took = time.monotonic() - began
    print(f"large: {statuses} in {took:.1f} s, {over:.0f} MB over idle ({idle:.0f} MB); /health {percentiles(health.end())}")


async def until_closed(reader: asyncio.StreamReader, began: float) -> float:
    """When the other end closed the connection; whatever it says before is read."""
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - began


async def slow(server: Server) -> None:
    address = (server.host, server.port)
    _, _, answer = await Client(address).ask("POST", "/api/v1/upload/file", *form(16 * MB, 0, bytes(MB)))
    job = json.loads(answer)["job_id"]
    health, began = Watch(server, "/health", 50), time.monotonic()

    async def half_header() -> float:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET /health HTTP/1.1\r\nhost: echo\r\nx-slow: ")
        return await until_closed(reader, began)

    async def dripping_body() -> float:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST /api/v1/upload/file HTTP/1.1\r\nhost: echo\r\ncontent-type: audio/wav\r\n"
                     b"content-length: 1000000\r\n\r\n" + wav(999_000, 1))
        ended = asyncio.create_task(until_closed(reader, began))
        while not ended.done():
            await asyncio.sleep(1)
            try:
                writer.write(b"\0")
            except ConnectionError:
                break
        return await ended

    async def silent_reader() -> object:
        reader, writer = await asyncio.open_connection(*address)
        writer.transport.pause_reading()
        writer.write(f"GET /api/v1/transcription/{job}/audio HTTP/1.1\r\nhost: echo\r\n\r\n".encode())
        return reader, writer

    async def readers_gone() -> float:
        """When the server has closed the files that it was sending."""
        def is_sending() -> bool:
            for path in Path(f"/proc/{server.pid}/fd").iterdir():
                # Others are closed meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    if "/blobs/" in os.readlink(path):
                        return True
            return False

        while is_sending():
            await asyncio.sleep(0.2)
        return time.monotonic() - began

    readers = await asyncio.gather(*(silent_reader() for _ in range(READERS)))
    gone = asyncio.create_task(readers_gone())
    ends = await asyncio.gather(*(half_header() for _ in range(SLOW)), *(dripping_body() for _ in range(SLOW)))
    headers, bodies = ends[:SLOW], ends[SLOW:]
    print(f"slow: half headers closed after {min(headers):.1f} to {max(headers):.1f} s, bodies at 1 byte/s after "
          f"{min(bodies):.1f} to {max(bodies):.1f} s, {len(readers)} readers that do not read after {await gone:.1f} s; "
          f"peak memory {server.memory('VmHWM'):.0f} MB")
    print(f"slow: /health meanwhile {percentiles(health.end())}")
    for _, writer in readers:
        writer.close()


async def status(server: Server, seconds: float) -> None:
    address = (server.host, server.port)
    _, _, answer = await Client(address).ask("POST", "/api/v1/upload/file", *form(1024, 0, bytes(1024)))
    path = f"/api/v1/transcription/{json.loads(answer)['job_id']}?include=none"
    watches = [Watch(server, path, 250) for _ in range(4)]
    await asyncio.sleep(seconds)
    times = [time for each in watches for time in each.end()]
    print(f"status: {len(times) / seconds:.0f} a second, {percentiles(times)}; {server.memory('VmRSS'):.0f} MB")


async def enqueue(server: Server, seconds: float) -> None:
    address = (server.host, server.port)
    for kind in ("URL", "file"):
        count, times, end = 0, [], time.monotonic() + seconds

        async def client() -> None:
            nonlocal count
            own = Client(address)
            while time.monotonic() < end:
                count += 1
                began = time.monotonic()
                if kind == "URL":
                    body = json.dumps({"url": f"https://echo.invalid/{count}.wav"}).encode()
                    code, _, answer = await own.ask("POST", "/api/v1/upload/url", [body], "application/json")
                else:
                    code, _, answer = await own.ask("POST", "/api/v1/upload/file", *form(1024, count, bytes(1024)))
                assert code == 202, answer
                times.append(time.monotonic() - began)

        began = time.monotonic()
        await asyncio.gather(*(client() for _ in range(64)))
        print(f"enqueue by {kind}: {len(times) / (time.monotonic() - began):.0f} jobs/s, {percentiles(times)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, help="echo-server (default: the release build)")
    parser.add_argument("--scenarios", default="uploads,large,slow,status,enqueue")
    parser.add_argument("--peer", metavar="PID:URL", help="another server that runs, for `uploads` and `large`")
    parser.add_argument("--peer-health", default="/health")
    parser.add_argument("--accepts", type=int, default=202, help="what the peer answers when it has taken a file")
    parser.add_argument("--patience", type=float, default=120, help="seconds that a client of the peer waits")
    parser.add_argument("--seconds", type=float, default=10, help="of `status` and of each part of `enqueue`")
    parser.add_argument("--work", type=Path, help="where databases and uploads go (default: a temporary folder)")
    arguments = parser.parse_args()
    program = None if arguments.peer else find_program("echo-server", arguments.program).resolve()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    runs = {
        "uploads": uploads, "large": large, "slow": slow,
        "status": lambda server: status(server, arguments.seconds),
        "enqueue": lambda server: enqueue(server, arguments.seconds),
    }
    print(machine())
    for name in arguments.scenarios.split(","):
        with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
            peer = (arguments.peer, arguments.peer_health, arguments.accepts, arguments.patience)
            server = Peer(*peer) if arguments.peer else Server(program, folder)
            try:
                asyncio.run(runs[name](server))
            finally:
                server.stop()


if __name__ == "__main__":
    main()
