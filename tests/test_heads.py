from __future__ import annotations

import numpy as np
import pytest

from scrfd_trt._heads import HeadLayout, check, recognize
from scrfd_trt._tensors import TensorSpec
from scrfd_trt.errors import ModelFormatError

WIDTHS = {"score": 1, "bbox": 4, "kps": 10}


def outputs(kind, strides=(8, 16, 32), anchors=2, size=640, kps=True, names=True, free=False):
    """Return the outputs of a model of this kind."""
    found = []
    for group in ("score", "bbox", "kps") if kps else ("score", "bbox"):
        for stride in strides:
            cells, width = size // stride, WIDTHS[group]
            rows = None if free else cells * cells * anchors
            shape = {
                "flat": (rows, width),
                "batched": (None, rows, width),
                "grid": (1, anchors * width, None if free else cells, None if free else cells),
            }[kind]
            found.append(TensorSpec(f"{group}_{stride}" if names else str(440 + 7 * len(found)), shape))
    return found


@pytest.mark.parametrize("kps", [True, False])
@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("kind", ["flat", "batched", "grid"])
@pytest.mark.parametrize(("strides", "anchors"), [((8, 16, 32), 2), ((8, 16, 32, 64, 128), 1)])
def test_layouts_are_recognised(kind, strides, anchors, kps, names, free):
    layout = recognize(outputs(kind, strides, anchors, kps=kps, names=names, free=free))
    count = len(strides)
    assert layout == HeadLayout(
        kind,
        strides,
        anchors,
        tuple(range(count)),
        tuple(range(count, 2 * count)),
        tuple(range(2 * count, 3 * count)) if kps else None,
    )


@pytest.mark.parametrize("kind", ["flat", "batched", "grid"])
@pytest.mark.parametrize("names", [True, False])
def test_outputs_in_another_order_are_sorted_by_name_or_size(kind, names):
    ordered = outputs(kind, names=names)
    shuffle = [4, 8, 0, 2, 6, 1, 7, 3, 5]
    layout = recognize([ordered[index] for index in shuffle])
    assert [shuffle[index] for index in layout.scores] == [0, 1, 2]
    assert [shuffle[index] for index in layout.boxes] == [3, 4, 5]
    assert [shuffle[index] for index in layout.landmarks] == [6, 7, 8]


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [TensorSpec("embedding", (1, 512))],
        outputs("flat")[:8],
        outputs("flat")[:3] + outputs("grid")[3:],
        outputs("flat")[:6] + [TensorSpec(f"x{n}", (10, 7)) for n in range(3)],
        outputs("flat")[:3] + outputs("flat")[6:9],
        [TensorSpec(f"s{n}", (10, 1)) for n in range(9)],
        outputs("grid", anchors=3),
    ],
)
def test_other_models_are_rejected_with_their_outputs(tensors):
    with pytest.raises(ModelFormatError, match="not a SCRFD model") as caught:
        recognize(tensors)
    assert "\n" not in str(caught.value)
    for tensor in tensors:
        assert tensor.name in str(caught.value)


@pytest.mark.parametrize("kind", ["flat", "batched", "grid"])
def test_all_layouts_return_the_same_rows(kind):
    """Row r of the flat layout has 100 r + c in column c; the other layouts have the same numbers in another order."""
    cells, anchors, images = 4, 2, 1 if kind == "flat" else 3
    layout = recognize(outputs(kind))
    for width in (4, 10):
        flat = 100 * np.arange(cells * cells * anchors)[:, None] + np.arange(width)
        batch = np.stack([flat + 10_000 * image for image in range(images)])
        array = {
            "flat": batch[0],
            "batched": batch,
            "grid": batch.reshape(images, cells, cells, anchors, width)
            .transpose(0, 3, 4, 1, 2)
            .reshape(images, anchors * width, cells, cells),
        }[kind]
        rows = np.array([0, 1, 5, 31, 30, 7])
        for image in range(images):
            got = layout.read_rows(array.astype(np.float16 if kind == "flat" else np.float32), image, rows)
            assert got.dtype == np.float32
            assert np.allclose(got, batch[image][rows], atol=2)
    scores = np.arange(images * cells * cells * anchors).reshape(images, -1)
    array = {
        "flat": scores[0][:, None],
        "batched": scores[..., None],
        "grid": scores.reshape(images, cells, cells, anchors).transpose(0, 3, 1, 2),
    }[kind]
    for image in range(images):
        assert np.array_equal(layout.read_scores(array, image), scores[image])


def test_wrong_row_counts_are_rejected():
    layout = recognize(outputs("batched"))
    arrays = [
        np.zeros((1, (64 // stride) ** 2 * 2, width), np.float32) for width in (1, 4, 10) for stride in (8, 16, 32)
    ]
    check(layout, arrays, (64, 64))
    with pytest.raises(ModelFormatError, match="not a SCRFD model"):
        check(layout, arrays, (96, 64))
    arrays[5] = arrays[5][:, :1]
    with pytest.raises(ModelFormatError, match="bbox of stride 32"):
        check(layout, arrays, (64, 64))


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.swapaxes(2, 3),
        lambda array: array.swapaxes(1, 2),
        lambda array: array.astype(int),
        lambda array: np.concatenate([array, array]),
    ],
)
def test_outputs_of_another_shape_or_type_are_rejected(change):
    layout = recognize(outputs("grid"))
    arrays = [
        np.zeros((1, 2 * width, 64 // stride, 96 // stride), np.float16)
        for width in (1, 4, 10)
        for stride in (8, 16, 32)
    ]
    check(layout, arrays, (96, 64), 1)
    with pytest.raises(ModelFormatError, match="score of stride 8 has shape"):
        check(layout, [change(arrays[0]), *arrays[1:]], (96, 64), 1)


def test_real_models(network_500m, models_2_5g):
    from scrfd_trt.backends import OnnxBackend

    for path, kind in [(network_500m, "batched"), (models_2_5g["grid"], "grid"), (models_2_5g["flat"], "batched")]:
        backend = OnnxBackend(path)
        layout = recognize(backend.outputs)
        assert (layout.kind, layout.strides, layout.anchors) == (kind, (8, 16, 32), 2)
        assert layout.landmarks == (6, 7, 8)
        backend.close()
