"""Processes that decode images into shared memory, from which a GPU copies them."""

from __future__ import annotations

import logging
import sys
import threading
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from scrfd_trt import SCRFDDetector
from scrfd_trt._engine.plan import read_plan
from scrfd_trt._engine.runtime import opener
from scrfd_trt._jobs import decoders, images
from scrfd_trt._jobs.decoders import ImageSettings, decoding_processes
from scrfd_trt._jobs.images import ImageJob, ModelFinder
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines.cuda import CudaPipeline
from scrfd_trt._pipelines.cuda.slot_memory import Upload

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only"),
]


class Picture(NamedTuple):
    name: str
    data: bytes
    pixels: None = None

    def read(self) -> bytes:
        return self.data


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    """Seven that differ, again and again."""
    return [np.full((48, 64, 3), 40 * (number % 7), np.uint8) for number in range(20)]


@pytest.mark.parametrize("locked", [2, None], ids=["some are", "all are"])
def test_faces_are_the_same_where_slots_are_page_locked(
    gpu: Any,
    fakes: ModuleType,
    pictures: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    locked: int | None,
) -> None:
    monkeypatch.setattr(decoders, "MIN_TO_FORK", 2)
    monkeypatch.setattr(decoders, "MIN_FORKS", 2)
    for module in (decoders, images):
        monkeypatch.setattr(module, "MAX_BYTES", 16 * 16384)  # slots
    monkeypatch.setattr(decoders, "BLOCK", 5 * 16384)
    if locked is not None:
        gpu.fail("cuMemHostRegister", "CUDA_ERROR_OUT_OF_MEMORY", after=locked)
    through_memory: list[Any] = []
    stage_all = Upload._stage_all

    def stage(self: Upload, placed: list[Any]) -> None:
        through_memory.extend(placed)
        stage_all(self, placed)

    monkeypatch.setattr(Upload, "_stage_all", stage)
    pile = [Picture(f"{k}.png", cv2.imencode(".png", image)[1].tobytes()) for k, image in enumerate(pictures)]
    options = DetectorOptions(max_batch=4)
    settings = ImageSettings(workers=4)
    caplog.set_level(logging.DEBUG, "scrfd_trt")
    with decoding_processes(pile, settings) as processes:
        pipeline = CudaPipeline(opener(read_plan(fakes.plan()), 0), options)
        with SCRFDDetector._of(pipeline, options, device="cuda:0") as detector:
            faces = {image.tobytes(): detector.detect(image) for image in pictures[:7]}
            through_memory.clear()
            job = ImageJob(pile, len(pile), ModelFinder.of(detector, None), settings, decoders=processes)
            with job.finished() as finished:
                for thread in threading.enumerate():
                    if thread.name == "scrfd-trt-job-lock":
                        thread.join()
                assert [work.results[0].faces for work in finished] == [faces[image.tobytes()] for image in pictures]
                assert gpu.calls.count("cuMemHostUnregister") == 0
        assert gpu.calls.count("cuMemHostUnregister") == (4 if locked is None else locked)
    assert gpu.leaks == {}
    assert bool(through_memory) == (locked is not None)
    assert len(through_memory) < len(pictures)
    said = [record.getMessage() for record in caplog.records if "page-lock" in record.getMessage()]
    assert len(said) == (locked is not None)
    assert all(line.startswith(f"{locked} of 4 blocks of shared memory are page-locked") for line in said)
