from __future__ import annotations

import pytest

from scrfd_trt import DetectorOptions, OptionError


@pytest.mark.parametrize(
    ("value", "scales"),
    [
        (640, ((640, 640),)),
        ((640,), ((640, 640),)),
        ([128, 640], ((128, 128), (640, 640))),
        (((640, 384),), ((640, 384),)),
        (((640, 384), 128), ((640, 384), (128, 128))),
        (None, None),
    ],
)
def test_scales_are_normalised(value, scales):
    assert DetectorOptions(scales=value).scales == scales


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "threshold: .*1.5"),
        ({"threshold": float("nan")}, "threshold"),
        ({"iou": -1}, "iou"),
        ({"scales": 100}, r"^scales\.0\.0: must be a multiple of 32 \(it is 100\)$"),
        ({"scales": ()}, r"^scales: must have a length of at least 1 \(it is \(\)\)$"),
        ({"scales": "640"}, "^scales: must be a whole number, or a list of them "),
        ({"scales": (0,)}, "scales"),
        ({"max_faces": 0}, "max_faces"),
        ({"color": "gbr"}, "'bgr', 'rgb' or 'nv12'"),
        ({"max_batch": 0}, "max_batch"),
        ({"treshold": 0.5}, "no option 'treshold'; did you mean 'threshold'\\? the options are: threshold, iou"),
    ],
)
def test_invalid_options_are_rejected_in_one_line(options, message):
    with pytest.raises(OptionError, match=message) as caught:
        DetectorOptions(**options)
    assert "\n" not in str(caught.value)
    assert "errors.pydantic.dev" not in str(caught.value)


def test_options_are_frozen():
    with pytest.raises(OptionError, match=r"^DetectorOptions.threshold is read-only: pass it to DetectorOptions\(…\)$"):
        DetectorOptions().threshold = 0.1
