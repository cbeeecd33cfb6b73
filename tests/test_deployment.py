"""The files in ``deploy/`` agree with each other, and with the commands, options, extras and routes that they name."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scrfd_trt import SCRFDDetector
from scrfd_trt._cli.application import COMMANDS, load_command
from scrfd_trt.backends import RecordedBackend
from scrfd_trt.service import create_app

pytestmark = pytest.mark.slow
PORT = "8000"


@pytest.fixture(scope="module")
def dockerfile(root: Path) -> str:
    return (root / "deploy/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((root / "deploy/compose.yaml").read_text())["services"])


def kubernetes(root: Path, name: str) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all((root / f"deploy/kubernetes/{name}.yaml").read_text())}


def command_lines(root: Path, dockerfile: str, compose: dict[str, Any]) -> Iterator[list[str]]:
    """Yield what follows ``scrfd-trt`` in each file, and in the page about them."""
    (default,) = re.findall(r"^CMD (.*)", dockerfile, re.MULTILINE)
    yield json.loads(default)
    yield from (service["command"] for service in compose.values())
    pod = kubernetes(root, "serve")["Deployment"]["spec"]["template"]["spec"]
    yield pod["containers"][0]["command"][1:]
    yield shlex.split(kubernetes(root, "batch")["RayJob"]["spec"]["entrypoint"])[1:]
    page = (root / "docs/how-to/deployment.md").read_text(encoding="utf-8")
    for line in re.findall(r"(?:^|`)(?:docker run .*)?\bscrfd-trt ([a-z]+ [^`\n]*)", page, re.MULTILINE):
        yield shlex.split(line, comments=True)


def test_each_command_and_option_exists(root: Path, dockerfile: str, compose: dict[str, Any]) -> None:
    lines = list(command_lines(root, dockerfile, compose))
    assert {"serve", "batch", "export", "detect"} <= {name for name, *_ in lines}
    for name, *words in lines:
        assert name in COMMANDS
        load_command(name).make_context(name, words)  # reads all words, and runs nothing


def test_all_name_one_port(root: Path, dockerfile: str, compose: dict[str, Any]) -> None:
    serving = [line for line in command_lines(root, dockerfile, compose) if line[0] == "serve" and len(line) > 1]
    assert len(serving) == 4
    assert {line[line.index("--port") + 1] for line in serving} == {PORT}
    assert {line[line.index("--host") + 1] for line in serving} == {"0.0.0.0"}
    assert re.findall(r"^EXPOSE (\d+)", dockerfile, re.MULTILINE) == [PORT]
    assert f"http://127.0.0.1:{PORT}/healthz" in dockerfile
    assert {port for service in compose.values() for port in service["ports"]} == {f"127.0.0.1:{PORT}:{PORT}"}
    files = kubernetes(root, "serve")
    container = files["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["ports"] == [
        {"name": files["Service"]["spec"]["ports"][0]["targetPort"], "containerPort": int(PORT)}
    ]


def test_probes_ask_routes_of_the_service(root: Path) -> None:
    pytest.importorskip("fastapi")
    container = kubernetes(root, "serve")["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    assert [probe["port"] for probe in probes] == ["http"] * 3
    asked = {probe["path"]: 200 for probe in probes}
    page = (root / "docs/how-to/deployment.md").read_text(encoding="utf-8")
    posted = re.findall(rf"curl -F .*localhost:{PORT}(/\S+)", page)
    assert (sorted(asked), posted) == (["/healthz", "/readyz"], ["/v1/detect"])
    with SCRFDDetector.from_backend(RecordedBackend(root / "tests/data/recorded/500m_fp16.npz")) as detector:
        app = create_app(detector)
        found = {path: asyncio.run(status(app, path)) for path in (*asked, *posted)}
    assert found == {**asked, "/v1/detect": 405}  # which takes POST


async def status(app: Any, path: str) -> int:
    """Return the status of GET."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "raw_path": path.encode()}
    scope |= {"headers": [], "query_string": b"", "scheme": "http", "server": ("127.0.0.1", 80), "client": None}
    await app(scope, receive, send)
    return int(sent[0]["status"])


def test_extras_and_volumes_exist(root: Path, dockerfile: str, compose: dict[str, Any]) -> None:
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)", dockerfile, re.MULTILINE)
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in [*extras.split(","), "cuda"])
    (folder,) = re.findall(r"SCRFD_TRT_HOME=(\S+)", dockerfile)
    assert re.findall(r"^VOLUME (.*)", dockerfile, re.MULTILINE) == [folder]
    assert {volume for service in compose.values() for volume in service["volumes"]} == {f"cache:{folder}"}
    claim = kubernetes(root, "cache")["PersistentVolumeClaim"]["metadata"]["name"]
    serving = kubernetes(root, "serve")["Deployment"]["spec"]["template"]["spec"]
    workers = kubernetes(root, "batch")["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    for pod in (serving, *(group["template"]["spec"] for group in workers)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        (cache,) = (each for each in pod["volumes"] if each.get("persistentVolumeClaim") == {"claimName": claim})
        assert {"name": cache["name"], "mountPath": folder} in pod["containers"][0]["volumeMounts"]


def test_the_build_context_has_all_that_the_image_copies(root: Path, dockerfile: str) -> None:
    kept = [line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.*)", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (root / source).exists()
            assert source.partition("/")[0] in kept
