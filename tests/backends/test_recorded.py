from __future__ import annotations

import json

import numpy as np
import pytest

from scrfd_trt import BackendError, ClosedError, ModelFormatError, ModelNotFoundError, SCRFDDetector
from scrfd_trt.backends import Backend, RecordedBackend, Recorder

IMAGES = [np.full((40, 64, 3), level, np.uint8) for level in (0, 120, 250)]


def test_recording_plays_back_the_same_faces(fake, tmp_path):
    recorder = Recorder(fake)
    with SCRFDDetector.from_backend(recorder) as detector:
        expected = [detector.detect(image) for image in IMAGES]
    assert fake.closed == 0
    recorder.save(tmp_path / "runs.npz")
    with SCRFDDetector.from_backend(RecordedBackend(tmp_path / "runs.npz")) as detector:
        assert detector.layout.kind == "batched"
        for _ in range(2):
            for image, faces in zip(IMAGES, expected, strict=True):
                again = detector.detect(image)
                assert len(again) == len(faces)
                assert np.allclose(again.boxes, faces.boxes, atol=0.1)
                assert np.allclose(again.scores, faces.scores, atol=1e-3)
    assert [len(faces) for faces in expected] != [0, 0, 0]


def test_rows_below_the_threshold_are_not_stored(fake, tmp_path):
    recorder = Recorder(fake)
    blob = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    outputs = recorder.run(blob)
    recorder.save(tmp_path / "all.npz")
    recorder.save(tmp_path / "above.npz", threshold=0.5)
    assert (tmp_path / "above.npz").stat().st_size < (tmp_path / "all.npz").stat().st_size
    played = RecordedBackend(tmp_path / "above.npz").run(blob)
    for level in range(3):
        above = outputs[level][0, :, 0] >= 0.5
        assert 0 < above.sum() < len(above)
        for group in (level, level + 3, level + 6):
            assert np.allclose(played[group][0][above], outputs[group][0][above], atol=1e-3)
            assert not played[group][0][~above].any()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_scores_are_compared_with_the_threshold_in_float32(fake, tmp_path, dtype):
    class Halves(Recorder):
        def run(self, blob):
            outputs = [np.full_like(output, 0.3001).astype(dtype) for output in fake.run(blob)]
            self._runs.append((blob.shape, outputs))

    recorder, blob = Halves(fake), np.zeros((1, 3, 64, 64), np.float32)
    recorder.run(blob)
    recorder.save(tmp_path / "runs.npz", threshold=0.3001)
    played = RecordedBackend(tmp_path / "runs.npz").run(blob)
    assert all(output.any() == (dtype == "float32") for output in played)  # the nearest float16 is 0.30005


def test_recording_is_a_backend_and_rejects_other_inputs(fake, tmp_path):
    recorder = Recorder(fake)
    recorder.run(np.zeros((1, 3, 64, 64), np.float32))
    recorder.save(tmp_path / "runs.npz")
    backend = RecordedBackend(tmp_path / "runs.npz")
    assert isinstance(backend, Backend)
    assert isinstance(recorder, Backend)
    with pytest.raises(BackendError, match="recorded with input"):
        backend.run(np.zeros((2, 3, 64, 64), np.float32))
    backend.close()
    backend.close()
    with pytest.raises(ClosedError):
        backend.run(np.zeros((1, 3, 64, 64), np.float32))


@pytest.mark.parametrize(
    "change",
    [
        {"ranges": [{"min": [1, 3], "opt": [1, 3, 64, 64], "max": [1, 3, 64, 64]}]},
        {"input": {"name": "x", "shape": ["a", 3, 64, 64], "dtype": "float32"}},
        {"input": {"name": "x", "shape": 5, "dtype": "float32"}},
        {"runs": [[1, 3, 64, 64], [1, 3, 64, 64]]},
        {"runs": 7},
        {"outputs": None},
    ],
)
def test_recording_with_invalid_content_is_rejected(fake, tmp_path, change):
    recorder = Recorder(fake)
    recorder.run(np.zeros((1, 3, 64, 64), np.float32))
    recorder.save(tmp_path / "runs.npz")
    with np.load(tmp_path / "runs.npz") as file:
        arrays = dict(file)
    about = json.loads(str(arrays.pop("about"))) | change
    np.savez(tmp_path / "other.npz", about=np.array(json.dumps(about)), **arrays)
    with pytest.raises(ModelFormatError, match=r"other\.npz: this is not a recording") as caught:
        RecordedBackend(tmp_path / "other.npz")
    assert "\n" not in str(caught.value)


def test_recording_of_other_types_is_rejected(fake, tmp_path):
    recorder = Recorder(fake)
    recorder.run(np.zeros((1, 3, 64, 64), np.float32))
    recorder.save(tmp_path / "runs.npz")
    with np.load(tmp_path / "runs.npz") as file:
        arrays = dict(file) | {"run0_0": np.array(["x"])}
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ModelFormatError, match="instead of floats"):
        RecordedBackend(tmp_path / "other.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut off"])
def test_other_files_are_rejected(content, tmp_path):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match="not a recording"):
        RecordedBackend(path)


def test_other_npz_and_missing_files_are_rejected(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ModelFormatError, match="not a recording"):
        RecordedBackend(tmp_path / "other.npz")
    with pytest.raises(ModelNotFoundError):
        RecordedBackend(tmp_path / "missing.npz")
