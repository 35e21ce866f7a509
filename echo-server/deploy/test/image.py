#!/usr/bin/env python3
"""Builds the image's target `cpu` without a container engine, runs it, and checks how it behaves.

    python3 echo-server/deploy/test/image.py [PROGRAM]     (as root; default target/debug/echo-server)

Debian's buildah builds (chroot isolation), and debootstrap makes the base image, because no registry is
asked. The image runs as its own configuration says (user, variables, entry point, health check, stop signal),
in a mount namespace with a root that cannot be written and only /data and /tmp that can. Checked are the
user, the read-only root, the health check, a transcription where ECHO_TEST_STORE names a folder of models,
and the end within the grace. About two minutes the first time, ten seconds afterwards.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WORK = ROOT / "target" / "image"
BASE = "docker.io/library/debian:bookworm-slim"
IMAGE = "localhost/echo-server:test"
GRACE_SECONDS = 130
PATIENCE_SECONDS = 120


def run(*command, **options):
    """The output of a command that has to succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"failed ({done.returncode}): {' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout.strip()


def buildah(*arguments, **options):
    storage = ["--storage-driver", "vfs", "--root", WORK / "storage", "--runroot", WORK / "run"]
    return run("buildah", *storage, *arguments, **options)


def ensure_base():
    """Makes what stands in for Debian's own image."""
    if subprocess.run(
        ["buildah", "--storage-driver", "vfs", "--root", WORK / "storage", "--runroot", WORK / "run",
         "inspect", "--type", "image", BASE], capture_output=True,
    ).returncode == 0:
        return
    root = WORK / "rootfs"
    if not (root / "bin").exists():
        print("making the base image with debootstrap", flush=True)
        run("debootstrap", "--variant=minbase", "bookworm", root, stderr=subprocess.STDOUT)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, root, "/")
    buildah("commit", "--quiet", container, BASE)
    buildah("rm", container)


def build(program):
    context = Path(tempfile.mkdtemp(prefix="echo-image-"))
    shutil.copy(program, context / "echo-server")
    shutil.copy(ROOT / "Dockerfile", context)
    buildah(
        "bud", "--quiet", "--isolation", "chroot", "--pull-never", "--format", "docker", "--target", "cpu",
        "--build-arg", "PROGRAM=prebuilt", "--tag", IMAGE, context,
    )
    shutil.rmtree(context)


class Container:
    """The image in a mount namespace of its own, as its configuration says."""

    def __init__(self, models):
        config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
        self.config = config
        self.container = buildah("from", "--pull-never", IMAGE)
        self.root = buildah("mount", self.container)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        variables = [*config["Env"], f"PORT={self.port}", "RUST_LOG=info", "ECHO_MODEL=base"]
        models_mount = f"mkdir $R/data/models; mount --bind -o ro '{models}' $R/data/models" if models else ":"
        # The volume belongs to whom the image's folder belongs to, as engines make it.
        script = f"""
            set -e; R='{self.root}'; owner=$(stat -c %u:%g $R/data)
            mount --bind $R $R
            mount -t tmpfs -o mode=0755 data $R/data; chown $owner $R/data; {models_mount}
            mount -t tmpfs tmp $R/tmp; mount -t proc proc $R/proc; mount --rbind /dev $R/dev
            mount -o remount,ro,bind $R
            exec chroot --userspec={config["User"]} $R /usr/bin/env -i -C {config["WorkingDir"]} "$@"
        """
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        started = [*variables, *config["Entrypoint"], *config["Cmd"]]
        self.process = subprocess.Popen([*command, *started])

    def inside(self, *command, user=None):
        """Runs a command beside the server; its exit status."""
        namespace = ["nsenter", "--target", str(self.process.pid), "--mount"]
        who = ["chroot", f"--userspec={user or self.config['User']}", self.root]
        environment = ["/usr/bin/env", "-i", *self.config["Env"], f"PORT={self.port}"]
        done = subprocess.run([*namespace, *who, *environment, *command], capture_output=True)
        return done.returncode

    def is_healthy(self):
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD", kind
        return self.inside(*command) == 0

    def user(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return status.split("Uid:")[1].split()[:4]

    def stop(self):
        """Seconds until the end, after the image's own signal."""
        began = time.monotonic()
        self.process.send_signal(getattr(signal, self.config["StopSignal"]))
        status = self.process.wait(timeout=GRACE_SECONDS)
        assert status == 0, f"exit status {status}"
        return time.monotonic() - began

    def remove(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        buildah("rm", self.container)


def until(what, condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


def transcribe(port):
    sound = (ROOT / "examples/media/dialogue.opus").read_bytes()
    url = f"http://127.0.0.1:{port}/api/v1/upload/file?language=en&beam_size=1"
    request = urllib.request.Request(url, sound, {"content-type": "audio/ogg"})
    job = json.load(urllib.request.urlopen(request))["job_id"]
    path = f"http://127.0.0.1:{port}/api/v1/transcription/{job}"
    shown = {}

    def is_over():
        shown.update(json.load(urllib.request.urlopen(f"{path}?wait=20")))
        return shown["status"] in ("completed", "failed")

    until("the transcript", is_over)
    return shown["status"], (shown["result"] or {}).get("text", "")


def main():
    program = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/echo-server")
    if os.geteuid() != 0 or not shutil.which("buildah") or not shutil.which("debootstrap"):
        print("skipped: needs root and Debian's packages buildah and debootstrap")
        return
    WORK.mkdir(parents=True, exist_ok=True)
    ensure_base()
    build(program)
    models = os.environ.get("ECHO_TEST_STORE")
    container = Container(models)
    try:
        until("the health check", container.is_healthy)
        assert container.user() == ["10001"] * 4, container.user()
        for place in ["/x", "/usr/local/bin/echo-server", "/etc/x"]:
            assert container.inside("touch", place, user="0:0") != 0, f"{place} can be written"
        assert container.inside("touch", "/data/x") == 0, "/data cannot be written"
        print(f"healthy, user {container.user()[0]}, read-only root")
        if models:
            status, text = transcribe(container.port)
            assert status == "completed" and len(text) > 20, (status, text)
            print(f"transcribed: {text[:60]}…")
        print(f"stopped after {container.stop():.1f} s of {GRACE_SECONDS} s")
    finally:
        container.remove()


if __name__ == "__main__":
    main()
