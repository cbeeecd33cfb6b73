"""The kernels, run on the processor, against the host's functions."""

from __future__ import annotations

import ctypes
import io
import os
import re
from importlib import util

import cv2
import emulator
import numpy as np
import pytest

import drawing
from overlays import _gpu
from scrfd_trt._cuda import kernels
from scrfd_trt._decode import decode, merge
from scrfd_trt._heads import HeadLayout, recognize
from scrfd_trt._image_arrays import LUMA_SHARES, YUVImage, from_yuv
from scrfd_trt._letterbox import PADDING, Letterbox, normalize_into
from scrfd_trt._nms import nms
from scrfd_trt._pipelines.base import merge_passes
from scrfd_trt._pipelines.cuda import frames
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import BackendError, MissingDependencyError

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(7)
POISON = 77.0
SIZES = [(1, 1), (640, 480), (641, 479), (33, 700), (900, 7), (1280, 960), (128, 96), (127, 95), (17, 5), (333, 222)]
CAPABILITIES = ["75", "80", "86", "89", "90", "100", "120"]


def letterbox(record, passes, targets, number, dtype=np.float32, out=None, kind=""):
    """Run the letterbox of one pass for one image, given by what stands in its record."""
    width, height = targets[number]
    out = np.full((1, 3, height, width), POISON, dtype) if out is None else out
    packed = kernels.BATCH.pack(0, 0.5, 0.4, 10, kernels.CANDIDATES) + record + passes
    block = ctypes.create_string_buffer(packed, len(packed))
    arguments = [ctypes.c_void_p(ctypes.addressof(block)), ctypes.c_int(kernels.frame_bytes(len(targets)))]
    arguments += [ctypes.c_void_p(out.ctypes.data), *(ctypes.c_int(value) for value in (width, height, number))]
    name = f"letterbox_{kind}half" if dtype == np.float16 else f"letterbox_{kind}float"
    emulator.run(name, (-(-width // 128), -(-height // 8), 1), (32, 8, 1), arguments)
    return out[0]


def record_of(image, color="bgr", *, padded=0, strides=None, size=None):
    steps, (width, height) = strides or image.strides, size or (image.shape[1], image.shape[0])
    shape = (height * 3 // 2, width) if color == "nv12" else (height, width, 3)
    geometry = frames.of_strides(shape, steps, color)
    address = image.ctypes.data
    return kernels.FRAME.pack(address, geometry.chroma(address), *geometry, padded)


def wanted(image, target, color="bgr"):
    blob = np.zeros((3, target[1], target[0]), np.float32)
    normalize_into(blob, image, Letterbox.fit((image.shape[1], image.shape[0]), target), color)
    return blob


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", [(128, 96), (64, 64), (66, 34)])
def test_the_letterbox_is_the_hosts_to_the_bit(size, target):
    image = RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)
    passes, _ = kernels.fits(size, (target,))
    for color in ("bgr", "rgb"):
        assert np.array_equal(letterbox(record_of(image, color), passes, (target,), 0), wanted(image, target, color))


@pytest.mark.parametrize("size", SIZES)
def test_half_inputs_hold_the_same_numbers(size):
    image = RNG.integers(0, 256, (size[1], size[0], 3), np.uint8)
    passes, _ = kernels.fits(size, ((64, 64),))
    found = letterbox(record_of(image), passes, ((64, 64),), 0, np.float16)
    assert np.array_equal(found.astype(np.float32), wanted(image, (64, 64)))


def test_images_of_any_strides():
    image = RNG.integers(0, 256, (50, 70, 3), np.uint8)
    passes, _ = kernels.fits((70, 50), ((64, 64),))
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    alpha = np.concatenate([image, image[..., :1]], axis=2)
    wide = np.zeros((50, 99, 3), np.uint8)
    wide[:, 11:81] = image
    mirrored = np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1]
    for seen in (planes, alpha[..., :3], wide[:, 11:81], mirrored):
        assert np.array_equal(letterbox(record_of(seen), passes, ((64, 64),), 0), wanted(image, (64, 64)))
    gray = np.ascontiguousarray(image[..., 0])
    found = letterbox(record_of(gray, strides=(*gray.strides, 0)), passes, ((64, 64),), 0)
    assert np.array_equal(found, wanted(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), (64, 64)))


@pytest.mark.parametrize("size", [(2, 2), (64, 48), (130, 98), (30, 200)])
def test_nv12_is_read_as_opencv_reads_it(size):
    frame = RNG.integers(0, 256, (size[1] * 3 // 2, size[0]), np.uint8)
    passes, _ = kernels.fits(size, ((64, 64),))
    found = letterbox(record_of(frame, "nv12", strides=(size[0], 1), size=size), passes, ((64, 64),), 0)
    assert np.array_equal(found, wanted(cv2.cvtColor(frame, cv2.COLOR_YUV2BGR_NV12), (64, 64)))


@pytest.mark.parametrize("matrix", LUMA_SHARES)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_two_planes_are_read_as_on_the_host(matrix, full_range, dtype):
    for width, height in ((48, 36), (33, 27), (1, 1)):
        memory = RNG.integers(0, np.iinfo(dtype).max, (3 * height + 9, 2 * width + 8), dtype, endpoint=True)
        y, uv = memory[:height, 3 : 3 + width], memory[height + 1 :][: (height + 1) // 2, 2 : 2 + width + width % 2]
        image = YUVImage(y, uv.reshape(*uv.shape[:1], -1, 2), matrix, full_range)
        strides, kind = (uv.strides[0], 2 * uv.itemsize, uv.itemsize), (matrix, full_range, 8 * y.itemsize)
        geometry = frames.of_planes(y.shape, y.strides, strides, kind)
        record = kernels.FRAME.pack(y.ctypes.data, uv.ctypes.data, *geometry, 0)
        passes, _ = kernels.fits((width, height), ((40, 40),))
        assert np.array_equal(letterbox(record, passes, ((40, 40),), 0), wanted(from_yuv(image), (40, 40)))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("dtype", [None, np.uint8, np.uint16])
def test_views_are_scaled_and_turned_as_on_the_host(rotation, dtype):
    """The host converts the whole image, scales a window of it, and turns that."""
    width, height, turns = (
        61,
        47,
        {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE},
    )
    image = addresses = RNG.integers(0, 256, (height, width, 3), np.uint8)
    geometry = frames.of_strides(image.shape, image.strides, "bgr")
    if dtype is not None:
        y = RNG.integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True)
        uv = RNG.integers(0, np.iinfo(dtype).max, ((height + 1) // 2, (width + 1) // 2, 2), dtype, endpoint=True)
        addresses, image = (y, uv), from_yuv(YUVImage(y, uv))
        geometry = frames.of_planes(y.shape, y.strides, uv.strides, ("bt601", False, 8 * y.itemsize))
    luma, chroma = (plane.ctypes.data for plane in (addresses if dtype else (image, image)))
    for left, top, across, down in ((0, 0, 61, 47), (3, 5, 40, 32), (4, 2, 33, 41), (60, 46, 1, 1)):
        part = image[top : top + down, left : left + across]
        for target in ((across, down), (21, 17), (70, 90)):
            scaled = cv2.resize(part, target, interpolation=cv2.INTER_LINEAR) if target != (across, down) else part
            scaled = scaled if rotation == 0 else cv2.rotate(scaled, turns[rotation])
            sides = (scaled.shape[1], scaled.shape[0])
            turned, *offsets, flags = geometry.turned((left, top, across, down), rotation)
            record = kernels.FRAME.pack(luma + offsets[0], chroma + offsets[1], *turned, flags)
            found = letterbox(
                record, kernels.fit(Letterbox(turned.size, (96, 96), sides)), ((96, 96),), 0, kind="views_"
            )
            assert np.array_equal(found, placed(scaled, (96, 96)))


def placed(image, target):
    blob = np.zeros((3, target[1], target[0]), np.float32)
    size = (image.shape[1], image.shape[0])
    normalize_into(blob, image, Letterbox(size, target, size))
    return blob


def test_padding_that_is_there_is_not_written_again():
    image = RNG.integers(0, 256, (40, 90, 3), np.uint8)
    targets = ((64, 64), (96, 32))
    passes, resized = kernels.fits((90, 40), targets)
    for number, (across, down) in enumerate(resized):
        found = letterbox(record_of(image, padded=1 << number), passes, targets, number)
        right = -(-across // 4) * 4  # what a thread writes at once
        assert (found[:, down:] == POISON).all()
        assert (found[:, :, right:] == POISON).all()
        assert (found[:, :down, across:right] == np.float32(PADDING)).all()
        assert np.array_equal(found[:, :down, :across], wanted(image, targets[number])[:, :down, :across])
        whole = letterbox(record_of(image, padded=1 << (1 - number)), passes, targets, number)
        assert np.array_equal(whole, wanted(image, targets[number]))


def heads_of(kind, sizes, *, strides=(8, 16, 32), anchors=2, points=True, images=1, dtype=np.float32, above=0.02):
    """A network's layout, and outputs of each pass in which so many rows are above 0.5."""
    count = len(strides)
    places = [tuple(range(start, start + count)) for start in range(0, 3 * count, count)]
    layout = HeadLayout(kind, strides, anchors, places[0], places[1], places[2] if points else None)
    passes = []
    for size in sizes:
        outputs = []
        for width in (1, 4, 10)[: 2 + points]:
            for stride in strides:
                rows = layout.rows(stride, size)
                high = 0.5 / (1 - above) if width == 1 else 4.0
                values = RNG.uniform(0 if width == 1 else -0.5, high, (images, rows, width)).astype(dtype)
                if kind == "grid":
                    down, across = -(-size[1] // stride), -(-size[0] // stride)
                    values = values.reshape(images, down, across, anchors * width).transpose(0, 3, 1, 2)
                outputs.append(np.ascontiguousarray(values[0] if kind == "flat" else values))
        passes.append(outputs)
    return layout, passes


def find(layout, passes, scales, sizes, threshold=0.5, iou=0.4, limit=10**9, *, threads=32, falling=False):
    """Run the kernel; returns what stands in the header, and the rows of each image."""
    records = b"".join(kernels.FRAME.pack(*[0] * 8, *size, *[0] * 8) + kernels.fits(size, scales)[0] for size in sizes)
    results = np.full((len(sizes), kernels.RESULT_BYTES // 4), POISON, np.float32)
    packed = (
        kernels.BATCH.pack(results.ctypes.data, threshold, iou, min(limit, kernels.NO_LIMIT), kernels.CANDIDATES)
        + records
    )
    block = ctypes.create_string_buffer(packed, len(packed))
    workspace = np.zeros((len(sizes), kernels.CANDIDATES, 4), np.float32)
    addresses = [[output.ctypes.data for output in outputs] for outputs in passes]
    table = kernels.heads(layout, scales, addresses, [str(output.dtype) for output in passes[0]])
    arguments = [
        ctypes.c_void_p(ctypes.addressof(block)),
        ctypes.c_int(kernels.frame_bytes(len(scales))),
        ctypes.c_void_p(workspace.ctypes.data),
        (ctypes.c_char * len(table)).from_buffer_copy(table),
    ]
    emulator.run("find_faces", (len(sizes), 1, 1), (threads, 1, 1), arguments, falling=falling)
    headers = results.view(np.int32)[:, :3].tolist()
    faces = [max(header[1], 0) for header in headers]
    rows = [
        results[index, kernels.HEADER : kernels.HEADER + count * kernels.ROW].reshape(count, kernels.ROW)
        for index, count in enumerate(faces)
    ]
    return headers, rows


def reference(layout, passes, scales, size, image=0, threshold=0.5, iou=0.4, limit=None):
    parts = [
        decode(layout, outputs, image, scale, threshold).to_source(Letterbox.fit(size, scale))
        for scale, outputs in zip(scales, passes, strict=True)
    ]
    merged = merge(parts)
    return merged.select(nms(merged.boxes, merged.scores, iou)[:limit])


def same(rows, faces):
    assert len(rows) == len(faces)
    assert np.array_equal(rows[:, :4], faces.boxes)
    assert np.array_equal(rows[:, 4], faces.scores)
    if faces.landmarks is not None:
        assert np.array_equal(rows[:, 5:15], faces.landmarks.reshape(-1, 10))


@pytest.mark.parametrize("kind", ["flat", "batched", "grid"])
@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_faces_are_the_hosts_to_the_bit(kind, falling, dtype):
    images = 1 if kind == "flat" else 3
    scales, sizes = ((160, 128),), [(300, 200), (160, 128), (41, 90)][:images]
    layout, passes = heads_of(kind, scales, images=images, dtype=dtype, above=0.1)
    headers, rows = find(layout, passes, scales, sizes, falling=falling)
    for index, size in enumerate(sizes):
        faces = reference(layout, passes, scales, size, index)
        assert headers[index][1:] == [len(faces), 0]
        assert len(faces) > 10
        same(rows[index], faces)


@pytest.mark.parametrize("kind", ["batched", "grid"])
def test_half_scores_are_compared_with_the_threshold_in_float32(kind):
    """The float16 nearest to 0.3001 is 0.30005, and below it."""
    scales, size = ((64, 64),), (64, 64)
    layout, passes = heads_of(kind, scales, dtype="float16", above=0.1)
    for output in passes[0][:3]:
        output[:] = 0.3001
    headers, _ = find(layout, passes, scales, [size], threshold=0.3001)
    assert headers[0][:2] == [0, 0]
    assert len(reference(layout, passes, scales, size, threshold=0.3001)) == 0
    headers, _ = find(layout, passes, scales, [size], threshold=0.30004)
    assert headers[0][0] == sum(output.size for output in passes[0][:3])


@pytest.mark.parametrize("kind", ["batched", "grid"])
@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("threads", [32, 96, 256, 1024])
def test_any_number_of_warps_in_any_order(threads, falling, kind):
    scales, sizes = ((320, 320),), [(500, 300), (320, 320)]
    for above, most in ((0.01, 256), (0.1, kernels.CANDIDATES)):  # sorted in the simple way, and in the other one
        layout, passes = heads_of(kind, scales, images=2, above=above)
        headers, rows = find(layout, passes, scales, sizes, threads=threads, falling=falling)
        for index, size in enumerate(sizes):
            assert 10 < headers[index][0] <= most
            same(rows[index], reference(layout, passes, scales, size, index))
    assert headers[0][0] > 256


@pytest.mark.parametrize("points", [True, False])
def test_five_strides_with_one_anchor(points):
    scales = ((256, 128),)
    layout, passes = heads_of("grid", scales, strides=(8, 16, 32, 64, 128), anchors=1, points=points, above=0.1)
    _, (rows,) = find(layout, passes, scales, [(500, 300)])
    same(rows, reference(layout, passes, scales, (500, 300)))


def test_two_passes_and_one_suppression():
    scales = ((64, 64), (160, 160))
    layout, passes = heads_of("batched", scales, above=0.1)
    for size in ((500, 300), (70, 210)):
        _, (rows,) = find(layout, passes, scales, [size])
        same(rows, reference(layout, passes, scales, size))


@pytest.mark.parametrize("above", [0, 1, 2, 63, 64, 65, 128, 255, 256, 257, 900])
@pytest.mark.parametrize("iou", [0.0, 0.4, 1.0])
def test_every_number_of_candidates(above, iou):
    scales, size = ((256, 256),), (256, 256)
    layout, passes = heads_of("batched", scales, above=1e-9)
    outputs = passes[0]
    for output in outputs[:3]:
        output[:] = 0.1
    flat = RNG.permutation(sum(output.size for output in outputs[:3]))[:above]
    starts = np.cumsum([0, *(output.size for output in outputs[:3])])
    for level in range(3):
        chosen = flat[(flat >= starts[level]) & (flat < starts[level + 1])] - starts[level]
        outputs[level].reshape(-1)[chosen] = np.float32(0.5) + (chosen % 5).astype(np.float32) / 10  # with ties
    headers, (rows,) = find(layout, passes, scales, [size], iou=iou)
    assert headers[0][0] == above
    same(rows, reference(layout, passes, scales, size, iou=iou))


def test_as_many_as_fit_and_one_more():
    scales, size = ((512, 512),), (512, 512)
    layout, passes = heads_of("batched", scales)
    for output in passes[0][:3]:
        output[:] = 0.1
    passes[0][0].reshape(-1)[: kernels.CANDIDATES] = 0.6
    headers, (rows,) = find(layout, passes, scales, [size])
    assert headers[0][0] == kernels.CANDIDATES
    same(rows, reference(layout, passes, scales, size))
    passes[0][2].reshape(-1)[0] = 0.6
    assert find(layout, passes, scales, [size])[0] == [[kernels.CANDIDATES + 1, -1, 0]]


@pytest.mark.parametrize("limit", [1, 5, 64, 65])
def test_the_best_are_kept(limit):
    scales, size = ((256, 256),), (256, 256)
    layout, passes = heads_of("grid", scales, above=0.2)
    _, (rows,) = find(layout, passes, scales, [size], limit=limit)
    assert len(rows) == limit
    same(rows, reference(layout, passes, scales, size, limit=limit))


def test_numbers_that_are_none_of_a_face():
    scales, size = ((64, 64),), (64, 64)
    for output, value, sound, count in [(3, np.nan, 0, 0), (3, np.inf, 1, 1), (6, np.nan, 1, 1), (0, 2.0, 1, 1)]:
        layout, passes = heads_of("batched", scales)
        for scores in passes[0][:3]:
            scores[:] = 0.1
        passes[0][0].reshape(-1)[5] = 0.9
        passes[0][3].reshape(-1, 4)[5] = 1.0
        passes[0][output].reshape(layout.rows(8, (64, 64)), -1)[5] = value
        assert find(layout, passes, scales, [size])[0] == [[1, count, sound]]
    layout, passes = heads_of("batched", scales)
    for scores in passes[0][:3]:
        scores[:] = np.nan
    assert find(layout, passes, scales, [size], threshold=0.0)[0] == [[0, 0, 0]]


@pytest.mark.parametrize("infinite", [[5], [7], [5, 7], [9], [5, 9, 11]])
@pytest.mark.parametrize("limit", [None, 1])
def test_a_box_that_reaches_to_infinity_is_told_by_host_and_kernel(infinite, limit):
    scales, size = ((64, 64),), (64, 64)
    layout, passes = heads_of("batched", scales)
    for scores in passes[0][:3]:
        scores[:] = 0.1
    passes[0][0].reshape(-1)[[5, 7, 9, 11]] = [0.9, 0.8, 0.8, 0.7]  # 5, 7 and 9 lie near each other
    passes[0][3].reshape(-1, 4)[[5, 7, 9, 11]] = 1.0
    passes[0][3].reshape(-1, 4)[infinite, 2:] = np.inf
    ((_, count, unsound),), (rows,) = find(layout, passes, scales, [size], limit=limit or 10**9)
    faces = reference(layout, passes, scales, size, limit=limit)
    assert count == len(faces)
    same(rows, faces)
    assert bool(unsound) == (not np.isfinite(faces.boxes).all())
    assert unsound == (limit is None or 5 in infinite)
    parts = [decode(layout, passes[0], 0, scales[0], 0.5)]
    if unsound:
        outcome = merge_passes(parts, 0.4, limit, size, "a network")
        assert isinstance(outcome, BackendError)
        assert "the model returned invalid values" in str(outcome)
    else:
        assert np.array_equal(merge_passes(parts, 0.4, limit, size, "a network").boxes, faces.boxes)


def has_nvrtc():
    """Whether NVRTC can compile here, through cuda.core."""
    try:
        kernels.nvrtc_release()
    except MissingDependencyError:
        return False
    return util.find_spec("cuda.core") is not None


def told_by_nvrtc(source, capability):
    """What the assembler says of the kernels when NVRTC calls it."""
    from cuda.core import Program, ProgramOptions

    said = io.StringIO()
    options = ProgramOptions(arch=f"sm_{capability}", fma=False, ptxas_options=["-v"])
    Program(source.path.read_text("utf-8"), "c++", options).compile("cubin", logs=said)
    return said.getvalue()


@pytest.mark.rtx
@pytest.mark.parametrize("source", [kernels.DETECTION, _gpu.KERNELS], ids=["detection", "overlays"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_they_compile_for_every_gpu(capability, source, tmp_path, monkeypatch):
    if not has_nvrtc():
        promised = os.environ.get("SCRFD_TRT_REQUIRE_NVRTC") == "1"
        (pytest.fail if promised else pytest.skip)("NVRTC or cuda.core is not here; nox's session rtx has both")
    monkeypatch.setenv("SCRFD_TRT_HOME", str(tmp_path))
    number = (int(capability[:-1]), int(capability[-1]))
    binary = kernels.compiled(number, source)
    assert binary.startswith(b"\x7fELF")
    assert kernels.compiled(number, source) == binary
    assert any((tmp_path / "kernels").rglob("*"))
    told = told_by_nvrtc(source, capability)
    # Registers alone: what a thread keeps in memory would cost more than all else that it does.
    of_each = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", told)
    assert of_each == [("0", "0", "0")] * len(source.names)


def test_drawn_scenes_through_a_real_network(network_500m):
    """``SCRFD_TRT_SCENES`` says how many."""
    backend = OnnxBackend(network_500m, threads=1)
    layout, target, total = recognize(backend.outputs), (320, 320), 0
    for seed in range(int(os.environ.get("SCRFD_TRT_SCENES", "8"))):
        size = (int(RNG.integers(320, 900)), int(RNG.integers(240, 700)))
        image = drawing.scene(size, int(RNG.integers(0, 4)), seed).image
        passes, _ = kernels.fits(size, (target,))
        blob = letterbox(record_of(image), passes, (target,), 0)
        assert np.array_equal(blob, wanted(image, target))
        outputs = [np.ascontiguousarray(output, np.float32) for output in backend.run(blob[None])]
        _, (rows,) = find(layout, [outputs], (target,), [size])
        same(rows, reference(layout, [outputs], (target,), size))
        total += len(rows)
    assert total > 0
