"""Images on the GPU are read when the stream that makes them is done, and not before; without PyTorch."""

from __future__ import annotations

from contextlib import ExitStack, closing

import numpy as np
import pytest

import drawing
from scrfd_trt import SCRFDDetector
from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.memory import copy, free, gpu_memory
from scrfd_trt._cuda.stream import borrow_stream, create_stream, is_done

BALLAST = 2**30
"""Bytes that are written again and again, so that what follows in the stream comes tens of milliseconds late."""

ROUNDS = 200
WAYS = {
    "detect": lambda detector, image: detector.detect(image),
    "batch": lambda detector, image: detector.detect_batch([image, image])[1],
    "submit": lambda detector, image: detector.submit([image]).result()[0],
    "stream": lambda detector, image: next(iter(detector.stream([image], batch=1))),
    "on the GPU": lambda detector, image: detector.detect_on_gpu([image])[0].to_host(),
}


class Late:
    """An image on the GPU that is made by a copy at the end of long work.

    Parameters
    ----------
    image
        What it will be; it is black until then.
    device, stream
        What makes it.
    opening
        Gives the memory back.
    """

    def __init__(self, image, device, stream, opening):
        self._stream = stream
        self._source, self._memory, self._ballast = (
            gpu_memory(size, device, stream) for size in (image.nbytes, image.nbytes, BALLAST)
        )
        for buffer in (self._source, self._memory, self._ballast):
            opening.callback(free, buffer)
        copy("copying", self._source.handle, image.ctypes.data, image.nbytes)
        self.shape, self.size = image.shape, image.nbytes

    def array(self, stream):
        """As ``__cuda_array_interface__`` shows it, with a stream to wait for or none."""
        shown = {"shape": self.shape, "typestr": "|u1", "data": (self._memory.handle, False), "strides": None}
        return type("Array", (), {"__cuda_array_interface__": {**shown, "version": 3, "stream": stream}})()

    def make(self):
        """Put the work into the stream."""
        self._stream.sync()
        self._memory.fill(0, stream=self._stream)
        self._stream.sync()
        for _ in range(ROUNDS):
            self._ballast.fill(1, stream=self._stream)
        copy("copying", self._memory.handle, self._source.handle, self.size, self._stream)
        assert not is_done(self._stream)


@pytest.fixture(scope="module")
def detector(plan, opened):
    with SCRFDDetector.from_engine(plan, max_batch=2) as detector:
        yield detector


@pytest.fixture(params=["own", "default"])
def late(request):
    """An image with the stream that makes it, and how the array names that."""
    device = Device(0)
    image = drawing.scene((500, 400), 4).image
    with device.current(), ExitStack() as opening:
        stream = create_stream(device) if request.param == "own" else borrow_stream(0, device)
        opening.enter_context(closing(stream))
        late = Late(image, device, stream, opening)
        yield image, late, int(stream.handle) or 1  # 1 is the default stream in __cuda_array_interface__
        stream.sync()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_stream_that_makes_an_image_is_waited_for(detector, late, way):
    image, made, named = late
    wanted = way(detector, image)
    assert len(wanted) > 0
    for _ in range(2):  # the second time, the work may be captured
        made.make()
        assert way(detector, made.array(named)) == wanted


def test_an_image_that_names_no_stream_is_read_at_once(detector, late):
    image, made, _ = late
    wanted, black = detector.detect(image), detector.detect(np.zeros_like(image))
    assert detector.detect(made.array(None)) is not None  # what is made at a first call is there
    made.make()
    assert detector.detect(made.array(None)) == black != wanted
    made._stream.sync()
    assert detector.detect(made.array(None)) == wanted
