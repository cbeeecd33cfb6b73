"""The command and its server: bad requests leave nothing behind, slow clients are dropped, SIGTERM loses no answer."""

from __future__ import annotations

import asyncio
import http.client
import json
import mmap
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from scrfd_trt import SCRFDDetector
from scrfd_trt.service import create_app

pytestmark = pytest.mark.slow
for name in ("fastapi", "prometheus_client"):
    pytest.importorskip(name)
sys.path.append(str(Path(__file__).parents[1] / "cli"))
import spot_network  # noqa: E402

linux = pytest.mark.skipif(sys.platform != "linux", reason="several processes need Linux")
IMAGE = cv2.imencode(".jpg", np.full((120, 160, 3), 255, np.uint8))[1].tobytes()
FORM = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nb\r\n--x--\r\n'


def left() -> tuple[int, int]:
    """Return the number of threads and of open files, the latter on Linux."""
    folder = Path("/proc/self/fd")
    return threading.active_count(), len(list(folder.iterdir())) if folder.exists() else 0


def exchange(port: int, data: bytes) -> int:
    """Send bytes, and return the status of the answer; 0 if the connection is only closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        return answer.status


def request(body: bytes = IMAGE, path: str = "/v1/detect", kind: str = "image/jpeg") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def served(monkeypatch) -> Iterator[tuple[int, Any]]:
    """A service in this process, with little patience; its port and its state."""
    from scrfd_trt._web import guard

    monkeypatch.setattr(guard, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(guard.Guard, "grace", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    with SCRFDDetector.from_backend(spot_network.SpotBackend(), scales=[(160, 128)]) as detector:
        app = create_app(detector)
        server = guard.new_server(app, 1)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1], app.service
        server.should_exit = True
        thread.join()


def test_bad_requests_leave_nothing_behind(served) -> None:
    port, service = served
    rng = random.Random(3)
    samples = [
        request(),
        request(b'{"images": ["aGFsbG8="], "threshold": 0.5}', kind="application/json"),
        request(b'{"images": {"data": ["aGFsbG8="]}}', "/extract", "application/json"),
        request(FORM, kind="multipart/form-data; boundary=x"),
        request(path="/v1/overlay/blur?strength=0.5"),
    ]
    assert exchange(port, samples[0]) == 200
    before = left()
    found: Counter[int] = Counter()
    for _ in range(400):
        data = bytearray(rng.choice(samples))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 4))] = rng.randbytes(rng.choice((0, 1, 4)))
        found[exchange(port, bytes(data) + b"\r\n" * 8)] += 1
    assert all(status < 500 for status in found), found
    assert found[200] + found[422] + found[400] > 200, found
    end = time.monotonic() + 60

    def is_clean() -> bool:
        threads, files = left()
        used = service.in_work, service.room.used
        return used == (0, 0) and threads <= before[0] + 8 and files <= before[1] + 4

    while not is_clean() and time.monotonic() < end:
        time.sleep(0.01)  # of a connection that was closed
    assert is_clean(), (service.in_work, service.room.used, before, left())


def test_slow_clients_and_large_heads_are_dropped(served) -> None:
    port, service = served
    slow = []
    for start in (b"", b"POST /v1/det", request()[:-50], request().replace(b"connection: close\r\n", b"")):
        slow.append(socket.create_connection(("127.0.0.1", port), timeout=60))
        slow[-1].sendall(start)  # at once, as there is little time
    assert slow[3].recv(12) == b"HTTP/1.1 200"
    slow[3].sendall(b"POST ")  # the next request of a connection begins, too
    for _ in range(30):
        for connection in slow[1:]:
            with suppress(OSError):
                connection.sendall(b"a")
        time.sleep(0.05)
    for connection in slow:
        with suppress(ConnectionError), connection:
            while connection.recv(1 << 16):
                pass
    assert exchange(port, b"GET / HTTP/1.1\r\nx: " + b"a" * (1 << 20)) in {0, 400}
    assert exchange(port, request()) == 200
    assert service.in_work == 0


def children(pid: int) -> list[int]:
    """Return the processes of a service that receive."""
    found = []
    for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):  # it has just ended
            if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes():
                found.append(int(each))
    return found


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=linux)])
def test_sigterm_under_load_loses_no_answer(popen, processes: int) -> None:
    """Of several processes, one dies before, and is replaced; requests that it has then are not answered."""
    command = [sys.executable, str(Path(spot_network.__file__)), "0.02", "serve", "--port", "0", "--scale", "160x128"]
    command += ["--processes", str(processes)]
    found: Counter[Any] = Counter()
    is_ending = threading.Event()

    def send() -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
            try:
                connection.connect()
            except OSError:
                return
            with suppress(ConnectionError, http.client.HTTPException), closing(connection):
                while True:
                    connection.request("POST", "/v1/detect", IMAGE)
                    answer = connection.getresponse()
                    assert json.loads(answer.read())["faces"]
                    found[answer.status] += 1
            if is_ending.is_set():
                return
            found["lost"] += 1

    def wait_for_answers() -> None:
        before = found[200]
        while found[200] < before + 16 and process.poll() is None:
            time.sleep(0.02)

    with popen(command, stderr=PIPE) as process:
        port = int(re.search(r"http://127.0.0.1:(\d+)", process.stderr.readline())[1])
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for_answers()
        if processes > 1:
            first = children(process.pid)
            os.kill(first[0], signal.SIGKILL)
            while process.poll() is None and not {*children(process.pid)} - {*first}:
                time.sleep(0.02)
            wait_for_answers()
            before = found[200]
            with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                metrics = answer.read().decode()
            counted = float(re.search(r'requests_total{route="/v1/detect",status="200"} (\S+)', metrics)[1])
            assert before - 8 - found["lost"] <= counted <= found[200] + 8 + found["lost"]
        is_ending.set()
        process.send_signal(signal.SIGTERM)
        lines = process.stderr.read().splitlines()
        for thread in threads:
            thread.join()
        assert process.wait() == 0
    logged = [json.loads(line) for line in lines]
    messages = [line["message"] for line in logged if "message" in line]
    assert messages == ["a process of the service ended with SIGKILL; another one is started"] * (processes - 1)
    statuses = Counter(line["status"] for line in logged if line.get("path") == "/v1/detect")
    assert set(statuses) == {200}
    assert statuses[200] == pytest.approx(found[200], abs=found["lost"])
    assert found["lost"] <= 8 * (processes - 1)
    assert statuses[200] >= 16


FRONT = """
import fcntl, random, sys, time
from types import SimpleNamespace
from fastapi import HTTPException
from scrfd_trt.service import ServiceOptions
from scrfd_trt.service._app import Service
from scrfd_trt.service._metrics import Metrics
from scrfd_trt.service._processes import Memory

file, row, left = map(int, sys.argv[1:])
in_work = Service.in_work.fget


def seen(self):
    found = in_work(self)
    time.sleep(random.random() / 500)  # in which the others count theirs
    return found


Service.in_work = property(seen)
engine = SimpleNamespace(batches=SimpleNamespace(capacity=1), room=None)
service = Service(engine, Metrics(), ServiceOptions(max_queue=1), Memory(file, 3).fronts, row)
print("ready", flush=True)
sys.stdin.readline()
while left:
    try:
        with service.admitted(1):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(0.002)
            fcntl.lockf(file, fcntl.LOCK_UN)
            left -= 1
    except HTTPException as refusal:
        assert refusal.status_code == 429
        time.sleep(random.random() / 100)
"""


@linux
def test_the_queue_is_bounded_over_all_processes(popen) -> None:
    """Within a queue of one image, no process finds the lock of another one."""
    from scrfd_trt.service._processes import STATE_BYTES, Memory

    file = os.memfd_create("test")
    os.ftruncate(file, STATE_BYTES)
    how = {"stdin": PIPE, "stdout": PIPE, "pass_fds": [file]}
    with ExitStack() as stack:
        fronts = [
            stack.enter_context(popen([sys.executable, "-c", FRONT, str(file), str(row), "20"], **how))
            for row in range(3)
        ]
        for front in fronts:
            assert front.stdout.readline() == "ready\n"
        for front in fronts:
            front.stdin.write("\n")
            front.stdin.flush()
        assert [front.wait() for front in fronts] == [0] * 3
    assert not Memory(file, 3).fronts.any()
    os.close(file)


async def turns() -> None:
    """Let messages arrive, and what they cause be done."""
    for _ in range(5):
        await asyncio.sleep(0.001)


@linux
def test_fronts_share_the_detector_of_an_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image has its own faces, also where others are given up, and nothing of these is kept."""
    from scrfd_trt._image_files import ImageFrame
    from scrfd_trt.errors import ClosedError
    from scrfd_trt.service import ServiceOptions, _processes

    rng = random.Random(5)

    async def ask(front: Any, left: int) -> None:
        image = np.zeros((120, 160, 3), np.uint8)
        image[30:70, left : left + 30] = 255
        job = asyncio.ensure_future(asyncio.to_thread(front.take, image.size, image.size))
        try:
            taken = await asyncio.shield(job)
        except asyncio.CancelledError:
            job.add_done_callback(lambda job: front.give(job.result()))
            raise
        try:
            frame, shared = front.put(taken, ImageFrame(image))
            assert not frame.pixels.flags.writeable
            (face,) = await front.detect(shared, None)
            assert round(face.box[0]) == left
        finally:
            front.give(taken)

    async def give_up(request: asyncio.Task[None]) -> None:
        await asyncio.sleep(rng.random() / 50)
        request.cancel()

    async def use(detector: SCRFDDetector) -> None:
        about = _processes.Fronts(2, [], ServiceOptions(max_pixels=1), "", None, log_requests=False)
        owner = _processes.Owner(detector, about, 4 * 120 * 160 * 3)
        owner._arena = _processes.Arena(owner._memory, owner._limit)
        fronts, links = [], []
        for number in range(2):
            here, there = socket.socketpair()
            link = _processes._Front(number, None)
            link.link = _processes.Link(partial(owner._receive, link), lambda: None)
            await asyncio.get_running_loop().create_connection(lambda link=link: link.link, sock=here)
            fronts.append(_processes.RemoteEngine(there, owner._memory, owner._facts, int))
            await fronts[-1].start()
            links.append(link)
        requests = [asyncio.create_task(ask(front, rng.randrange(120))) for front in fronts for _ in range(40)]
        await asyncio.gather(*map(give_up, requests[::4]), *requests, return_exceptions=True)
        assert [each for each in requests if not each.cancelled() and each.exception()] == []
        assert sum(not each.cancelled() for each in requests) >= 60
        backend.seconds = 0.1
        for wait in (partial(asyncio.sleep, 0), turns):  # given up before, and while the owner runs it
            taken = await asyncio.to_thread(fronts[0].take, 300, 300)
            _, shared = fronts[0].put(taken, ImageFrame(np.zeros((10, 10, 3), np.uint8)))
            request = asyncio.create_task(fronts[0].detect(shared, None))
            await wait()
            request.cancel()
            fronts[0].give(taken)
        end = time.monotonic() + 60
        while (owner._arena.used or any(each.held for each in links)) and time.monotonic() < end:
            await turns()  # of the last batch
        assert (owner._arena.used, [each.held for each in links]) == (0, [{}] * 2)
        assert [each.runs for each in links] == [{}] * 2
        assert [each._waiting for each in fronts] == [{}] * 2
        owner._publish()
        assert not fronts[0].state().is_broken
        monkeypatch.setattr(_processes, "HUNG_SECONDS", -1.0)
        assert fronts[0].state().is_broken  # the owner hangs
        taken = await asyncio.to_thread(fronts[0].take, 9, 9)
        links[0].link._transport.abort()
        await turns()
        with pytest.raises(ClosedError):
            await fronts[0].detect((taken[0], (3, 3)), None)
        links[1].link._transport.abort()
        await turns()
        os.close(owner._file)

    backend = spot_network.SpotBackend(0.002)
    with SCRFDDetector.from_backend(backend, scales=[(160, 128)]) as detector:
        asyncio.run(use(detector))


@linux
def test_pixels_have_places_in_shared_memory() -> None:
    from scrfd_trt.service._processes import STATE_BYTES, Arena, Memory

    page, granted = mmap.PAGESIZE, dict[str, Any]()

    async def use() -> None:
        file = os.memfd_create("test")
        os.ftruncate(file, STATE_BYTES + 8 * page)
        arena = Arena(Memory(file, 2), 6 * page)
        os.close(file)

        def take(name: str, pages: int) -> None:
            arena.take(pages * page, pages * page - 1, lambda place, pixels: granted.update({name: (place, pixels)}))

        async def drop(name: str) -> None:
            del granted[name]
            for _ in range(3):
                await asyncio.sleep(0)

        for name, pages in (("a", 1), ("b", 2), ("c", 3), ("large", 7), ("d", 1)):
            take(name, pages)
        assert {name: place for name, (place, _) in granted.items()} == {"a": 0, "b": page, "c": 3 * page}
        part = granted["b"][1][:100].reshape(10, 10)
        await drop("b")
        assert arena.used == 6 * page  # a batch may still read it
        del part
        await drop("a")
        assert arena.used == 3 * page
        await drop("c")
        assert (granted["large"][0], arena.used) == (0, 7 * page)  # alone, and before those that came later
        await drop("large")
        assert (granted.pop("d")[0], arena.used) == (0, page)

    asyncio.run(use())
