"""Compare the faces of two photographs, with any ArcFace model in an ONNX file.

python examples/embeddings.py w600k_mbf.onnx one.jpg other.jpg
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime

from scrfd_trt import Detections, SCRFDDetector


class Embedder:
    """An ArcFace model: aligned faces of 112×112 pixels in, vectors of length 1 out."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, faces: Detections) -> np.ndarray:
        """Return the embeddings (N, D) of faces, at least one."""
        crops = faces.align(size=112)[..., ::-1]  # RGB
        batch = ((crops.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
        # One by one, because some models take no batches.
        found = np.concatenate([self.session.run(None, {self.input: face[None]})[0] for face in batch])
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def main(model: str, one: str, other: str) -> None:
    """Print the cosine similarity of each face in one photograph to each in the other."""
    embed = Embedder(model)
    with SCRFDDetector() as detector:
        found = {photo: detector(photo) for photo in (one, other)}
    for photo, faces in found.items():
        if not len(faces):
            raise SystemExit(f"{photo} has no face")
    similarity = embed(found[one]) @ embed(found[other]).T
    for number, row in enumerate(similarity):
        best = int(row.argmax())
        print(f"face {number} of {one}: most like face {best} of {other}, similarity {row[best]:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
