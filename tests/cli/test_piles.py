"""Many images at a time: order, failures that cost themselves only, memory, and interrupts."""

from __future__ import annotations

import _thread
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from scrfd_trt._cli import outputs, results
from scrfd_trt._formats import json_faces
from scrfd_trt._image_files import ImageFile, ImageFrame, open_image
from scrfd_trt._jobs import decoders, images
from scrfd_trt._jobs.processes import forked
from scrfd_trt.errors import BackendError

pytestmark = pytest.mark.usefixtures("spots", "known_overlays")
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def spot(number: int) -> NDArray[np.uint8]:
    """An image of its own size with a face of its own place."""
    image = np.random.default_rng(number).integers(60, 120, (90 + number, 120 + 2 * number, 3)).astype(np.uint8)
    image[20:60, 10 + number : 50 + number] = 255
    return image


def pile(count: int, suffix: str = ".png") -> list[Path]:
    """Write images ``in/00.png`` and so on."""
    Path("in").mkdir()
    paths = [Path("in", f"{number:02}{suffix}") for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(cv2.imencode(suffix, spot(number))[1].tobytes())
    return paths


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def job_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("scrfd-trt-job")]


def test_results_are_those_of_each_image_alone(run: Run) -> None:
    paths = pile(14, ".jpg")
    data = paths[5].read_bytes()
    paths[5].write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 100 :])
    paths[6].write_bytes(data[: len(data) // 2])
    paths[7].write_text("no image")
    pages = [Image.fromarray(spot(number)) for number in range(3)]
    pages[0].save("in/08.tif", save_all=True, append_images=pages[1:])
    Path("in/09.png").write_bytes(cv2.imencode(".png", np.zeros((1, 9000, 3), np.uint8))[1].tobytes())
    inputs = sorted(Path("in").iterdir())
    alone = [run("detect", path, "-f", "jsonl", "--damaged", "keep") for path in inputs]
    for options in ((), ("--workers", "1", "--batch", "3"), ("--workers", "7", "--batch", "1")):
        ran = run("detect", "in", "-f", "jsonl", "--damaged", "keep", *options)
        assert ran.code == 1
        assert ran.out == "".join(
            one.out or json.dumps({"image": str(path), "error": one.error.removeprefix(f"{path}: ")}) + "\n"
            for path, one in zip(inputs, alone, strict=True)
        )
        warned = [line for one in alone for line in one.err.splitlines() if line.startswith("warning")]
        assert [line for line in ran.err.splitlines() if line.startswith("warning")] == warned
        assert len(warned) == 4
        assert "error: 1 of 16 inputs failed, the others succeeded:\n- in/07.jpg: not a supported image" in ran.err
    assert not job_threads()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_processes_give_the_same_results(run: Run, spot_network: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = pile(20, ".jpg")
    data = paths[5].read_bytes()
    paths[5].write_bytes(data[: len(data) // 2] + data[len(data) // 2 + 100 :])
    paths[6].write_bytes(data[: len(data) // 2])
    pages = [Image.fromarray(spot(number)) for number in range(3)]
    pages[0].save("in/08.tif", save_all=True, append_images=pages[1:])
    Path("in/09.png").write_bytes(cv2.imencode(".png", np.zeros((1, 9000, 3), np.uint8))[1].tobytes())
    large = np.zeros((500, 400, 3), np.uint8)
    large[100:200, 100:200] = 255
    Path("in/10.png").write_bytes(cv2.imencode(".png", large)[1].tobytes())
    threads = run("detect", "in", "-f", "jsonl")
    forks = []

    def fork(*arguments: Any) -> Any:
        forks.append(arguments)
        return forked(*arguments)

    monkeypatch.setattr(decoders, "forked", fork)
    monkeypatch.setattr(decoders, "MIN_TO_FORK", 2)
    monkeypatch.setattr(decoders, "MAX_SLOT", 100_000)  # less than the largest
    for module in (images, decoders):
        monkeypatch.setattr(module, "MAX_BYTES", 600_000)  # some ten images
    with monkeypatch.context() as patch:
        written = Mock(side_effect=json_faces)
        patch.setattr(results, "json_faces", written)
        assert run("detect", "in", "-f", "jsonl", "--workers", "6") == threads
    assert written.call_count == 5  # three pages, the narrow image and the large one; processes write the other rows
    assert len(forks) == 1
    assert not multiprocessing.active_children()
    killed = threading.Event()
    run_model = spot_network.SpotBackend.run

    def kill(self: Any, blob: NDArray[np.float32]) -> Any:
        if not killed.is_set():
            killed.set()
            for number in (signal.SIGSTOP, signal.SIGKILL):  # all end at once
                for process in multiprocessing.active_children()[:3]:
                    os.kill(process.pid or 0, number)
        return run_model(self, blob)

    monkeypatch.setattr(spot_network.SpotBackend, "run", kill)
    ran = run("detect", "in", "-f", "jsonl", "--workers", "6")
    warning, _, rest = ran.err.partition("\n")
    assert warning == "warning: a process that decodes images ended with SIGKILL; the job goes on without it"
    assert (ran.code, ran.out, rest) == (threads.code, threads.out, threads.err)
    assert killed.is_set()
    assert not job_threads()
    paths[0].write_text("no image")  # the size of the others is known all the same
    ran = run("detect", "in", "-f", "jsonl", "--workers", "6")
    assert (ran.code, ran.out.splitlines()[1:], len(forks)) == (1, threads.out.splitlines()[1:], 3)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_an_image_that_ends_processes_costs_itself_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pile(12)
    Path("in/05.png").write_text("deadly")
    main = os.getpid()

    def open_or_die(path: Path, **settings: Any) -> ImageFile:
        if path.name == "05.png" and os.getpid() != main:
            os._exit(3)
        return open_image(path, **settings)

    monkeypatch.setattr(decoders, "open_image", open_or_die)
    monkeypatch.setattr(decoders, "MIN_TO_FORK", 2)
    ran = run("detect", "in", "-f", "jsonl", "--workers", "6")
    assert ran.code == 1
    assert [len(line.get("faces", ())) for line in lines(ran.out)] == [1] * 5 + [0] + [1] * 6
    reason = "the process that decodes it ended with code 3; is there enough memory?"
    assert lines(ran.out)[5] == {"image": "in/05.png", "error": reason}
    monkeypatch.setattr(decoders, "MIN_FORKS", 2)
    assert run("detect", "in", "-f", "jsonl", "--workers", "4").out == ran.out  # two processes are left


@pytest.mark.parametrize("limit", ["fork", "mmap"])
def test_threads_decode_where_a_limit_refuses_processes(run: Run, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    pile(3)
    threads = run("detect", "in", "-f", "jsonl")

    def refuse(*_: Any) -> Any:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(decoders, "MIN_TO_FORK", 2)
    monkeypatch.setattr(decoders, "MIN_FORKS", 2)
    monkeypatch.setattr(f"{'os' if limit == 'fork' else 'mmap'}.{limit}", refuse)
    assert run("detect", "in", "-f", "jsonl", "--workers", "3") == threads


@pytest.mark.parametrize("options", [("--batch", "1"), ("--batch", "8")])
def test_an_image_that_the_model_fails_on_costs_itself_only(
    run: Run, spot_network: ModuleType, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    paths = pile(9)
    bad, worse = (np.full((80, 100, 3), color, np.uint8) for color in ((0, 0, 255), (255, 0, 0)))
    paths[3].write_bytes(cv2.imencode(".png", bad)[1].tobytes())
    paths[6].write_bytes(cv2.imencode(".png", worse)[1].tobytes())
    run_model = spot_network.SpotBackend.run

    def fail(self: Any, blob: NDArray[np.float32]) -> Any:
        outputs = run_model(self, blob)
        for index, (red, _, blue) in enumerate(blob[:, :, 5, 5]):
            if red > 0.9 and blue < -0.9:
                outputs[0][index, 0], outputs[3][index, 0] = 0.9, np.inf  # score and box
            if blue > 0.9 and red < -0.9:
                raise BackendError("the model cannot run")
        return outputs

    monkeypatch.setattr(spot_network.SpotBackend, "run", fail)
    ran = run("overlay", "in", "--overlay", "blur", "-o", "out", "--save-detections", "faces.jsonl", *options)
    assert ran.code == 1
    found = lines(Path("faces.jsonl").read_text(encoding="utf-8"))
    assert [line["image"] for line in found] == [str(path) for path in paths]
    assert [len(line.get("faces", "-")) for line in found] == [1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert "invalid values" in found[3]["error"]
    assert found[6]["error"] == "the model cannot run"
    assert sorted(path.name for path in Path("out").iterdir()) == [
        path.name for path in paths if path not in {paths[3], paths[6]}
    ]


@pytest.mark.parametrize("command", [pytest.param("detect", marks=pytest.mark.slow), "overlay"])
def test_few_large_images_are_in_memory(
    run: Run, spot_network: ModuleType, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for number, path in enumerate(pile(14)):
        path.write_bytes(cv2.imencode(".bmp", spot(0))[1].tobytes())
        path.rename(f"in/{number:02}.bmp")
    size = Path("in/00.bmp").stat().st_size + 4 * 90 * 120
    alive: list[int] = []
    most = 0

    def opened(path: Path, **settings: Any) -> ImageFile:
        file = open_image(path, **settings)
        decode = file.decode

        def frames(self: ImageFile) -> Any:
            nonlocal most
            for frame in decode(self):
                alive.append(1)
                most = max(most, len(alive))
                weakref.finalize(frame.pixels, alive.pop)
                yield frame

        object.__setattr__(file, "decode", frames)
        return file

    monkeypatch.setattr(decoders, "open_image", opened)
    monkeypatch.setattr(images, "MAX_BYTES", 3 * size)
    run_model = spot_network.SpotBackend.run

    def slow(self: Any, blob: NDArray[np.float32]) -> Any:
        time.sleep(0.005)
        return run_model(self, blob)

    monkeypatch.setattr(spot_network.SpotBackend, "run", slow)
    more = ("--overlay", "solid", "-o", "out") if command == "overlay" else ("-o", "faces.jsonl")
    ran = run(command, "in", "--workers", "6", "--batch", "2", *more)
    assert ran.code == 0, ran.err
    assert "14 images, 14 faces" in ran.err
    assert 2 <= most <= 4  # one may be dropped a moment after its bytes are given back
    gc.collect()  # a thread's last item may be in a cycle
    assert not alive


def test_interrupt_leaves_complete_copies_and_no_threads(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = pile(30)
    save = outputs.save_image

    def save_slowly(frames: Any, target: Path, **settings: Any) -> None:
        def slow_frames() -> Any:
            for frame in frames:
                if target.name == "07.png":
                    _thread.interrupt_main()
                time.sleep(0.03)
                yield frame

        save(slow_frames(), target, **settings)

    monkeypatch.setattr(outputs, "save_image", save_slowly)
    ran = run("overlay", "in", "--overlay", "blur", "-o", "out", "--workers", "3")
    assert ran.code == 130
    assert not job_threads()
    written = sorted(Path("out").iterdir())
    assert 5 <= len(written) < 12
    assert [path.name for path in written] == [path.name for path in paths[: len(written)]]
    assert ran.err.startswith(f"error: stopped by Ctrl-C after writing {len(written)} of 30 images; ")
    for number, path in enumerate(written):
        image = cv2.imread(str(path))
        assert image is not None
        assert image.shape == spot(number).shape


def test_copies_fail_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = pile(6)
    Path("out").mkdir()
    draw_frame = ImageFrame.drawn_on

    def fail(self: ImageFrame, drawn: NDArray[np.uint8]) -> ImageFrame:
        if drawn.shape[0] == 92:
            raise MemoryError("Unable to allocate 1 TiB")
        return draw_frame(self, drawn)

    monkeypatch.setattr(ImageFrame, "drawn_on", fail)
    ran = run("anonymize", "in", "-o", "out", "--save-detections", "faces.jsonl")
    assert ran.code == 1
    assert "- in/02.png: there is not enough memory" in ran.err
    found = lines(Path("faces.jsonl").read_text(encoding="utf-8"))
    assert [line["image"] for line in found] == [str(path) for path in paths]
    assert all(len(line["faces"]) == 1 for line in found)
    assert sorted(path.name for path in Path("out").iterdir()) == [path.name for path in paths if "02" not in path.name]
