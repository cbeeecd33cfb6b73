"""FaceAnalysis with the calls of InsightFace's: copy it into a program that moves over, and go on from there.

python examples/like_insightface.py photo.jpg
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np

from scrfd_trt import Detections, SCRFDDetector


class Face(dict[str, Any]):
    """A face whose fields are items and attributes: ``face["bbox"]`` or ``face.bbox``; None where there is none."""

    __setattr__ = dict.__setitem__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


class FaceAnalysis:
    """Faces of images of BGR. Only detection is done: for embeddings, see embeddings.py."""

    def __init__(self, name: str = "500m_bnkps", **_others: Any) -> None:
        self.name = name
        self.detector: SCRFDDetector | None = None

    def prepare(self, ctx_id: int, det_thresh: float = 0.5, det_size: tuple[int, int] | None = None) -> None:
        """Open the model: on the CPU if ``ctx_id`` is negative, for 0 on a GPU if there is one, else on this GPU.

        ``det_size`` is width and height of the input; None stands for the sizes 128 and 640.
        """
        device = "cpu" if ctx_id < 0 else f"cuda:{ctx_id}" if ctx_id else "auto"
        scales = None if det_size is None else (det_size,)
        self.detector = SCRFDDetector(self.name, device=device, threshold=det_thresh, scales=scales)

    def get(self, img: np.ndarray, max_num: int = 0) -> list[Face]:
        """Return the faces with ``bbox`` (4,), ``det_score`` and ``kps`` (5, 2); ``max_num`` 0 means all.

        They are sorted by score. InsightFace's ``max_num`` prefers large faces in the middle; here, it is the score.
        """
        if self.detector is None:
            raise RuntimeError("call prepare(ctx_id=0) first")
        faces = self.detector.detect(img, max_faces=max_num or None)
        points = [None] * len(faces) if faces.landmarks is None else faces.landmarks
        columns = zip(faces.boxes, points, faces.scores, strict=True)
        return [Face(bbox=box, kps=five, det_score=score) for box, five, score in columns]

    def draw_on(self, img: np.ndarray, faces: list[Face]) -> np.ndarray:
        """Return a copy of the image with the boxes, scores and landmarks of these faces."""
        rows = [{"box": face.bbox, "score": face.det_score, "landmarks": face.kps} for face in faces]
        return Detections.from_rows(rows, img.shape[1::-1]).plot(img)


def main(photo: str) -> None:
    """Print the faces of a photograph."""
    app = FaceAnalysis()
    app.prepare(ctx_id=-1, det_size=(640, 640))
    for face in app.get(cv2.imread(photo)):
        print(f"{face.det_score:.2f} {face['bbox'].astype(int).tolist()} nose at {face.kps[2].astype(int).tolist()}")


if __name__ == "__main__":
    main(sys.argv[1])
