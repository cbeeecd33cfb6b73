"""Record the outputs of models and engines, for tests on machines that cannot run them.

    python tests/record.py MODEL.onnx ENGINE.plan ...

Each runs on the drawn scene, and on the photographs in ``../shared/images`` (or in the folder ``SCRFD_TRT_SHARED``) if
there are any. The outputs, rounded to float16, go to ``tests/data/recorded/NAME.npz``, and the detections that follow
from them to ``NAME.json``. ``tests/test_recorded_networks.py`` plays them back, which requires only the image sizes.
Faces that the rounding changes are printed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parent / "cuda"))

from engine_backend import EngineBackend

from scrfd_trt import Detections, DetectorOptions, SCRFDDetector, samples
from scrfd_trt._pipelines import HostPipeline
from scrfd_trt._pipelines.verify_engine import differences
from scrfd_trt.backends import Backend, OnnxBackend, RecordedBackend, Recorder

FOLDER = Path(__file__).parent / "data" / "recorded"
SHARED = Path(os.environ.get("SCRFD_TRT_SHARED") or Path(__file__).parents[2] / "shared")
MIN_SCORE = 0.2  # minimum score of the rows to store; most rows are below


def record(path: Path) -> None:
    backend: Backend = OnnxBackend(path) if path.suffix == ".onnx" else EngineBackend(path)
    recorder = Recorder(backend)
    images = {"scene": samples.load("group").image}
    images |= {photograph.name: cv2.imread(str(photograph)) for photograph in sorted(SHARED.glob("images/*"))}
    live = detect(recorder, images)
    backend.close()
    FOLDER.mkdir(parents=True, exist_ok=True)
    recorder.save(FOLDER / f"{path.stem}.npz", threshold=MIN_SCORE)
    played = detect(RecordedBackend(FOLDER / f"{path.stem}.npz"), images)
    rows = {name: json.loads(faces.to_json()) for name, faces in played.items()}
    (FOLDER / f"{path.stem}.json").write_text(json.dumps(rows) + "\n", encoding="utf-8")
    for name, faces in played.items():
        unlike = differences(faces, live[name], above=0.55)
        print(f"{path.stem}, {name}: {len(faces)} faces", *unlike, sep="; ")


def detect(backend: Backend, images: dict[str, NDArray[np.uint8]]) -> dict[str, Detections]:
    options = DetectorOptions()
    pipeline = HostPipeline(backend, options, cut_padding=False)
    with SCRFDDetector._of(pipeline, options, device="cpu") as detector:
        return {name: detector.detect(image) for name, image in images.items()}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        record(Path(name))
