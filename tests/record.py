"""Record what networks give for the drawn scene, for tests on machines that cannot run them.

    python tests/record.py NETWORK.onnx [NETWORK.onnx ...]

Each network's raw outputs go to ``tests/data/recorded/NAME.npz`` and the detections that were made of them to
``NAME.json``; ``tests/test_recorded_networks.py`` plays them back.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scrfd_trt import SCRFDDetector
from scrfd_trt.backends import OnnxBackend, Recorder
from scrfd_trt.samples import scene

FOLDER = Path(__file__).parent / "data" / "recorded"
QUIET = 0.05  # rows below this score are left out; they make up most of the file


def record(path: Path) -> None:
    backend = OnnxBackend(path)
    recorder = Recorder(backend)
    with SCRFDDetector.from_backend(recorder) as detector:
        faces = detector.detect(scene().image)
    backend.close()
    FOLDER.mkdir(parents=True, exist_ok=True)
    recorder.save(FOLDER / f"{path.stem}.npz", threshold=QUIET)
    (FOLDER / f"{path.stem}.json").write_text(faces.to_json(indent=1) + "\n", encoding="utf-8")
    print(f"{path.stem}: {len(faces)} faces, {(FOLDER / f'{path.stem}.npz').stat().st_size} bytes")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        record(Path(name))
