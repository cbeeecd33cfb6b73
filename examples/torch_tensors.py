"""Images that are PyTorch tensors, and aligned faces as a tensor, ready for a recognition model.

python examples/torch_tensors.py photo.jpg
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch

from scrfd_trt import SCRFDDetector


def as_batch(crops: np.ndarray) -> torch.Tensor:
    """Turn crops (N, 112, 112, 3) of uint8 into a batch (N, 3, 112, 112) from -1 to 1, as ArcFace models expect."""
    return (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - 127.5) / 127.5


def main(photo: str) -> None:
    """Find the faces of a tensor, and print the shape of the batch that they make."""
    image = cv2.cvtColor(cv2.imread(photo), cv2.COLOR_BGR2RGB)
    tensor = torch.from_numpy(image).permute(2, 0, 1) / 255  # (3, H, W), RGB from 0 to 1
    with SCRFDDetector(color="rgb") as detector:
        faces = detector.detect(tensor)
    boxes = torch.from_numpy(faces.boxes)
    batch = as_batch(faces.align(image, size=112))
    print(f"{len(faces)} faces, boxes {tuple(boxes.shape)}, batch {tuple(batch.shape)} of {batch.dtype}")


if __name__ == "__main__":
    main(sys.argv[1])
