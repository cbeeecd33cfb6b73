"""Detectors and results go to other processes, and are opened there once, at their first use."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from scrfd_trt import ClosedError, OptionError, SCRFDDetector, ScrfdError, _detector_base
from scrfd_trt._pipelines import factory
from scrfd_trt.backends import RecordedBackend

IMAGE = np.full((64, 64, 3), 90, np.uint8)


@pytest.fixture
def detector(network_500m):
    with SCRFDDetector.from_onnx(network_500m, device="cpu", scales=64, threshold=0.01) as opened:
        yield opened


@pytest.fixture
def elsewhere(monkeypatch):
    """Behave as a process that has received nothing yet, and count how often models are opened."""
    opened = []
    monkeypatch.setattr(_detector_base, "_shared", type(_detector_base._shared)())
    monkeypatch.setattr(_detector_base, "_received", type(_detector_base._received)(maxlen=1))
    own = factory.open_onnx
    monkeypatch.setattr(factory, "open_onnx", lambda *given, **how: opened.append(1) or own(*given, **how))
    return opened


def models_opened():
    return os.getpid(), [model.opened[1] for model in _detector_base._received]


@pytest.mark.slow
def test_spawned_processes_open_a_detector_once(detector):
    expected = detector.detect(IMAGE)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(detector.detect, [IMAGE] * 3)) == [expected] * 3
        process, opened = pool.submit(models_opened).result()
    assert process != os.getpid()
    assert opened == ["cpu"]


def test_detector_opens_at_its_first_use_and_once_for_all_copies(detector, elsewhere):
    expected, sent = detector.detect(IMAGE), pickle.dumps(detector)
    _detector_base._shared.clear()
    first, second = pickle.loads(sent), pickle.loads(sent)
    assert repr(first) == "<SCRFDDetector not opened yet in this process>"
    assert first.options == detector.options
    assert not elsewhere
    with pytest.raises(ScrfdError, match="there is not enough memory for an array of shape"):
        first.warmup((1 << 60, 3, 3))
    assert first.warmup().detect(IMAGE) == second.detect(IMAGE) == expected
    assert first.device == second.device == "cpu"
    del first, second
    with pickle.loads(sent) as third:  # the process has kept the model
        assert third.detect(IMAGE) == expected
    assert len(elsewhere) == 1
    with pickle.loads(sent) as again:
        assert again.detect(IMAGE) == expected
    assert len(elsewhere) == 2
    with pytest.raises(ClosedError):
        again.detect(IMAGE)


def test_detector_that_was_never_used_is_closed_without_opening(detector, elsewhere):
    sent = pickle.dumps(detector)
    _detector_base._shared.clear()
    with pickle.loads(sent) as received:
        pass
    with pytest.raises(ClosedError):
        received.detect(IMAGE)
    assert not elsewhere


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_within_a_process_share_the_model(detector, how):
    expected, other = detector.detect(IMAGE), how(detector)
    assert other._pipeline is detector._pipeline
    assert other.detect(IMAGE) == expected
    other.close()
    with pytest.raises(ClosedError):
        detector.detect(IMAGE)


def test_relative_path_and_own_options_survive(network_500m, elsewhere, monkeypatch, tmp_path):
    monkeypatch.chdir(network_500m.parent)
    with SCRFDDetector.from_onnx(network_500m.name, device="cpu", scales=64) as detector:
        sent = pickle.dumps(detector._looking(24, (90,)))
    _detector_base._shared.clear()
    monkeypatch.chdir(tmp_path)
    with pickle.loads(sent) as received:
        assert (received.options.min_face, received.options.rotations) == (24, (90,))
        assert received._has_own_options
        assert len(received.detect(IMAGE)) == 0


@pytest.mark.parametrize("how", [pickle.dumps, copy.deepcopy])
def test_what_cannot_be_opened_again_says_so_in_one_line(detector, root, how):
    recorded = SCRFDDetector.from_backend(RecordedBackend(root / "tests/data/recorded/500m_fp16.npz"))
    with (
        recorded,
        pytest.raises(ScrfdError, match="with a backend of its own cannot be pickled or copied: open one in"),
    ):
        how(recorded)
    detector.close()
    with pytest.raises(ClosedError, match="the detector was closed"):
        how(detector)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_results_and_errors_are_pickled(detector, protocol):
    found = detector.detect(IMAGE, threshold=0.001)
    assert pickle.loads(pickle.dumps(found, protocol)) == found
    assert [pickle.loads(pickle.dumps(face, protocol)) for face in found] == list(found)
    with pytest.raises(OptionError) as caught:
        detector.detect(IMAGE, threshold=2)
    error = pickle.loads(pickle.dumps(caught.value, protocol))
    assert (str(error), error.fields, error.value) == (str(caught.value), ("threshold",), 2)
