"""One job of Echo's API, from its claim to its end: what a worker elsewhere tells and hears.

Events go to `POST /api/v1/webhooks/transcription`, signed as Standard Webhooks say; the answers say whether to go
on. The sound is fetched with the lease's number and token. Standard library only.
"""

import base64
import hashlib
import hmac
import json
import logging
import os
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid

log = logging.getLogger("echo.worker")

PATIENCE_SECONDS = 600
"""How long an event is tried; longer than any lease, shorter than anybody waits."""

ANSWER_SECONDS = 60

LASTING = {"audio": "decode_failed", "option": "invalid_option"}
"""Errors of the library that another attempt will not change, with the API's names for them."""

PASSING = {"model": "model_load_failed", "device": "out_of_memory"}


UNWANTED = {"job_not_found", "stale_lease", "job_gone", "result_expired"}
"""With these codes the API says so. The same status without any of them is of somebody who stands between."""


class Unwanted(Exception):
    """The job is somebody else's, or over: stop, and tell nothing more."""


class Api:
    """Echo's API as a worker sees it."""

    def __init__(self, base, secret, *, patience_seconds=PATIENCE_SECONDS):
        self.base = base.rstrip("/")
        self.key = key_of(secret)
        self.patience_seconds = patience_seconds
        self.ahead_seconds = 0.0

    def send(self, kind, data):
        """Sends an event until it is answered; the same event twice is one, by its identifier."""
        identifier = f"msg_{uuid.uuid4().hex}"
        deadline, pause = time.monotonic() + self.patience_seconds, 0.5
        while True:
            status, answer = self._try(identifier, kind, data)
            if 200 <= status < 300:
                return answer
            if answer.get("code") in UNWANTED:
                raise Unwanted(answer["code"])
            if status == 401 and self._corrects_clock(answer):
                continue
            if 400 <= status < 500 and status not in (404, 408, 409, 410, 425, 429):
                raise RuntimeError(f"{kind} was refused with {status}: {answer.get('detail')}")
            if time.monotonic() + pause > deadline:
                raise TimeoutError(f"the API did not take {kind}: status {status}")
            log.warning("%s is sent again: status %s", kind, status)
            time.sleep(pause)
            pause = min(pause * 2, 30)

    def fetch(self, job_id, lease, digest, file):
        """Writes the sound of a job, checked by its digest."""
        deadline, pause = time.monotonic() + self.patience_seconds, 0.5
        while True:
            request = urllib.request.Request(
                f"{self.base}/api/v1/worker/jobs/{job_id}/audio",
                headers={"authorization": f"Bearer {lease}"},
            )
            file.seek(0)
            file.truncate()
            found = hashlib.sha256()
            try:
                with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                    while chunk := answer.read(1 << 20):
                        found.update(chunk)
                        file.write(chunk)
                if digest in (None, found.hexdigest()):
                    file.flush()
                    return
                reason = "it was cut short"
            except urllib.error.HTTPError as error:
                if (code := loaded(error.read()).get("code")) in UNWANTED:
                    raise Unwanted(code) from None
                reason = f"status {error.code}"
            except OSError as error:
                reason = str(error)
            if time.monotonic() + pause > deadline:
                raise TimeoutError(f"the sound could not be fetched: {reason}")
            time.sleep(pause)
            pause = min(pause * 2, 30)

    def _try(self, identifier, kind, data):
        now = time.time() + self.ahead_seconds
        timestamp = str(int(now))
        message = {"type": f"transcription.{kind}", "timestamp": rfc3339(now), "data": data}
        body = json.dumps(message, separators=(",", ":")).encode()
        signed = b".".join([identifier.encode(), timestamp.encode(), body])
        tag = base64.b64encode(hmac.new(self.key, signed, hashlib.sha256).digest()).decode()
        headers = {
            "content-type": "application/json",
            "webhook-id": identifier,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{tag}",
        }
        url = f"{self.base}/api/v1/webhooks/transcription"
        return post(url, body, headers)

    def _corrects_clock(self, answer):
        """Whether the API told its time, and it is not the one that was used."""
        if answer.get("code") != "timestamp_out_of_range" or "server_time" not in answer:
            return False
        ahead = seconds_of(answer["server_time"]) - time.time()
        is_news, self.ahead_seconds = abs(ahead - self.ahead_seconds) > 1, ahead
        return is_news


def attend(job, transcriber, *, secret=None, api=None):
    """Runs one job; says what came of it, and to `resume_url`, if there is one, too."""
    api = api or Api(job["api_url"], secret or os.environ["ECHO_WORKER_SECRET"])
    worker = f"modal-{os.environ.get('MODAL_TASK_ID', socket.gethostname())}"
    status = "released"
    try:
        status = run(job, transcriber, api, worker)
    except Unwanted as reason:
        log.info("job %s is unwanted: %s", job["job_id"], reason)
        status = "unwanted"
    finally:
        if resume := job.get("resume_url"):
            body = json.dumps({"status": status}).encode()
            code, _ = post(resume, body, {"content-type": "application/json"})
            if not 200 <= code < 300:
                # The task waits until its token ends; the job itself is over.
                log.warning("the waiting task could not be told: status %s", code)
    return {"job_id": job["job_id"], "status": status}


def run(job, transcriber, api, worker):
    first = {"job_id": job["job_id"], "delivery_id": job["delivery_id"], "worker_id": worker}
    claim = api.send("started", first)
    lease = {name: claim[name] for name in ("job_id", "attempt", "epoch", "lease_token")}
    lease["worker_id"] = worker
    with tempfile.NamedTemporaryFile(prefix="echo-") as file, Pulse(api, lease, claim) as pulse:
        try:
            lease_name = f"{claim['epoch']}.{claim['lease_token']}"
            api.fetch(claim["job_id"], lease_name, claim.get("audio_sha256"), file)
            began = time.monotonic()
            transcript = transcribe(transcriber, file.name, claim["options"], pulse)
            busy = time.monotonic() - began
        except Stopped:
            kind, told = ("cancelled", {}) if pulse.is_cancelled else ("released", {})
        except Unwanted:
            raise
        except Exception as error:  # noqa: BLE001, whatever it is, the API has to know
            log.exception("job %s failed", job["job_id"])
            kind, told = "failed", {"error": fault(error)}
        except BaseException:
            # Modal ends the call and gives a moment for this; the attempt shall not count.
            pulse.stop()
            api.patience_seconds = 5
            api.send("released", lease)
            raise
        else:
            kind = "completed"
            usage = {"audio_seconds": transcript["duration"], "busy_seconds": busy}
            told = {"result": transcript, "usage": usage}
        if pulse.is_lost:
            raise Unwanted("the lease was lost")
        # The lease is held meanwhile: the API may wait for room on a disk.
        api.send(kind, {**lease, **told})
    return kind


class Stopped(Exception):
    """The work was asked to stop."""


def transcribe(transcriber, path, options, pulse):
    """The transcript as JSON has it; stops between segments when the job is not wanted any more."""
    wanted = library_options(options)
    with transcriber.segments(path, on_progress=pulse.hear, **wanted) as segments:
        for segment in segments:
            pulse.segments.append(segment.to_dict())
            if pulse.wants_stop():
                raise Stopped
        return segments.finish().to_dict()


def library_options(options):
    """The API's options by the library's names."""
    vad = options["vad"]
    wanted = {
        "language": options.get("language"),
        "task": options["task"],
        "words": options["word_timestamps"],
        "beam_size": options["beam_size"],
        "initial_prompt": options.get("initial_prompt"),
        "condition_on_previous_text": options["condition_on_previous_text"],
        "mode": "sequential" if options["condition_on_previous_text"] else "batched",
        "channels": "each" if options["channels"] == "split" else "mix",
        "vad": {
            "onset": vad["onset"],
            "offset": vad["offset"],
            "max_chunk_seconds": vad["chunk_seconds"],
        },
    }
    if not vad["enabled"]:
        wanted["vad"]["model"] = "none"
    if options["hotwords"]:
        wanted["hotwords"] = " ".join(options["hotwords"])
    if options["temperature"] > 0:
        wanted["temperatures"] = [options["temperature"]]
    if options["diarize"]:
        exact = options.get("num_speakers")
        bounds = {
            "min_speakers": exact or options.get("min_speakers"),
            "max_speakers": exact or options.get("max_speakers"),
        }
        wanted["diarize"] = {name: value for name, value in bounds.items() if value}
    return wanted


class Pulse:
    """Renews a lease while the work goes on, tells how far it is, and hears whether to stop."""

    def __init__(self, api, lease, claim):
        self.api, self.lease = api, lease
        self.lease_seconds = float(claim["lease_seconds"])
        self.segments, self.progress = [], None
        self.is_cancelled = self.is_lost = False
        self._over = threading.Event()
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._over.set()
        self._thread.join()

    def hear(self, progress):
        """What the library says of its progress."""
        self.progress = progress

    def wants_stop(self):
        # A lease that nobody renewed in time is somebody else's, whatever the API would say.
        self.is_lost |= time.monotonic() - self._renewed > self.lease_seconds
        return self.is_cancelled or self.is_lost

    def _beat(self):
        api = Api(self.api.base, "", patience_seconds=0)
        api.key, api.ahead_seconds = self.api.key, self.api.ahead_seconds
        while not self._over.wait(min(self.lease_seconds / 4, 15)):
            try:
                answer = api.send("progress" if self.progress else "heartbeat", self._news())
                self._renewed = time.monotonic()
                self.is_cancelled |= answer["cancel_requested"]
            except Unwanted:
                self.is_lost = True
                return
            except (TimeoutError, RuntimeError) as error:
                log.warning("a lease could not be renewed: %s", error)

    def _news(self):
        news = dict(self.lease)
        if progress := self.progress:
            segments, self.segments = self.segments, []
            news.update(progress=progress.fraction, stage=progress.stage, segments=segments)
        return news


def fault(error):
    """What the API is told about an error."""
    code = getattr(error, "code", None)
    if code in LASTING:
        return {"code": LASTING[code], "message": str(error), "retryable": False}
    name = PASSING.get(code, "engine_failed")
    return {"code": name, "message": str(error) or type(error).__name__, "retryable": True}


def post(url, body, headers):
    """Status and answer; 0 if there was none."""
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return answer.status, loaded(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, loaded(error.read())
    except OSError as error:
        log.warning("%s: %s", url, error)
        return 0, {}


def loaded(text):
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def key_of(secret):
    """The bytes of a secret, which Standard Webhooks write as whsec_ and base64."""
    if secret.startswith("whsec_"):
        return base64.b64decode(secret.removeprefix("whsec_"))
    return secret.encode()


def rfc3339(seconds):
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def seconds_of(text):
    import calendar

    whole, _, fraction = text.rstrip("Z").partition(".")
    parsed = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    return calendar.timegm(parsed) + float(f"0.{fraction or 0}")
