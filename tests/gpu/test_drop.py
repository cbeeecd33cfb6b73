"""Detectors that are dropped without ``close()`` leave nothing on a real GPU, nor in the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from scrfd_trt import SCRFDDetector
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.finalizers import wait_for_dropped

DROPS = int(os.environ.get("SCRFD_TRT_DROPS") or 200)
WARM_UP = 40
TOGETHER = 20
"""Detectors between two garbage collections. CUDA and TensorRT keep what the largest number alive at a time needed."""

MIB = 2**20
IMAGE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


def used():
    """Bytes of GPU memory, resident bytes of the process, open files and threads."""
    gc.collect()
    wait_for_dropped()
    device = Device(0)
    with device.current():
        free, total = device.memory()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("scrfd_trt") for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)  # workers end once their pool is gone
    return total - free, resident, len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def use(detector, number):
    """Use each detector in another way, and leave runs of some in flight."""
    assert detector.detect(IMAGE) is not None
    if number % 4 == 1:
        detector.submit([IMAGE] * 3).result()
    if number % 4 == 2:
        next(detector.stream([IMAGE] * 8, batch=1))
    if number % 4 == 3:
        detector.itself = detector  # only the garbage collector finds it
        detector._pipeline.start([IMAGE], 0.5, None)


def drop(count, plan, stream):
    """Open and drop detectors, and return what is in use then."""
    gc.collect()
    for number in range(count):
        use(SCRFDDetector.from_engine(plan, max_batch=2, stream=stream), number)
        if number % TOGETHER == TOGETHER - 1:
            gc.collect()
    return used()


def grows(before, after):
    """Whether a round left GPU memory, host memory, files or threads behind."""
    return any(two > one + limit for one, two, limit in zip(before, after, (MIB, 16 * MIB, 0, 0), strict=True))


@pytest.mark.parametrize("stream", [None, 0], ids=["own streams", "a lent stream"])
def test_dropped_detectors_leave_nothing(plan, opened, stream):
    gc.disable()  # so that the same number of detectors is alive at a time in all rounds
    try:
        rounds = [drop(WARM_UP, plan, stream)]
        # A leak grows in each round. The heap may grow in one: each thread that closes a detector has a malloc arena.
        while len(rounds) < 2 or (grows(*rounds[-2:]) and len(rounds) < 4):
            rounds.append(drop(DROPS, plan, stream))
    finally:
        gc.enable()
    assert not grows(*rounds[-2:]), rounds


def test_capture_of_another_library_goes_on(plan, opened, torch):
    """Memory that is dropped in a thread that captures a graph must not end the capture."""
    with SCRFDDetector.from_engine(plan) as kept:
        found = [kept.pinned((64, 64, 3)), *kept.detect_on_gpu([IMAGE])]
        dropped = [SCRFDDetector.from_engine(plan)]
        dropped[0].detect(IMAGE)
        total, captured = torch.zeros(8, device="cuda"), torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(captured):
            total += 1
            found.clear()
            dropped.clear()
            gc.collect()
            wait_for_dropped()
            total += 1
        captured.replay()
        torch.cuda.synchronize()
        assert total.tolist() == [2.0] * 8


def test_detections_outlive_their_detector(plan, opened, torch, shared):
    image = cv2.imread(str(next((shared / "images").glob("*.jpg"))))
    detector = SCRFDDetector.from_engine(plan)
    wanted = detector.detect(image)
    (found,) = detector.detect_on_gpu([image])
    boxes = torch.from_dlpack(found.boxes)
    del detector, found
    used()
    assert np.array_equal(boxes.cpu().numpy(), wanted.boxes)


FORK = """
import os, signal, sys
import numpy as np
from scrfd_trt import ClosedError, SCRFDDetector

image = np.zeros((480, 640, 3), np.uint8)
detector = SCRFDDetector.from_engine(sys.argv[1])
expected, results = detector.detect(image), detector.stream([image] * 40, batch=1)
next(results)
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs ends
    refused = 0
    for call in (detector.detect, lambda image: detector.submit([image]), lambda _: list(results)):
        try:
            call(image)
        except ClosedError:
            refused += 1
    detector.close()
    del detector, results
    print("refused", refused, flush=True)
    os._exit(0)
else:
    status = os.waitpid(child, 0)[1]
    print("child", status, len(list(results)), detector.detect(image) == expected)
"""


def test_forked_process_is_refused(plan, opened):
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(plan)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines() == ["refused 3", "child 0 39 True"], done.stderr
