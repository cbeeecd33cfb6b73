"""The kernels alone, on awkward input: ``compute-sanitizer --tool memcheck python tests/gpu/sanitize.py``."""

from __future__ import annotations

import ctypes
import itertools
import sys
from contextlib import ExitStack, closing
from typing import NamedTuple

import numpy as np

from scrfd_trt._cuda.driver import Device
from scrfd_trt._cuda.kernels import BATCH, CANDIDATES, FRAME, RESULT_BYTES, fits, frame_bytes, heads, load
from scrfd_trt._cuda.memory import copy, free, gpu_memory
from scrfd_trt._cuda.stream import create_stream
from scrfd_trt._heads import HeadLayout
from scrfd_trt._pipelines.cuda.frames import of_strides

RNG = np.random.default_rng(3)
SCALES = (((640, 640), (128, 96)), ((330, 203), (66, 34)))  # the second ones have widths that are not read in fours
SIZES = [(1600, 898), (640, 480), (1, 1), (33, 700), (66, 34)]


class Picture(NamedTuple):
    """An image on the GPU: where its first pixel is, the steps between them, its size and its format."""

    address: int
    steps: tuple[int, int, int]
    size: tuple[int, int]
    color: str


def room(size, device, opening):
    memory = gpu_memory(size, device)
    opening.callback(free, memory)
    return int(memory.handle)


def upload(array, device, opening):
    address = room(array.nbytes, device, opening)
    copy("copying", address, array.ctypes.data, array.nbytes)
    return address


def packed(size, color, device, opening):
    width, height = size
    pixels = RNG.integers(0, 256, (height, width, 3), np.uint8)
    return Picture(upload(pixels, device, opening), (3 * width, 3, 1), size, color)


def mirrored(size, color, device, opening):
    """From its last pixel backwards, in an allocation that holds no byte more."""
    width, height = size
    picture = packed(size, color, device, opening)
    return picture._replace(address=picture.address + 3 * (width * height - 1), steps=(-3 * width, -3, 1))


def planes(size, color, device, opening):
    """Channels first, with the channels from the last to the first."""
    width, height = size
    picture = packed(size, color, device, opening)
    return picture._replace(address=picture.address + 2 * width * height, steps=(width, 1, -width * height))


def nv12(size, color, device, opening):
    width, height = (side + side % 2 for side in size)
    pixels = RNG.integers(0, 256, (height * 3 // 2, width), np.uint8)
    return Picture(upload(pixels, device, opening), (width, 1), (width, height), "nv12")


KINDS = {"packed": packed, "mirrored": mirrored, "planes": planes, "nv12": nv12}


def records(result, pictures, scales, threshold, padded):
    block = BATCH.pack(result, threshold, 0.4, 1000, 0)
    for address, steps, size, color in pictures:
        width, height = size
        shape = (height * 3 // 2, width) if color == "nv12" else (height, width, 3)
        geometry = of_strides(shape, steps, color)
        block += FRAME.pack(address, geometry.chroma(address), *geometry, padded) + fits(size, scales)[0]
    return np.frombuffer(block, np.uint8)


def outputs(layout, size, count, dtype, device, opening):
    """What a network of one input size might give."""
    found = []
    for values, stride in itertools.product((1, 4, 10), layout.strides):
        rows = layout.rows(stride, size)
        array = RNG.uniform(0, 1 if values == 1 else 3, (count, rows, values)).astype(dtype)
        found.append(upload(array, device, opening))
    return found


class Case(NamedTuple):
    """What the kernels are run with."""

    scales: tuple[tuple[int, int], ...]
    threshold: float
    dtype: str
    layout: str
    pictures: str
    color: str


def letterboxes(case, block, count, kernels, device, stream, opening):
    """Fill the inputs of all passes."""
    kernel = "letterbox_half" if case.dtype == "float16" else "letterbox_float"
    for number, (width, height) in enumerate(case.scales):
        size = count * 3 * width * height * np.dtype(case.dtype).itemsize
        target = room(size, device, opening)
        sides = [ctypes.c_int(side) for side in (width, height, number)]
        arguments = [ctypes.c_void_p(block), ctypes.c_int(frame_bytes(2)), ctypes.c_void_p(target), *sides]
        grid = (-(-width // 128), -(-height // 8), count)
        kernels.prepare(kernel, grid, (32, 8, 1), arguments).start(stream)


def one(case, device, stream, kernels):
    with ExitStack() as opening:
        pictures = [KINDS[case.pictures](size, case.color, device, opening) for size in SIZES]
        count = len(pictures)
        result = room(count * RESULT_BYTES, device, opening)
        for padded in (0, 0b01, 0b11):  # passes whose padding is there already
            block = upload(records(result, pictures, case.scales, case.threshold, padded), device, opening)
            letterboxes(case, block, count, kernels, device, stream, opening)
        workspace = room(count * CANDIDATES * 16, device, opening)
        layout = HeadLayout(case.layout, (8, 16, 32), 2, (0, 1, 2), (3, 4, 5), (6, 7, 8))
        addresses = [outputs(layout, size, count, case.dtype, device, opening) for size in case.scales]
        table = heads(layout, case.scales, addresses, [case.dtype] * 9)
        arguments = [ctypes.c_void_p(block), ctypes.c_int(frame_bytes(2)), ctypes.c_void_p(workspace)]
        arguments.append((ctypes.c_char * len(table)).from_buffer_copy(table))
        kernels.prepare("find_faces", (count, 1, 1), (1024, 1, 1), arguments).start(stream)
        stream.sync()
        header = np.empty(3, np.int32)
        copy("copying", header.ctypes.data, result, header.nbytes)
        print(*case, header.tolist())


def cases(thresholds):
    """All thresholds with all heads; all kinds of pictures with one threshold."""
    for threshold, dtype, layout in itertools.product(thresholds, ("float32", "float16"), ("batched", "grid")):
        yield Case(SCALES[0], threshold, dtype, layout, "packed", "bgr")
    for scales, dtype, pictures, color in itertools.product(SCALES, ("float32", "float16"), KINDS, ("bgr", "rgb")):
        if (pictures, color) != ("nv12", "rgb"):
            yield Case(scales, thresholds[0], dtype, "batched", pictures, color)


def main():
    device = Device(0)
    kernels = load(device)
    with device.current(), closing(create_stream(device)) as stream:
        for case in cases([float(text) for text in sys.argv[1:] or ("0.99", "0.9", "0.8", "0.5")]):
            one(case, device, stream, kernels)


if __name__ == "__main__":
    main()
