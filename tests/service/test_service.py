"""The routes of the service: forms of requests, answers, refusals and limits; the model is a stand-in."""

from __future__ import annotations

import base64
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from scrfd_trt import SCRFDDetector
from scrfd_trt.errors import BackendError, MissingDependencyError, OptionError
from scrfd_trt.service import ServiceOptions, create_app

requests = pytest.importorskip("requests")
sys.path.append(str(Path(__file__).parents[1] / "cli"))
import spot_network  # noqa: E402

JSON = {"content-type": "application/json"}


def picture(left: int = 40, suffix: str = ".png") -> bytes:
    """Return an image file of 160×120 pixels with a white spot, whose box begins at ``left``."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[30:70, left : left + 30] = 255
    return cv2.imencode(suffix, image)[1].tobytes()


def base64_of(content: bytes) -> str:
    """Return the content of a file in base64."""
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def detector() -> Iterator[SCRFDDetector]:
    """A detector with the stand-in."""
    with SCRFDDetector.from_backend(spot_network.SpotBackend(), scales=[(160, 128)]) as opened:
        yield opened


class Client:
    """Sends requests to a service that listens on this machine."""

    def __init__(self, app: Any) -> None:
        from scrfd_trt._web.guard import new_server

        self.app, listener = app, socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.server = new_server(app, 1, web_sockets=False)
        self.thread = threading.Thread(target=self.server.run, args=([listener],))
        self.thread.start()

    def get(self, path: str) -> Any:
        return requests.get(self.address + path, timeout=120)

    def post(self, path: str, content: bytes | None = None, **request: Any) -> Any:
        return requests.post(self.address + path, data=content, timeout=120, **request)

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(120)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Client]]:
    """The services that run, by their options."""
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    clients: dict[str, Client] = {}
    yield clients
    for client in clients.values():
        client.server.should_exit = True
    for client in clients.values():
        client.close()


@pytest.fixture
def new_client(detector, started) -> Callable[..., Client]:
    """Return a client of a service with options, which runs already or is started."""

    def start(served: SCRFDDetector = detector, **options: Any) -> Client:
        key = repr((id(served), options, ServiceOptions().api_keys))
        if key not in started:
            started[key] = Client(create_app(served, ServiceOptions(**options), model="spot"))
        return started[key]

    return start


@pytest.fixture
def client(new_client) -> Any:
    """A client of a service with the default options."""
    return new_client()


IMAGE = picture()


def test_one_image_in_each_form(client, detector) -> None:
    expected = detector.detect(IMAGE).to_dicts()
    assert len(expected) == 1
    answers = [
        client.post("/v1/detect", files={"anything": IMAGE}),
        client.post("/v1/detect", content=IMAGE),
        client.post("/v1/detect", content=IMAGE, headers={"content-type": "application/x-www-form-urlencoded"}),
        client.post("/v1/detect", json={"image": base64_of(IMAGE)}),
        client.post("/v1/detect", json={"image": f"data:image/png;base64,{base64_of(IMAGE)}"}),
    ]
    for answer in answers:
        assert answer.json() == {"image_size": [160, 120], "faces": expected}
        assert answer.headers["cache-control"] == "no-store"


def test_several_images_have_results_and_errors_in_their_places(client) -> None:
    files = [("a", picture(20)), ("b", b"words"), ("c", picture(60))]
    for answer in (
        client.post("/v1/detect", files=files),
        client.post("/v1/detect", json={"images": [base64_of(content) for _, content in files]}),
    ):
        first, error, third = answer.json()["results"]
        assert [round(found["faces"][0]["box"][0]) for found in (first, third)] == [20, 60]
        assert error["error"]["status"] == 422
        assert error["error"]["detail"].startswith("not a supported image")


def test_limits_of_a_request_do_not_change_others(client) -> None:
    """Images with different thresholds, sent at the same time, have their own results."""
    queries = [{"threshold": 0.9}, {}, {"threshold": 0.8, "max_faces": 1}] * 4
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda query: client.post("/v1/detect", params=query, content=IMAGE), queries))
    assert [len(answer.json()["faces"]) for answer in answers] == [0, 1, 1] * 4
    body = {"image": base64_of(IMAGE), "threshold": 0.9}
    assert client.post("/v1/detect?threshold=0.1", json=body).json()["faces"] == []


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (422, {"content": b"words"}),
        (422, {"content": IMAGE[:60]}),
        (422, {}),
        (422, {"content": b"{}", "headers": JSON}),
        (422, {"content": b"{", "headers": JSON}),
        (422, {"content": b'{"image": 5}', "headers": JSON}),
        (422, {"content": b'{"path": "/etc/hostname"}', "headers": JSON}),
        (422, {"content": b'{"image": "/etc/hostname"}', "headers": JSON}),
        (422, {"content": b'{"images": []}', "headers": JSON}),
        (422, {"content": b'{"image": "\xff"}', "headers": JSON}),
        (403, {"content": b'{"url": "https://example.com/a.jpg"}', "headers": JSON}),
        (400, {"content": b"--x\r\n\r\n--x--", "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (422, {"files": {"a": ("", b"")}}),
        (400, {"content": b"--y\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (400, {"content": b"", "headers": {"content-type": "multipart/form-data"}}),
        (422, {"content": IMAGE, "params": {"threshold": "2"}}),
        (422, {"content": IMAGE, "params": {"max_faces": "0"}}),
        (413, {"content": b"a" * 3000}),
        (413, {"json": {"images": [""] * 5}}),
    ],
)
def test_bad_requests_are_refused(new_client, status: int, request_: dict[str, Any]) -> None:
    client = new_client(max_bytes=2048, max_images=4)
    answer = client.post("/v1/detect", **request_)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_bomb_is_refused_by_its_header(new_client) -> None:
    bomb = cv2.imencode(".png", np.zeros((500, 500), np.uint8))[1].tobytes()
    answer = new_client(max_pixels=200_000).post("/v1/detect", content=bomb)
    assert answer.status_code == 413
    assert answer.json() == {"detail": "the image has 500×500 pixels, more than 0.2 million: make it smaller"}


def test_overlay_draws_and_names_no_files(client) -> None:
    answer = client.post("/v1/overlay/solid", params={"fill": "#ff0000", "format": "png"}, content=IMAGE)
    assert (answer.headers["content-type"], answer.headers["x-faces"]) == ("image/png", "1")
    drawn = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert drawn[50, 55].tolist() == [0, 0, 255]
    assert drawn[5, 5].tolist() == [0, 0, 0]
    assert client.post("/v1/overlay/skull", files={"image": IMAGE}).content[:2] == b"\xff\xd8"
    for name, query, status in (
        ("skull", {"image": "/etc/hostname"}, 422),
        ("image", {"picture": "/etc/hostname"}, 404),
        ("nope", {}, 404),
        ("solid", {"fill": "nocolour"}, 422),
        ("solid", {"nothing": "1"}, 422),
        ("solid", [("fill", "red"), ("fill", "blue")], 422),
    ):
        assert client.post(f"/v1/overlay/{name}", params=query, content=IMAGE).status_code == status
    assert client.post("/v1/overlay/blur", json={"images": [base64_of(IMAGE)] * 2}).status_code == 422


def test_keys_are_required_except_for_probes(new_client, monkeypatch) -> None:
    monkeypatch.setenv("SCRFD_TRT_API_KEYS", "one, two")
    assert "two" not in repr(ServiceOptions())
    client = new_client()
    for headers in ({}, {"x-api-key": "three"}, {"authorization": "Bearer"}, {"authorization": "Basic two"}):
        answer = client.post("/v1/detect", content=IMAGE, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    for headers in ({"x-api-key": "one"}, {"authorization": "bearer two"}):
        assert client.post("/v1/detect", content=IMAGE, headers=headers).status_code == 200
    assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics", "/v1/models")] == [200] * 3 + [
        401
    ]


def test_models_and_metrics(new_client) -> None:
    client = new_client(timeout=29)
    client.post("/v1/detect", content=IMAGE)
    client.post("/v1/detect", content=b"words")
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["name"], model["device"], model["threshold"]) == ("spot", "cpu", 0.5)
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'scrfd_requests_total{route="/v1/detect",status="200"} 1.0',
        'scrfd_requests_total{route="/v1/detect",status="422"} 1.0',
        "scrfd_batch_images_count 1.0",
        "scrfd_faces_total 1.0",
        "scrfd_images_in_work 0.0",
        "scrfd_image_bytes 0.0",
    ):
        assert line in lines
    assert any(line.startswith("scrfd_detector_busy_seconds ") for line in lines)


def test_openapi_has_each_form_and_examples(client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    content = paths["/v1/detect"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "application/json", "image/jpeg"} <= set(content)
    example = content["application/json"]["examples"]["several"]["value"]
    assert len(client.post("/v1/detect", json=example).json()["results"]) == 2
    assert "429" in paths["/v1/overlay/{name}"]["post"]["responses"]


class SlowBackend(spot_network.SpotBackend):
    """Waits before each run until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.sizes = threading.Event(), []

    def run(self, blob: Any) -> Any:
        assert self.go.wait(120)
        self.sizes.append(len(blob))
        return super().run(blob)


def wait_for(what: Any) -> None:
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_queue_is_bounded_and_shares_batches(new_client, monkeypatch) -> None:
    monkeypatch.setattr("scrfd_trt.service._batches.usable_cores", lambda: 4)
    backend = SlowBackend()
    with SCRFDDetector.from_backend(backend, scales=[(160, 128)]) as detector, ThreadPoolExecutor(8) as threads:
        client = new_client(detector, max_queue=6)
        service = client.app.service
        sent = [threads.submit(client.post, "/v1/detect", content=IMAGE) for _ in range(6)]
        wait_for(lambda: service.in_work == 6 and len(service.batches._waiting) == 4)
        refused = client.post("/v1/detect", content=IMAGE)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/readyz").status_code == 200  # so that Kubernetes does not move its requests to busier pods
        backend.go.set()
        assert [each.result().status_code for each in sent] == [200] * 6
        assert sorted(backend.sizes) == [1, 1, 4]


def test_request_that_takes_too_long_leaves_the_queue(new_client) -> None:
    backend = SlowBackend()
    with SCRFDDetector.from_backend(backend, scales=[(160, 128)]) as detector:
        client = new_client(detector, timeout=0.1)
        service = client.app.service
        for _ in range(4):
            answer = client.post("/v1/detect", content=IMAGE)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert service.in_work == 0
        backend.go.set()
        wait_for(lambda: not service.batches._runs)
        assert len(backend.sizes) <= 2  # those that waited for the detector were dropped
        wait_for(lambda: service.room.used == 0)  # images may be decoded after the time-out


def test_failed_run_concerns_one_image(new_client, monkeypatch) -> None:
    monkeypatch.setattr("scrfd_trt.service._batches.usable_cores", lambda: 8)

    class Failing(SlowBackend):
        def run(self, blob: Any) -> Any:
            found = super().run(blob)
            if (blob > 0.9).mean(axis=(1, 2, 3)).max() > 0.5:
                raise BackendError("a GPU error with a /secret/path")
            return found

    white = cv2.imencode(".png", np.full((120, 160, 3), 255, np.uint8))[1].tobytes()
    backend = Failing()
    with SCRFDDetector.from_backend(backend, scales=[(160, 128)]) as detector, ThreadPoolExecutor(8) as threads:
        client = new_client(detector)
        sent = [threads.submit(client.post, "/v1/detect", content=each) for each in (IMAGE, IMAGE, IMAGE, white, IMAGE)]
        wait_for(lambda: client.app.service.in_work == 5)
        backend.go.set()
        assert [each.result().status_code for each in sent] == [200, 200, 200, 500, 200]
        assert sent[3].result().json() == {"detail": "the detector failed"}
        assert client.get("/healthz").status_code == 200
        for _ in range(3):
            client.post("/v1/detect", content=white)
        assert client.get("/healthz").status_code == 503


def test_images_wait_for_memory_in_turn(new_client, monkeypatch) -> None:
    monkeypatch.setattr("scrfd_trt.service._app.MAX_DECODED", 100_000)
    client = new_client()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.post("/v1/detect", content=IMAGE), range(24)))
    assert [answer.status_code for answer in answers] == [200] * 24
    assert client.app.service.room.used == 0


def test_extract_of_insightface_rest(client, detector) -> None:
    images = {"data": [base64_of(IMAGE), "???"]}
    body = {"images": images, "return_landmarks": True, "return_face_data": True, "threshold": 0.3, "api_ver": "2"}
    answer = client.post("/extract", json=body).json()
    (face,) = answer["data"][0]["faces"]
    found = detector.detect(IMAGE)
    assert face["bbox"] == found.boxes[0].astype(int).tolist()
    assert face["landmarks"] == found.landmarks[0].astype(int).tolist()
    assert (face["prob"], face["size"], face["num_det"]) == (0.875, 30, 0)
    assert face["facedata"]
    assert answer["took"]["total_ms"] > 0
    assert {key: answer["data"][1][key] for key in ("status", "faces")} == {"status": "failed", "faces": []}
    assert client.post("/extract", json={"images": images, "min_face_size": 31}).json()["data"][0]["faces"] == []
    for wrong in ({"extract_embedding": True}, {"msgpack": True}, {"img_req_headers": {"a": "b"}}):
        answer = client.post("/extract", json={"images": images, **wrong})
        assert answer.status_code == 422
        assert next(iter(wrong)) in answer.json()["detail"]


def test_log_has_one_json_line_a_request(client, monkeypatch) -> None:
    from scrfd_trt.service._metrics import JsonLines

    logger, out = logging.getLogger("scrfd_trt.service"), StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines())
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()
    client.post("/v1/detect?secret=1", content=IMAGE)
    client.get("/healthz")
    (line,) = map(json.loads, out.getvalue().splitlines())
    expected = {"level": "info", "method": "POST", "path": "/v1/detect", "status": 200, "images": 1, "faces": 1}
    assert line | expected == line
    assert "secret" not in out.getvalue()


def test_failed_import_is_named(detector: SCRFDDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "scrfd_trt.service._app", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingDependencyError, match=r"needs FastAPI \(.*prometheus_client.*\): .*pip install"):
        create_app(detector)


def test_unexpected_error_is_answered_and_logged(detector: SCRFDDetector, monkeypatch, caplog) -> None:
    app = create_app(detector)
    monkeypatch.setattr(app.service, "check_room", lambda: 1 / 0)
    client = Client(app)
    answer = client.post("/v1/detect", content=IMAGE)
    client.close()
    assert (answer.status_code, answer.json()) == (500, {"detail": "the request failed"})
    assert "the request failed: ZeroDivisionError: division by zero" in caplog.messages


def test_invalid_options() -> None:
    with pytest.raises(OptionError, match="max_queue: must be at least 1"):
        ServiceOptions(max_queue=0)


def test_the_service_needs_no_package_of_the_studio(detector: SCRFDDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    from scrfd_trt.service import _app

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    app.service = SimpleNamespace(options=ServiceOptions())
    for name in ("wsproto", "uvicorn.protocols.websockets.wsproto_impl"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(_app, "LOGGERS", {})
    loaded = []
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: loaded.append(self.config.load()))
    monkeypatch.setattr(_app, "stop_on_hangup", lambda: None)
    monkeypatch.setattr(_app, "build_app", lambda *arguments, **options: app)
    _app.serve(detector, [], ServiceOptions(), model="500m_bnkps")
    assert loaded
