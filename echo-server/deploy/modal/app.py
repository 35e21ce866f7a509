"""Echo's worker on Modal's GPUs.

    ECHO_WHEEL=echo_asr-….whl modal deploy app.py

A POST with a job to the endpoint starts a call and answers at once; POST …/cancel ends one. The call claims the
job from Echo's API, whose row decides who may run it: of two calls for one job the second finds it taken and
ends. Modal retries nothing, because the API counts attempts. The secret `echo` of Modal holds ECHO_WORKER_SECRET
(the API's), and HF_TOKEN where ECHO_DIARIZATION_MODEL is to be fetched with one; that, ECHO_MODEL, ECHO_GPU and
ECHO_MAX_CONTAINERS are read when the app is deployed.
"""

import os
from pathlib import Path

import modal

HERE = Path(__file__).resolve().parent
MODEL = os.environ.get("ECHO_MODEL", "large-v3-turbo")
DIARIZATION_MODEL = os.environ.get("ECHO_DIARIZATION_MODEL", "campplus")
WHEEL = os.environ.get("ECHO_WHEEL")
# Endpoints are cut off after 150 s and functions after 300 s, if nobody says otherwise.
LONGEST_JOB_SECONDS = 4 * 3600

image = modal.Image.debian_slim(python_version="3.11").pip_install("fastapi>=0.115")
if WHEEL:
    place = f"/root/{Path(WHEEL).name}"
    image = image.add_local_file(WHEEL, place, copy=True).run_commands(f"pip install {place}")
image = image.env({"ECHO_MODEL": MODEL, "ECHO_DIARIZATION_MODEL": DIARIZATION_MODEL})
image = image.add_local_file(HERE / "attend.py", "/root/attend.py")

app = modal.App("echo", image=image)
models = modal.Volume.from_name("echo-models", create_if_missing=True)
secret = modal.Secret.from_name("echo", required_keys=["ECHO_WORKER_SECRET"])


@app.cls(
    gpu=os.environ.get("ECHO_GPU", "L4,A10G,L40S").split(","),
    timeout=LONGEST_JOB_SECONDS,
    retries=0,
    max_containers=int(os.environ.get("ECHO_MAX_CONTAINERS", "10")),
    scaledown_window=120,
    volumes={"/models": models},
    secrets=[secret],
)
class Worker:
    """One GPU with one model."""

    @modal.enter()
    def load(self):
        import echo

        cache = os.environ.get("ECHO_CACHE", "/models")
        model = os.environ.get("ECHO_MODEL", MODEL)
        self.transcriber = echo.Transcriber(model, diarization_model=DIARIZATION_MODEL, cache=cache)

    @modal.method()
    def run(self, job: dict) -> dict:
        """Runs one job to its end; what came of it."""
        import attend

        return attend.attend(job, self.transcriber)


def endpoint():
    """The web application: jobs come in here."""
    from fastapi import FastAPI, HTTPException, Request

    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def message(request: Request, *names: str) -> dict:
        try:
            body = await request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in names):
            # What is wrong now is wrong for ever: 4xx ends the dispatch.
            raise HTTPException(422, f"expected a JSON object with {', '.join(names)}")
        return body

    @web.post("/")
    async def submit(request: Request) -> dict:
        job = await message(request, "job_id", "delivery_id", "api_url")
        call = await Worker().run.spawn.aio(job)
        return {"call_id": call.object_id}

    @web.post("/cancel")
    async def cancel(request: Request) -> dict:
        call_id = (await message(request, "call_id"))["call_id"]
        await modal.FunctionCall.from_id(call_id).cancel.aio()
        return {"cancelled": call_id}

    return web


@app.function(image=modal.Image.debian_slim(python_version="3.11").pip_install("fastapi>=0.115"))
@modal.concurrent(max_inputs=100)
@modal.asgi_app(requires_proxy_auth=True)
def web():
    """POST / with a job, POST /cancel with a call; both want Modal-Key and Modal-Secret."""
    return endpoint()
