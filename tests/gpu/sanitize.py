"""The kernels alone, on awkward input: ``compute-sanitizer --tool memcheck python tests/gpu/sanitize.py``."""

from __future__ import annotations

import ctypes
import sys
from contextlib import ExitStack

import numpy as np

from scrfd_trt.cuda import Device, DeviceBuffer, Stream
from scrfd_trt.cuda.driver import call
from scrfd_trt.cuda.kernels import load
from scrfd_trt.cuda.records import BATCH, CANDIDATES, FRAME, RESULT_BYTES, fits, frame_bytes, heads
from scrfd_trt.heads import HeadLayout

RNG = np.random.default_rng(3)
SCALES = ((640, 640), (128, 96))
SIZES = [(1600, 898), (640, 480), (1, 1), (33, 700)]


def upload(array, device, opening):
    memory = opening.enter_context(DeviceBuffer(array.nbytes, device))
    call("cuMemcpyHtoD", memory.handle, array.ctypes.data, array.nbytes, doing="copying")
    return memory.handle


def records(result, images, threshold):
    packed = BATCH.pack(result, threshold, 0.4, 1000, 0)
    for (width, height), address in images:
        packed += FRAME.pack(address, 3 * width, 3, 1, width, height, 0, 0) + fits((width, height), SCALES)[0]
    return np.frombuffer(packed, np.uint8)


def one(device, stream, kernels, threshold, dtype, kind):
    with ExitStack() as opening:
        images = [((w, h), upload(RNG.integers(0, 256, (h, w, 3), np.uint8), device, opening)) for w, h in SIZES]
        count = len(images)
        result = opening.enter_context(DeviceBuffer(count * RESULT_BYTES, device))
        block = upload(records(result.handle, images, threshold), device, opening)
        workspace = opening.enter_context(DeviceBuffer(count * CANDIDATES * 16, device))
        layout = HeadLayout(kind, (8, 16, 32), 2, (0, 1, 2), (3, 4, 5), (6, 7, 8))
        addresses = []
        for number, (width, height) in enumerate(SCALES):
            kernel = "letterbox_half" if dtype == "float16" else "letterbox_float"
            room = opening.enter_context(DeviceBuffer(count * 3 * width * height * np.dtype(dtype).itemsize, device))
            sides = [ctypes.c_int(side) for side in (width, height, number)]
            arguments = [ctypes.c_void_p(block), ctypes.c_int(frame_bytes(2)), ctypes.c_void_p(room.handle), *sides]
            grid = (-(-width // 128), -(-height // 8), count)
            kernels.prepare(kernel, grid, (32, 8, 1), arguments).start(stream)
            outputs = []
            for values in (1, 4, 10):
                for stride in layout.strides:
                    rows = layout.rows(stride, (width, height))
                    array = RNG.uniform(0, 1 if values == 1 else 3, (count, rows, values)).astype(dtype)
                    outputs.append(upload(array, device, opening))
            addresses.append(outputs)
        table = heads(layout, SCALES, addresses, [dtype] * 9)
        arguments = [ctypes.c_void_p(block), ctypes.c_int(frame_bytes(2)), ctypes.c_void_p(workspace.handle)]
        arguments.append((ctypes.c_char * len(table)).from_buffer_copy(table))
        kernels.prepare("find_faces", (count, 1, 1), (1024, 1, 1), arguments).start(stream)
        stream.synchronize()
        header = np.empty(3, np.int32)
        call("cuMemcpyDtoH", header.ctypes.data, result.handle, header.nbytes, doing="copying")
        print(kind, dtype, threshold, header.tolist())


def main():
    device = Device(0)
    kernels = load(device)
    with device.current(), Stream.create(device) as stream:
        for threshold in map(float, sys.argv[1:] or ("0.99", "0.9", "0.8", "0.5")):
            for dtype in ("float32", "float16"):
                for kind in ("batched", "grid"):
                    one(device, stream, kernels, threshold, dtype, kind)


if __name__ == "__main__":
    main()
