"""Overlays on images in GPU memory against the overlays on the CPU, as CuPy, PyTorch and JAX hand out arrays."""

from __future__ import annotations

import numpy as np
import pytest
from overlay_pictures import (
    COVERING,
    FORMATS,
    apart,
    crowd,
    drawn_on_planes,
    left_uncovered,
    picture,
    share_within,
    to_planes,
)

import overlays
from scrfd_trt import ImageError, YUVImage

SIZE = (640, 360)
IMAGE, FACES = picture(SIZE), crowd(SIZE, 30)


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy")


@pytest.mark.parametrize("text", [*COVERING, "skull", "landmarks", "crop", "spotlight"])
def test_picture_is_the_hosts(cupy, text):
    overlay, image = overlays.parse(text), cupy.asarray(IMAGE)
    overlays.draw_on_gpu(overlay, image, FACES)
    wanted = overlay(IMAGE, FACES)
    assert share_within(image.get(), wanted, 2) > 0.9999
    assert apart(image.get(), wanted) <= 4
    assert left_uncovered(image.get(), IMAGE, wanted) == 0


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("text", COVERING)
def test_planes_are_the_hosts(cupy, text, layout):
    matrix, full_range, bits = FORMATS[layout]
    overlay, planes = overlays.parse(text), to_planes(IMAGE, matrix, full_range, bits)
    wide = [cupy.zeros((len(plane), 1024, *plane.shape[2:]), plane.dtype)[:, : plane.shape[1]] for plane in planes]
    for target, plane in zip(wide, planes, strict=True):
        target[...] = cupy.asarray(plane)
    overlays.draw_on_gpu(overlay, YUVImage(*wide, matrix, full_range), FACES)
    wanted = drawn_on_planes(overlay, *planes, matrix, full_range, FACES)
    for found, before, after in zip(wide, planes, wanted, strict=False):
        assert share_within(found.get(), after, 2) > 0.998
        assert apart(found.get(), after) <= 6
        # Where many faces overlap, a sample may come back to the level that it had.
        assert left_uncovered(found.get(), before, after) < 1e-4 * before.size


def test_torch_in_its_own_stream(torch):
    stream, wanted = torch.cuda.Stream(), overlays.Blur()(IMAGE, FACES)
    with torch.cuda.stream(stream):
        for _ in range(50):
            image = torch.from_numpy(IMAGE).cuda()
            overlays.draw_on_gpu(overlays.Blur(), image, FACES, stream=stream)
            found = image.cpu().numpy()
            assert apart(found, wanted) <= 4
    flipped = torch.from_numpy(IMAGE[:, ::-1].copy()).cuda().flip(1)
    overlays.draw_on_gpu(overlays.Blur(), flipped, FACES)
    assert apart(flipped.cpu().numpy(), wanted) <= 4


def test_jax_arrays_are_refused():
    image = pytest.importorskip("jax.numpy").asarray(IMAGE)
    with pytest.raises(ImageError, match="read-only"):
        overlays.draw_on_gpu(overlays.Blur(), image, FACES)
    assert np.array_equal(np.asarray(image), IMAGE)
