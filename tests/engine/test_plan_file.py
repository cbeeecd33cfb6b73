from __future__ import annotations

import logging

import pytest

from scrfd_trt import BackendError, DeviceError, ModelFormatError, ModelNotFoundError, _devices
from scrfd_trt._engine.runtime import load_engine


class TestFiles:
    """All of this is told without a GPU."""

    @pytest.fixture(autouse=True)
    def _no_gpu(self, monkeypatch):
        monkeypatch.setattr(_devices, "driver", lambda: _devices.Driver(None, (), "no NVIDIA driver"))

    def test_missing(self, tmp_path):
        with pytest.raises(ModelNotFoundError, match=r"missing.plan: there is no such file$"):
            load_engine(tmp_path / "missing.plan")
        with pytest.raises(ModelNotFoundError, match="cannot be read: Is a directory"):
            load_engine(tmp_path)

    @pytest.mark.parametrize("keep", [0, 4, 30, 100])
    def test_cut_off(self, write, keep):
        path = write()
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ModelFormatError, match=r"face.plan: this plan is (cut off|empty)"):
            load_engine(path)

    def test_zeros(self, write):
        path = write()
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(ModelFormatError, match="all zeros"):
            load_engine(path)

    def test_real_plans_cut_in_half(self, shared, tmp_path):
        for plan in sorted((shared / "engines").glob("*.plan")):
            half = tmp_path / plan.name
            half.write_bytes(plan.read_bytes()[: plan.stat().st_size // 2])
            with pytest.raises(ModelFormatError, match=r"cut off: it has \d+ of \d+ bytes"):
                load_engine(half)

    def test_another_plan_than_its_record_tells_of(self, write, record_of):
        path = write()
        record_of(path)
        changed = bytearray(path.read_bytes())
        changed[60] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ModelFormatError, match=r"damaged or replaced after .*face.plan.json.*remove that record"):
            load_engine(path)

    def test_a_record_that_cannot_be_read_is_told_and_left_out(self, write, caplog):
        path = write()
        path.with_name("face.plan.json").write_text("{")
        with caplog.at_level(logging.WARNING, "scrfd_trt"), pytest.raises(DeviceError):
            load_engine(path)
        assert "opened without its record" in caplog.text


def test_the_records_gpu_and_options_count(gpu, fakes, write, record_of, monkeypatch):
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
