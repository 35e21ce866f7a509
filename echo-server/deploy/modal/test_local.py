"""The Modal app without Modal: its class run by `.local()`, its endpoint called in place, and an API that is a
stand-in. Run with pytest; needs modal, fastapi, httpx and standardwebhooks from PyPI.
"""

import hashlib
import json
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("modal")
pytest.importorskip("fastapi")
standardwebhooks = pytest.importorskip("standardwebhooks")
sys.path.insert(0, str(Path(__file__).parent))

import app  # noqa: E402
import attend  # noqa: E402

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SOUND = b"RIFF" + bytes(5000)
OPTIONS = {
    "language": "pt", "task": "transcribe", "model": "base", "initial_prompt": None, "hotwords": ["Echo", "GPU"],
    "temperature": 0.0, "beam_size": 2, "word_timestamps": True, "diarize": False, "num_speakers": None,
    "min_speakers": None, "max_speakers": None, "channels": "mix", "condition_on_previous_text": False,
    "vad": {"enabled": True, "onset": 0.5, "offset": 0.35, "chunk_seconds": 30.0},
}


class FakeApi:
    """Echo's API: answers in turn what a test wants, and keeps what it heard, verified."""

    def __init__(self):
        self.events, self.resumed, self.answers, self.before, self.cut_downloads = [], [], {}, {}, 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, body):
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def do_GET(self):
                assert self.path == "/api/v1/worker/jobs/job-1/audio"
                assert self.headers["authorization"] == "Bearer 3.token-1"
                api.cut_downloads -= 1
                self.answer(200, SOUND[:100] if api.cut_downloads >= 0 else SOUND)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/resume":
                    api.resumed.append(json.loads(body))
                    return self.answer(200, {})
                standardwebhooks.Webhook(SECRET).verify(body, dict(self.headers))
                message = json.loads(body)
                kind = message["type"].removeprefix("transcription.")
                api.events.append((kind, message["data"], self.headers["webhook-id"]))
                api.before.get(kind, lambda: None)()
                planned = api.answers.get(kind, [])
                status, answer = planned.pop(0) if planned else (200, {})
                if status == 200 and kind == "started":
                    digest = hashlib.sha256(SOUND).hexdigest()
                    answer = {
                        "job_id": "job-1", "attempt": 1, "epoch": 3, "lease_token": "token-1", "lease_seconds": 2,
                        "options": OPTIONS, "model": "base", "audio_sha256": digest,
                    }
                elif status == 200:
                    answer = {"accepted": True, "cancel_requested": False, "lease_seconds": 60, **answer}
                return self.answer(status, answer)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def kinds(self):
        return [kind for kind, *_ in self.events if kind not in ("progress", "heartbeat")]


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setenv("ECHO_WORKER_SECRET", SECRET)
    monkeypatch.setattr(attend.time, "sleep", lambda _: None)
    fake = FakeApi()
    yield fake
    fake.server.shutdown()


class Segment:
    def to_dict(self):
        return {"start": 0.0, "end": 1.0, "text": "olá"}


class FakeSegments:
    """The library's iterator of segments."""

    def __init__(self, library):
        self.library = library

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __iter__(self):
        for _ in range(3):
            self.library.between()
            yield Segment()

    def finish(self):
        return types.SimpleNamespace(
            to_dict=lambda: {"version": 1, "language": "pt", "duration": 2.0, "segments": [Segment().to_dict()]}
        )


@pytest.fixture
def library(monkeypatch):
    """A stand-in for the package `echo`, whose model hears nothing new."""

    class Transcriber:
        def __init__(self, model, **options):
            module.loads.append((model, options))

        def segments(self, path, *, on_progress, **options):
            module.heard.append((Path(path).read_bytes(), options))
            on_progress(types.SimpleNamespace(fraction=0.5, stage="transcribing"))
            return FakeSegments(module)

    module = types.ModuleType("echo")
    module.Transcriber, module.between, module.loads, module.heard = Transcriber, lambda: None, [], []
    monkeypatch.setitem(sys.modules, "echo", module)
    return module


def run(api):
    job = {"v": 1, "job_id": "job-1", "delivery_id": "job-1:3", "api_url": api.url, "resume_url": f"{api.url}/resume"}
    return app.Worker().run.local(job)


def test_a_job_goes_its_way(api, library):
    assert run(api) == {"job_id": "job-1", "status": "completed"}
    assert api.kinds() == ["started", "completed"]
    done = api.events[-1][1]
    assert (done["epoch"], done["lease_token"], done["usage"]["audio_seconds"]) == (3, "token-1", 2.0)
    assert done["result"]["segments"][0]["text"] == "olá"
    assert api.resumed == [{"status": "completed"}]
    [(sound, options)] = library.heard
    assert sound == SOUND
    assert (options["hotwords"], options["words"], options["beam_size"]) == ("Echo GPU", True, 2)
    [(model, settings)] = library.loads
    assert (model, settings["diarization_model"]) == (app.MODEL, "campplus")


def test_a_job_of_somebody_else_is_left_alone(api, library):
    api.answers["started"] = [(409, {"code": "stale_lease"})]
    assert run(api)["status"] == "unwanted"
    assert (api.kinds(), library.heard) == (["started"], [])
    assert api.resumed == [{"status": "unwanted"}]


def test_an_event_is_repeated_under_its_name_until_it_is_answered(api, library):
    api.answers["completed"] = [(503, {}), (500, {})]
    assert run(api)["status"] == "completed"
    tries = [identifier for kind, _, identifier in api.events if kind == "completed"]
    assert len(tries) == 3 and len(set(tries)) == 1


def test_only_the_api_says_that_a_job_is_not_wanted(api, library):
    api.answers["started"] = [(404, b"<h1>Not Found</h1>")]
    api.answers["completed"] = [(410, {}), (409, {"code": "conflict"})]
    assert run(api)["status"] == "completed"
    assert api.kinds() == ["started"] * 2 + ["completed"] * 3


def test_a_lease_is_held_until_the_end_was_taken(api, library):
    api.before["completed"] = lambda: threading.Event().wait(1)
    assert run(api)["status"] == "completed"
    kinds = [kind for kind, *_ in api.events]
    assert set(kinds[kinds.index("completed") + 1 :]) == {"progress"}


def test_a_download_that_was_cut_is_repeated(api, library):
    api.cut_downloads = 2
    assert run(api)["status"] == "completed"
    assert library.heard[0][0] == SOUND


def test_a_clock_that_is_wrong_is_set_once(api, library):
    late = {"code": "timestamp_out_of_range", "server_time": attend.rfc3339(attend.time.time() + 200)}
    api.answers["started"] = [(401, late)]
    assert run(api)["status"] == "completed"
    api.answers["started"] = [(401, {"code": "bad_signature"})]
    with pytest.raises(RuntimeError, match="401"):
        run(api)


def test_errors_say_whether_another_attempt_may_help(api, library):
    for code, name, retryable in [("audio", "decode_failed", False), (None, "engine_failed", True)]:
        error = ValueError("broken")
        error.code = code

        def fail(error=error):
            raise error

        library.between = fail
        assert run(api)["status"] == "failed"
        told = api.events[-1][1]["error"]
        assert (told["code"], told["retryable"]) == (name, retryable)


def test_a_cancelled_job_stops_between_segments(api, library):
    heard = threading.Event()
    api.answers["progress"] = [(200, {"cancel_requested": True})] * 5

    def wait_for_a_heartbeat():
        while not any(kind in ("progress", "heartbeat") for kind, *_ in api.events):
            heard.wait(0.01)
        heard.wait(0.5)

    library.between = wait_for_a_heartbeat
    assert run(api)["status"] == "cancelled"
    assert api.kinds() == ["started", "cancelled"]


def test_a_call_that_modal_ends_gives_its_job_back(api, library):
    def end():
        raise app.modal.exception.InputCancellation

    library.between = end
    with pytest.raises(app.modal.exception.InputCancellation):
        run(api)
    assert api.kinds() == ["started", "released"]
    assert api.resumed == [{"status": "released"}]


def test_a_worker_without_its_lease_says_nothing_more(api, library):
    api.answers["progress"] = api.answers["heartbeat"] = [(409, {"code": "stale_lease"})] * 5
    library.between = lambda: threading.Event().wait(0.7)
    assert run(api)["status"] == "unwanted"
    assert api.kinds() == ["started"]


def test_the_endpoint_starts_and_ends_calls(monkeypatch):
    testclient = pytest.importorskip("fastapi.testclient")
    spawned, cancelled = [], []

    async def spawn(job):
        spawned.append(job)
        return types.SimpleNamespace(object_id="fc-1")

    async def cancel():
        cancelled.append("fc-1")

    call = types.SimpleNamespace(cancel=types.SimpleNamespace(aio=cancel))
    worker = types.SimpleNamespace(run=types.SimpleNamespace(spawn=types.SimpleNamespace(aio=spawn)))
    monkeypatch.setattr(app, "Worker", lambda: worker)
    monkeypatch.setattr(app.modal.FunctionCall, "from_id", lambda identifier: call)
    client = testclient.TestClient(app.endpoint())
    job = {"job_id": "job-1", "delivery_id": "job-1:1", "api_url": "https://echo.example"}
    assert client.post("/", json=job).json() == {"call_id": "fc-1"}
    assert client.post("/cancel", json={"call_id": "fc-1"}).json() == {"cancelled": "fc-1"}
    assert (spawned, cancelled) == ([job], ["fc-1"])
    for body in [b"", b"[]", b'{"job_id": 1}', b"\xff"]:
        assert client.post("/", content=body).status_code == 422
