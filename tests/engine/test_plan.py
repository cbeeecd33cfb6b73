from __future__ import annotations

import pytest

from scrfd_trt import ModelFormatError
from scrfd_trt._engine.plan import PlanHeader, peek, read_header

END = bytes.fromhex("998b8d8b")

TENSORRT_8_6_0 = bytes.fromhex(
    "66747274 00000000 01000000 00000000 84383c00 00000000 0806000c 00000000 4e474e45 00000000"
    "38000000 00000000 43383c00 00000000 70747274 00000000 ec000000 00000000 2b383c00 00000000"
    "02800100 08028001 00060280 01000002 8001000c e5800100 07800100 00000000 12800100 10800100"
    "07800100 09000000 07800100 00000000"
)
"""The first 136 bytes of a plan built on an H100."""

TENSORRT_RTX_1_7 = bytes.fromhex(
    "76747274 00000000 02000000 00000000 b4b34b00 00000000 01070174 76747274 7e000000 00000000"
    "00000000 00000000 00000000 00000000 10f93100 00000000 4e474e45 00000000"
)
"""The first 72 bytes of a plan built for the GPUs that TensorRT-RTX takes by itself."""


def whole(start, *, size=None, end=END):
    """Make a plan of its first bytes, of the right size."""
    size = len(start) + len(end) if size is None else size
    return start[:16] + size.to_bytes(8, "little") + start[24:] + end


def changed(start, place, value):
    return start[:place] + value + start[place + len(value) :]


def test_a_plan_of_8_6():
    header = read_header(whole(TENSORRT_8_6_0))
    assert header == PlanHeader("tensorrt", (8, 6, 0, 12), ((9, 0),))
    assert header.release == (8, 6, 0)
    assert str(header) == "TensorRT 8.6.0"


@pytest.mark.parametrize(
    ("bits", "capabilities", "unlisted"),
    [
        (0x7E, ((8, 0), (8, 6), (8, 9), (12, 0), (12, 1)), True),
        (0x3E, ((8, 0), (8, 6), (8, 9), (12, 0), (12, 1)), False),
        (0x01, ((7, 5),), False),
        (0x0C, ((8, 6), (8, 9)), False),
    ],
)
def test_a_plan_of_rtx(bits, capabilities, unlisted):
    header = read_header(whole(changed(TENSORRT_RTX_1_7, 32, bytes([bits]))))
    assert header == PlanHeader("tensorrt_rtx", (1, 7, 1, 116), capabilities, unlisted)
    assert str(header) == "TensorRT-RTX 1.7.1"


@pytest.mark.parametrize(
    "start",
    [
        TENSORRT_8_6_0[:0x80],
        changed(TENSORRT_8_6_0, 0x6C, b"\x01"),
        changed(TENSORRT_8_6_0, 0x64, b"\xe6"),
        changed(TENSORRT_8_6_0, 24, bytes((10, 3, 0, 26))),
    ],
    ids=["short", "another field", "another tag", "TensorRT 10"],
)
def test_a_gpu_that_is_not_told_as_in_8_6_is_not_guessed(start):
    assert read_header(whole(start)).capabilities == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this plan is empty"),
        (bytes(5000), "this plan is damaged: it is all zeros"),
        (TENSORRT_8_6_0[:20], "this plan is cut off after 20 bytes"),
        (TENSORRT_8_6_0, "this plan is cut off: it has 136 of 3946628 bytes"),
        (TENSORRT_RTX_1_7, "this plan is cut off: it has 72 of 4961204 bytes"),
        (whole(TENSORRT_8_6_0) + b"more", "this plan is damaged: 4 bytes follow its end"),
        (whole(TENSORRT_8_6_0, end=bytes(4)), "its end is invalid"),
        (whole(TENSORRT_RTX_1_7, end=bytes(4)), "its end is invalid"),
        (b"\x08\x06\x12\x07pytorch", "this looks like an ONNX model, not a plan"),
        (b"some text", "this is not a TensorRT plan, or it is damaged: it begins with 73 6f 6d 65"),
        (bytes(32) + TENSORRT_8_6_0, "it begins with 00 00 00 00"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_whole_plan(content, message):
    with pytest.raises(ModelFormatError, match=message) as caught:
        read_header(content)
    assert "scrfd-trt build" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_end_of_releases_that_were_not_looked_at_is_not_checked():
    start = changed(TENSORRT_8_6_0, 24, bytes((10, 16, 1, 11)))
    assert read_header(whole(start, end=b"else")).release == (10, 16, 1)


def test_a_header_is_read_of_half_a_plan_too():
    assert peek(TENSORRT_8_6_0).version == (8, 6, 0, 12)
    assert peek(TENSORRT_8_6_0[:31]) is None
    assert peek(b"some text that is long enough for a header") is None


def test_real_plans(shared):
    for path in sorted((shared / "engines").glob("*.plan")):
        assert read_header(path.read_bytes()) == PlanHeader("tensorrt", (8, 6, 0, 12), ((9, 0),))
