from __future__ import annotations

import logging

import pytest
from engine_backend import load_engine

from scrfd_trt import BackendError, DeviceError, ModelFormatError, ModelNotFoundError, _devices
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
"""The first 72 bytes of a plan for TensorRT-RTX's default GPUs."""


def whole(start, *, size=None, end=END):
    """Return a complete plan with these first bytes."""
    size = len(start) + len(end) if size is None else size
    return start[:16] + size.to_bytes(8, "little") + start[24:] + end


def changed(start, place, value):
    return start[:place] + value + start[place + len(value) :]


def test_header_of_8_6():
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
def test_header_of_rtx(bits, capabilities, unlisted):
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
def test_unknown_gpu_encoding_gives_no_capability(start):
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
        (b"some text", "this is not a TensorRT engine, or it is damaged; build"),
        (bytes(32) + TENSORRT_8_6_0, "this is not a TensorRT engine, or it is damaged; build"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_plans(content, message):
    with pytest.raises(ModelFormatError, match=message) as caught:
        read_header(content)
    assert "scrfd-trt build" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_end_of_unexamined_releases_is_not_checked():
    start = changed(TENSORRT_8_6_0, 24, bytes((10, 16, 1, 11)))
    assert read_header(whole(start, end=b"else")).release == (10, 16, 1)


def test_peek_at_truncated_plan():
    assert peek(TENSORRT_8_6_0).version == (8, 6, 0, 12)
    assert peek(TENSORRT_8_6_0[:31]) is None
    assert peek(b"some text that is long enough for a header") is None


def test_header_of_real_plans(shared):
    for path in sorted((shared / "engines").glob("*.plan")):
        assert read_header(path.read_bytes()) == PlanHeader("tensorrt", (8, 6, 0, 12), ((9, 0),))


class TestFiles:
    """Errors that are reported without a GPU."""

    @pytest.fixture(autouse=True)
    def _no_gpu(self, monkeypatch):
        monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, (), "no NVIDIA driver"))

    def test_missing_file(self, tmp_path):
        with pytest.raises(ModelNotFoundError, match=r"missing.plan: there is no such file$"):
            load_engine(tmp_path / "missing.plan")
        with pytest.raises(ModelNotFoundError, match="cannot be read: it is a folder or device"):
            load_engine(tmp_path)

    @pytest.mark.parametrize("keep", [0, 4, 30, 100])
    def test_truncated_plan(self, write, keep):
        path = write()
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ModelFormatError, match=r"face.plan: this plan is (cut off|empty)"):
            load_engine(path)

    def test_plan_of_zeros(self, write):
        path = write()
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(ModelFormatError, match="all zeros"):
            load_engine(path)

    def test_truncated_real_plans(self, shared, tmp_path):
        for plan in sorted((shared / "engines").glob("*.plan")):
            half = tmp_path / plan.name
            half.write_bytes(plan.read_bytes()[: plan.stat().st_size // 2])
            with pytest.raises(ModelFormatError, match=r"cut off: it has \d+ of \d+ bytes"):
                load_engine(half)

    def test_plan_that_differs_from_its_record(self, write, record_of):
        path = write()
        record_of(path)
        changed = bytearray(path.read_bytes())
        changed[60] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ModelFormatError, match=r"damaged or replaced after .*face.plan.json.*remove that record"):
            load_engine(path)

    def test_invalid_record_is_logged_and_ignored(self, write, caplog):
        path = write()
        path.with_name("face.plan.json").write_text("{")
        with caplog.at_level(logging.WARNING, "scrfd_trt"), pytest.raises(DeviceError):
            load_engine(path)
        assert "opened without its record" in caplog.text


def test_gpu_and_options_of_the_record_are_used(gpu, fakes, write, record_of, monkeypatch):
    path = write(version=(10, 3, 0, 26))
    record_of(path, gpu={"name": "L4", "compute_capability": [8, 9]})
    fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt", "10.3.0"))
    with pytest.raises(BackendError, match=r"built for compute capability 8.9"):
        load_engine(path)
    record_of(path, gpu={"name": "L4", "compute_capability": [8, 9]}, options={"hardware_compatible": True})
    load_engine(path).close()
    fakes.use(monkeypatch, fakes.flavour(gpu, "tensorrt", "10.16.1"))
    with pytest.raises(BackendError, match=r"TensorRT 10.3.0 built it, which tensorrt 10.16.1 cannot run"):
        load_engine(path, allow_host_code=True)
    record_of(path, options={"version_compatible": True})
    load_engine(path, allow_host_code=True).close()
