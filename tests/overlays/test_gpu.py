"""Overlays on images in GPU memory, with a fake GPU whose kernels run on the CPU, against the overlays on the CPU."""

from __future__ import annotations

import gc
import itertools
import platform

import cv2
import numpy as np
import pytest
from overlay_pictures import (
    COVERING,
    FORMATS,
    apart,
    crowd,
    drawn_on_planes,
    is_flat,
    left_uncovered,
    picture,
    share_within,
    to_planes,
)

import overlays
from overlays import _gpu
from overlays._records import FACE
from scrfd_trt import Detections, YUVImage
from scrfd_trt._cuda.stream import create_stream, synchronize
from scrfd_trt.errors import DetectionsError, ImageError, OptionError, OverlayError
from scrfd_trt.video import _colors

pytestmark = pytest.mark.slow

SIZE = (97, 71)
IMAGE, FACES = picture(SIZE), crowd(SIZE, 5, largest=0.6)


class OnGpu:
    """An array with ``__cuda_array_interface__``; the fake GPU reads and writes the array's memory."""

    def __init__(self, array, *, readonly=False):
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, readonly),
            "strides": array.strides,
            "version": 3,
        }


@pytest.fixture(autouse=True)
def painters(gpu, monkeypatch):
    """New painters; one thread per face, as those that wait for each other are slow here."""
    found = _gpu._Painters()
    monkeypatch.setattr(_gpu, "_painters", found)
    monkeypatch.setattr(_gpu, "CELL_THREADS", (1, 1, 1))
    yield found
    found.close()
    gc.collect()  # errors keep the frames in which they were raised
    assert gpu.leaks == {}


def draw(overlay, image, faces=FACES):
    out = image.copy()
    assert overlays.draw_on_gpu(overlay, OnGpu(out), faces) is None
    return out


def draw_planes(overlay, y, uv, matrix, full_range, faces=FACES):
    out = y.copy(), uv.copy()
    overlays.draw_on_gpu(overlay, YUVImage(*map(OnGpu, out), matrix, full_range), faces)
    return out


@pytest.mark.parametrize("text", COVERING)
def test_picture_is_the_hosts(text):
    overlay = overlays.parse(text)
    wanted, found = overlay(IMAGE, FACES), draw(overlay, IMAGE)
    assert (wanted != IMAGE).any()
    assert apart(found, wanted) <= 2
    assert left_uncovered(found, IMAGE, wanted) == 0
    boxes = overlay.changed_boxes(FACES)
    outside = np.ones(IMAGE.shape[:2], bool)
    for x1, y1, x2, y2 in np.clip(boxes, 0, None):
        outside[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = False
    assert (found == IMAGE)[outside].all()


@pytest.mark.parametrize(("text", "layout"), [*itertools.product(COVERING, ("nv12", "p010")), ("blur", "nv12-full")])
def test_planes_are_the_hosts(text, layout):
    matrix, full_range, bits = FORMATS[layout]
    overlay = overlays.parse(text)
    y, uv = to_planes(IMAGE, matrix, full_range, bits)
    wanted_y, wanted_uv, _, (_, blocks) = drawn_on_planes(overlay, y, uv, matrix, full_range, FACES)
    found_y, found_uv = draw_planes(overlay, y, uv, matrix, full_range)
    assert (wanted_y != y).any()
    assert share_within(found_y, wanted_y, 2) >= 0.998
    assert apart(found_y, wanted_y) <= 4
    assert apart(found_uv, wanted_uv) <= 1
    assert left_uncovered(found_y, y, wanted_y) == 0
    assert left_uncovered(found_uv, uv, wanted_uv) == 0
    assert (found_uv == uv)[~cv2.dilate(blocks.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)].all()


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="swscale rounds otherwise")
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("text", ["blur", "pixelate", "solid", "emoji"])
def test_frames_are_those_of_swscale(text, layout):
    av, size = pytest.importorskip("av"), (320, 180)
    matrix, full_range, bits = FORMATS[layout]
    shift, overlay, faces = (0 if bits == 8 else 6), overlays.parse(text), crowd(size, 8, largest=0.5)
    y, uv = to_planes(picture(size), matrix, full_range, bits)
    frame = av.VideoFrame(*size, "yuv420p" if bits == 8 else "yuv420p10le")
    for plane, values in zip(_colors.planes(frame), (y, uv[..., 0], uv[..., 1]), strict=True):
        plane[...] = values >> shift
    frame.colorspace = {"bt601": _colors.BT601, "bt709": _colors.BT709, "bt2020": _colors.BT2020}[matrix]
    frame.color_range = _colors.FULL if full_range else _colors.LIMITED
    before = _colors.to_bgr(frame)
    after = overlay(before, faces)
    wanted_y, *wanted_uv = (
        plane << shift for plane in _colors.planes(_colors.paste_changes(frame, [_colors.Patch(0, 0, before, after)]))
    )
    found_y, found_uv = draw_planes(overlay, y, uv, matrix, full_range, faces)
    changes = (wanted_y != y) & is_flat(after)
    assert changes.any()
    assert apart(found_y, wanted_y, is_flat(after)) <= 2
    assert abs(found_y[changes].mean() - wanted_y[changes].mean()) < 0.2 * (1 << 8 * (bits > 8))
    assert share_within(found_y, wanted_y, 2) > 0.999
    if layout == "nv12":  # swscale filters the chroma of the others across rows, which differs at edges
        assert apart(found_uv, np.stack(wanted_uv, 2)) <= 2


def test_masks_are_never_below_the_hosts():
    rng = np.random.default_rng(4)
    size = (60, 50)
    black = np.zeros((*size[::-1], 3), np.uint8)
    for number in range(60):
        shape = ("ellipse", "rectangle", "aligned")[number % 3]
        feather = (0.0, 0.01, 0.1, 1.0)[number % 4]
        options = {"shape": shape, "feather": feather, "margin": rng.uniform(0, 1), "scale": rng.uniform(0.1, 2)}
        overlay = overlays.Solid(fill="white", blending="srgb", **options)
        faces = crowd(size, 1, seed=number, largest=2.0 if number % 5 else 40.0)
        wanted, found = overlay(black, faces), draw(overlay, black, faces)
        assert (found >= wanted).all()
        assert (found.astype(int) - wanted).max() <= 2


@pytest.mark.parametrize("text", ["blur", "pixelate:shape=aligned", "solid:opacity=0.5,feather=1", "emoji:opacity=0.5"])
def test_faces_that_overlap_are_drawn_in_order(gpu, text):
    size = (160, 120)
    image, faces, overlay = picture(size), crowd(size, 40), overlays.parse(text)
    wanted, found = overlay(image, faces), draw(overlay, image, faces)
    assert apart(found, wanted) <= 3
    assert share_within(found, wanted, 1) > 0.98
    assert left_uncovered(found, image, wanted) == 0
    assert gpu.launches.count("paint") > 3


@pytest.mark.parametrize("group", [_gpu.MAX_GROUP, 50])
def test_turns_keep_the_order_of_faces_that_touch(monkeypatch, group):
    monkeypatch.setattr(_gpu, "MAX_GROUP", group)
    rng = np.random.default_rng(3)
    records = np.zeros(120, FACE)
    corner = rng.integers(0, 200, (120, 2))
    records["region"] = np.concatenate([corner, corner + rng.integers(1, 30, (120, 2))], 1)
    records["whole"][::2] = np.concatenate([corner - 3, np.full((120, 2), 40)], 1)[::2]
    order, bounds = _gpu._in_turns(records)
    assert sorted(order) == list(range(120))
    assert bounds[0] == 0
    assert bounds[-1] == 120
    turn = {row: n for n in range(len(bounds) - 1) for row in order[bounds[n] : bounds[n + 1]].tolist()}
    for one in range(120):
        for other in range(one):
            mine, others = (touched(records[row]) for row in (one, other))
            if (mine & others).any():
                assert turn[other] < turn[one]
    assert 2 < len(bounds) < 60


def touched(record):
    """The blocks of 2×2 pixels that a face reads or writes, in an area that begins at -10, -10."""
    seen = np.zeros((130, 130), bool)
    x1, y1, x2, y2 = record["region"]
    boxes = [(x1, y1, x2, y2)]
    x, y, width, height = record["whole"]
    boxes += [(x, y, x + width, y + height)] if width else []
    for x1, y1, x2, y2 in boxes:
        seen[(y1 + 10) // 2 : (y2 + 11) // 2, (x1 + 10) // 2 : (x2 + 11) // 2] = True
    return seen


def test_warps_average_as_one_thread_does(monkeypatch):
    face = crowd(SIZE, 1, seed=5)
    one = draw(overlays.Blur(), IMAGE, face)
    assert (one != IMAGE).any()
    monkeypatch.setattr(_gpu, "CELL_THREADS", (32, 2, 1))
    assert apart(draw(overlays.Blur(), IMAGE, face), one) <= 1


class Inverted(overlays.Solid):
    """An overlay whose own method replaces what its base class declares."""

    def replacement(self, canvas, region, mask):
        return 255 - np.ascontiguousarray(canvas[region.slices])


class White(overlays.Solid):
    """An overlay with a fill of its own."""

    class Fill(overlays.FlatFill):
        def replace(self, canvas, region, row):
            return np.full_like(super().replace(canvas, region, row), 255)

    def fill_for(self, sizes):
        return self.Fill((0, 0, 0))


class Mirrored(overlays.OverlayModel):
    """An overlay that reads pixels far from those that it changes."""

    def draw(self, canvas, detections):
        canvas[:10, :20] = canvas[-10:, -20:]

    def changed_boxes(self, detections):
        return np.array([[0.0, 0.0, 20.0, 10.0]])


def plain(image, detections):
    return 255 - image


class Escaping(overlays.Boxes):
    """An overlay that changes a pixel that it does not name."""

    def draw(self, canvas, detections):
        canvas[-1, -1] = 255 - canvas[-1, -1]


ON_HOST = {
    "boxes": overlays.Boxes(label="none"),
    "landmarks": overlays.Landmarks(),
    "crop": overlays.CropSheet(side="left"),
    "spotlight": overlays.Spotlight(),
    "own replacement": Inverted(),
    "own fill": White(),
    "reads elsewhere": Mirrored(),
    "function": plain,
}


@pytest.mark.parametrize("name", ON_HOST)
def test_other_overlays_are_drawn_on_the_host(name):
    overlay = ON_HOST[name]
    assert np.array_equal(draw(overlay, IMAGE), overlay(IMAGE, FACES))
    matrix, full_range, bits = FORMATS["nv12"]
    y, uv = to_planes(IMAGE, matrix, full_range, bits)
    wanted_y, wanted_uv, _, _ = drawn_on_planes(overlay, y, uv, matrix, full_range, FACES)
    found_y, found_uv = draw_planes(overlay, y, uv, matrix, full_range)
    assert (wanted_y != y).any()
    assert apart(found_y, wanted_y) <= 1
    assert apart(found_uv, wanted_uv) <= 1
    assert left_uncovered(found_y, y, wanted_y) == 0


def test_only_changed_regions_travel(gpu, monkeypatch):
    sizes = []
    move = _gpu.copy
    monkeypatch.setattr(
        _gpu, "copy", lambda doing, to, of, size, stream: sizes.append(size) or move(doing, to, of, size, stream)
    )
    faces = crowd(SIZE, 1, seed=5)
    draw(overlays.Boxes(label="none"), IMAGE, faces)
    assert len(sizes) == 3  # records, pixels down, pixels up
    assert sizes[1] == sizes[2] < 0.2 * IMAGE.nbytes
    draw(overlays.Boxes(label="none"), IMAGE, Detections.empty(SIZE))
    assert len(sizes) == 3


def test_composition_in_order(gpu):
    both = overlays.Compose(overlays.Blur(), overlays.Boxes(label="none"), overlays.Compose(overlays.Solid(scale=0.3)))
    assert apart(draw(both, IMAGE), both(IMAGE, FACES)) <= 2
    assert np.array_equal(draw(overlays.Compose(), IMAGE), IMAGE)
    for overlay in (overlays.Boxes(), overlays.Spotlight(), overlays.Boxes(), overlays.Landmarks()):
        assert np.array_equal(draw(overlay, IMAGE), overlay(IMAGE, FACES))


def test_strided_and_single_pixel_images():
    wide = np.zeros((71, 150, 3), np.uint8)
    wide[:, 20:117] = IMAGE
    overlays.draw_on_gpu(overlays.Blur(), OnGpu(wide[:, 20:117]), FACES)
    assert apart(wide[:, 20:117], overlays.Blur()(IMAGE, FACES)) <= 2
    assert not wide[:, :20].any()
    assert not wide[:, 117:].any()
    for size in ((1, 1), (3, 2), (2, 40)):
        small = picture(size)
        faces = Detections([(-5.0, -5.0, 30.0, 50.0)], [0.9], image_size=size)
        for text in ("blur", "pixelate", "solid", "skull"):
            overlay = overlays.parse(text)
            assert apart(draw(overlay, small, faces), overlay(small, faces)) <= 2


def test_work_is_in_the_order_of_a_stream(painters):
    device = painters.of(0).device
    stream, out = create_stream(device), IMAGE.copy()
    overlays.draw_on_gpu(overlays.Solid(), OnGpu(out), FACES, stream=stream)
    assert np.array_equal(out, IMAGE)  # not before somebody waits for the stream
    with device.current():
        synchronize(stream)
    assert apart(out, overlays.Solid()(IMAGE, FACES)) <= 2


def test_memory_is_used_again(gpu, painters):
    for _ in range(12):
        draw(overlays.Skull(), IMAGE)
    held = dict(gpu.leaks)
    for _ in range(12):
        draw(overlays.Skull(), IMAGE)
    assert gpu.leaks == held
    assert held["pinned"] == 1


ERRORS = {
    "in host memory": (IMAGE, ImageError, "is not in GPU memory"),
    "grey": (OnGpu(IMAGE[..., 0]), ImageError, r"is \(H, W, 3\) uint8 or a YUVImage"),
    "words": (OnGpu(IMAGE.astype(np.uint16)), ImageError, "element type uint16"),
    "read-only": (OnGpu(IMAGE, readonly=True), ImageError, "is read-only: copy it"),
    "planes": (YUVImage(OnGpu(IMAGE[..., 0]), OnGpu(IMAGE[..., :2])), ImageError, "planes of a YUVImage"),
    "another size": (OnGpu(IMAGE[1:]), ImageError, "97×70 pixels, but the detections belong to one of 97×71"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_images_that_cannot_be_drawn_on(name):
    image, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message) as caught:
        overlays.draw_on_gpu(overlays.Blur(), image, FACES)
    assert "\n" not in str(caught.value)


def test_jax_arrays_are_refused(monkeypatch):
    monkeypatch.setattr(OnGpu, "__module__", "jaxlib._jax")
    with pytest.raises(ImageError, match="is read-only: copy it"):
        overlays.draw_on_gpu(overlays.Blur(), OnGpu(IMAGE.copy()), FACES)


def test_overlays_that_cannot_draw(gpu):
    def broken(image, detections):
        raise ZeroDivisionError("no faces")

    class NeedsLandmarks(overlays.Solid):
        needs_landmarks = True

    class BrokenFill(overlays.Solid):
        def fill_for(self, sizes):
            return 1 / 0

    image = OnGpu(IMAGE.copy())
    with pytest.raises(OverlayError, match=r"changes pixels outside its used_boxes\(\)"):
        overlays.draw_on_gpu(Escaping(), image, crowd(SIZE, 1, seed=5))
    with pytest.raises(OverlayError, match="ZeroDivisionError: no faces"):
        overlays.draw_on_gpu(broken, image, FACES)
    with pytest.raises(OverlayError, match="ZeroDivisionError: division by zero"):
        overlays.draw_on_gpu(overlays.Compose(overlays.Solid(), BrokenFill()), image, FACES)
    with pytest.raises(OptionError, match="overlay must be an overlay"):
        overlays.draw_on_gpu("blur", image, FACES)
    with pytest.raises(DetectionsError, match="needs landmarks"):
        overlays.draw_on_gpu(NeedsLandmarks(), image, Detections([(1.0, 1.0, 9.0, 9.0)], [0.9], image_size=SIZE))
    assert np.array_equal(image.array, IMAGE)
