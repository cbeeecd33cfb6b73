from __future__ import annotations

import pytest

from scrfd_trt import BackendError
from scrfd_trt._pipelines.profiles import Part, describe, largest_batch, opt_sizes, split
from scrfd_trt._tensors import ShapeRange


def profile(min_batch, opt_batch, max_batch, side=640, down=None):
    sides = (3, down or side, side)
    return ShapeRange((min_batch, *sides), (opt_batch, *sides), (max_batch, *sides))


ONE, MANY = profile(1, 1, 1), profile(1, 8, 32)
FREE = ShapeRange((1, 3, 64, 64), (4, 3, 640, 640), (8, 3, 640, 1280))


@pytest.mark.parametrize(
    ("ranges", "images", "parts"),
    [
        ([MANY, ONE], 1, [Part(0, 1, 1, 1)]),
        ([ONE, MANY], 2, [Part(0, 2, 2, 1)]),
        ([MANY, ONE], 33, [Part(0, 32, 32, 0), Part(32, 33, 1, 1)]),
        ([MANY], 70, [Part(0, 32, 32, 0), Part(32, 64, 32, 0), Part(64, 70, 6, 0)]),
        ([ONE], 3, [Part(0, 1, 1, 0), Part(1, 2, 1, 0), Part(2, 3, 1, 0)]),
        ([profile(4, 4, 4)], 6, [Part(0, 4, 4, 0), Part(4, 6, 4, 0)]),
        ([profile(1, 1, 4), profile(1, 4, 4), profile(1, 16, 32)], 4, [Part(0, 4, 4, 1)]),
        ([profile(1, 8, 32), profile(6, 8, 10)], 8, [Part(0, 8, 8, 1)]),
        ([profile(8, 8, 8), profile(1, 1, 2)], 3, [Part(0, 3, 8, 0)]),
        ([profile(1, 8, 32, side=128), MANY], 5, [Part(0, 5, 5, 1)]),
    ],
)
def test_batch_is_split_over_the_nearest_profiles(ranges, images, parts):
    assert split(ranges, (images, 3, 640, 640)) == tuple(parts)


@pytest.mark.parametrize("images", range(1, 100))
def test_every_image_is_in_one_part_that_its_profile_accepts(images):
    ranges = [ONE, profile(3, 8, 16), MANY]
    parts = split(ranges, (images, 3, 640, 640))
    assert [number for part in parts for number in range(part.start, part.stop)] == list(range(images))
    assert all(ranges[part.profile].admits((part.batch_size, 3, 640, 640)) for part in parts)
    assert all(part.batch_size == part.stop - part.start for part in parts)


@pytest.mark.parametrize("shape", [(1, 3, 320, 320), (1, 4, 640, 640), (0, 3, 640, 640), (640, 640), (1, 3, 641, 640)])
def test_shape_that_no_profile_accepts(shape):
    with pytest.raises(BackendError, match=r"cannot take an input of .*; it takes: 1×3×640×640, 1…32×3×640×640$"):
        split([ONE, MANY], shape)


def test_sizes():
    small = profile(1, 8, 16, side=128)
    assert opt_sizes([MANY, small, ONE]) == ((128, 128), (640, 640))
    assert opt_sizes([profile(1, 1, 1, side=640, down=384)]) == ((640, 384),)
    assert opt_sizes([]) == ()
    assert largest_batch([ONE, MANY, small], (640, 640)) == 32
    assert largest_batch([ONE, MANY, small], (128, 128)) == 16
    assert largest_batch([ONE, MANY, small], (640, 128)) == 0
    assert largest_batch([FREE], (1280, 640)) == 8
    assert largest_batch([FREE], (640, 1280)) == 0


def test_describe():
    assert describe([FREE, ONE, ONE]) == "1…8×3×64…640×64…1280, 1×3×640×640"
    assert describe([]) == "nothing"
