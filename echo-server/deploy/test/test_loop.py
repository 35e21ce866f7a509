"""The whole way of a job over Trigger.dev and Modal, without either: the API, a stand-in for Trigger.dev that runs
the real task, Modal's real app run by `.local()`, and signed events back to the API.

Run with pytest by a Python that has modal, fastapi and uvicorn, and for real words `echo`, with ECHO_TEST_STORE
naming a folder of models. Needs a built server (ECHO_TEST_SERVER, default target/debug/echo-server) and the task
compiled by `npm test` in ECHO_TEST_TRIGGER (default target/trigger).
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
import types
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("modal")
uvicorn = pytest.importorskip("uvicorn")
ROOT = Path(__file__).resolve().parents[3]
SERVER = Path(os.environ.get("ECHO_TEST_SERVER", ROOT / "target/debug/echo-server"))
TRIGGER = Path(os.environ.get("ECHO_TEST_TRIGGER", ROOT / "target/trigger"))
if not SERVER.exists() or not (TRIGGER / "dist/src/transcribe.js").exists():
    pytest.skip("skipped: build the server and the task first", allow_module_level=True)
sys.path.insert(0, str(ROOT / "echo-server/deploy/modal"))

import app  # noqa: E402

SECRET = "a secret of workers, long enough"
KEY = "tr_dev_loop"
PATIENCE_SECONDS = 120


def has_real_words():
    try:
        import echo  # noqa: F401
    except ImportError:
        return False
    return bool(os.environ.get("ECHO_TEST_STORE"))


@pytest.fixture
def modal_endpoint(monkeypatch):
    """Modal's web endpoint, whose calls run here, each on a thread."""
    monkeypatch.setenv("ECHO_WORKER_SECRET", SECRET)
    if has_real_words():
        monkeypatch.setenv("ECHO_CACHE", os.environ["ECHO_TEST_STORE"])
        monkeypatch.setenv("ECHO_MODEL", "base")
    else:
        print("the words are pretended: `echo` or ECHO_TEST_STORE is missing")
        monkeypatch.setitem(sys.modules, "echo", pretended())
    calls = []

    async def spawn(job):
        calls.append(job)
        threading.Thread(target=lambda: app.Worker().run.local(job), daemon=True).start()
        return types.SimpleNamespace(object_id=f"fc-{len(calls)}")

    real, worker = app.Worker, types.SimpleNamespace
    run = worker(run=worker(spawn=worker(aio=spawn), local=lambda job: real().run.local(job)))
    monkeypatch.setattr(app, "Worker", lambda: run)
    config = uvicorn.Config(app.endpoint(), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/", calls
    server.should_exit = True
    thread.join()


def pretended():
    """A library that hears one word in everything."""
    said = {"start": 0.0, "end": 1.0, "text": "pretended"}
    result = {"version": 1, "language": "en", "duration": 2.0, "segments": [said]}
    segment = types.SimpleNamespace(to_dict=lambda: said)

    class Segments(list):
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731
        finish = lambda self: types.SimpleNamespace(to_dict=lambda: result)  # noqa: E731

    class Transcriber:
        def __init__(self, *_, **__):
            pass

        def segments(self, *_, **__):
            return Segments([segment])

    module = types.ModuleType("echo")
    module.Transcriber = Transcriber
    return module


@pytest.fixture
def trigger(modal_endpoint):
    endpoint, _ = modal_endpoint
    environment = {**os.environ, "MODAL_WEBHOOK_URL": endpoint, "ECHO_WORKER_SECRET": SECRET, "ECHO_STUB_KEY": KEY}
    command = ["node", "test/stub.mjs"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    stub = subprocess.Popen(command, cwd=TRIGGER, env=environment, **pipes)
    yield stub.stdout.readline().strip()
    stub.stdin.close()
    stub.wait(timeout=20)


def start(folder, **variables):
    """A server as a process, and its address."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "PORT": str(port), "APP_URL": f"http://127.0.0.1:{port}",
        "REDIS_URL": "redis://127.0.0.1:1", "ECHO_MODEL": "base", "ECHO_MIN_FREE_DISK": "1MB", "ECHO_DRAIN_DELAY": "0",
        "ECHO_WORKER_SECRET": SECRET, "ECHO_LEASE_SECONDS": "8", **variables,
    }
    process = subprocess.Popen([SERVER, "serve"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if re.search(r"address=", line):
            break
    threading.Thread(target=process.stderr.read, daemon=True).start()
    return process, f"http://127.0.0.1:{port}"


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url, body=None, **headers):
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=100) as answer:
        return json.load(answer)


def until(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def transcribed(base, sound):
    query = "language=en&beam_size=1"
    job = ask(f"{base}/api/v1/upload/file?{query}", sound, **{"content-type": "audio/ogg"})
    path = f"{base}/api/v1/transcription/{job['job_id']}"
    return until(lambda: shown if (shown := ask(f"{path}?wait=20"))["finished_at"] else None)


@pytest.mark.parametrize("queue", ["trigger", "modal"])
def test_a_job_goes_to_a_gpu_and_back(tmp_path, modal_endpoint, trigger, queue):
    endpoint, calls = modal_endpoint
    server, base = start(
        tmp_path, ECHO_QUEUE=queue, TRIGGER_API_URL=trigger, TRIGGER_SECRET_KEY=KEY, MODAL_WEBHOOK_URL=endpoint
    )
    try:
        sound = (ROOT / "examples/media/dialogue.opus").read_bytes()
        job = transcribed(base, sound)
        assert (job["status"], job["attempt"]) == ("completed", 1), job
        assert job["result"]["segments"], job
        if has_real_words():
            assert "bees" in job["result"]["text"], job["result"]["text"]
        assert [call["job_id"] for call in calls] == [job["job_id"]]
        # The same delivery again finds the job over.
        status = app.Worker().run.local(calls[0])["status"]
        assert status == "unwanted"
    finally:
        server.terminate()
        assert server.wait(timeout=30) == 0


def test_an_engine_that_is_away_delays_jobs_and_loses_none(tmp_path, modal_endpoint):
    endpoint, calls = modal_endpoint
    away = f"http://127.0.0.1:{free_port()}"
    server, base = start(tmp_path, ECHO_QUEUE="modal", MODAL_WEBHOOK_URL=away)
    sound = b"RIFF....WAVEfmt " + bytes(64)
    try:
        job = ask(f"{base}/api/v1/upload/file", sound, **{"content-type": "audio/wav"})["job_id"]
        until(lambda: ask(f"{base}/health")["checks"]["queue"]["reachable"] is False)
    finally:
        server.terminate()
        server.wait(timeout=30)
    # Its next server reaches the engine; the job was never announced, and is now.
    server, base = start(tmp_path, ECHO_QUEUE="modal", MODAL_WEBHOOK_URL=endpoint)
    try:
        until(lambda: [call["job_id"] for call in calls] == [job])
    finally:
        server.terminate()
        server.wait(timeout=30)
