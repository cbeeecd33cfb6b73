"""Images that are PyTorch tensors, and aligned faces as a tensor, ready for a recognition model.

python examples/torch_tensors.py photo.jpg
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch

from scrfd_trt import SCRFDDetector


def as_image(tensor: torch.Tensor) -> np.ndarray:
    """Turn a tensor (3, H, W) of RGB, uint8 or float from 0 to 1, into an image that the detector takes."""
    levels = tensor.detach().cpu()
    if levels.is_floating_point():
        levels = (levels * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())


def as_batch(crops: np.ndarray) -> torch.Tensor:
    """Turn crops (N, 112, 112, 3) of uint8 into a batch (N, 3, 112, 112) from -1 to 1, as ArcFace models expect."""
    return (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - 127.5) / 127.5


def main(photo: str) -> None:
    """Find the faces of a tensor, and print the shape of the batch that they make."""
    tensor = torch.from_numpy(cv2.cvtColor(cv2.imread(photo), cv2.COLOR_BGR2RGB)).permute(2, 0, 1) / 255
    image = as_image(tensor)
    with SCRFDDetector(color="rgb") as detector:
        faces = detector.detect(image)
    boxes = torch.from_numpy(faces.boxes)
    batch = as_batch(faces.align(image, size=112))
    print(f"{len(faces)} faces, boxes {tuple(boxes.shape)}, batch {tuple(batch.shape)} of {batch.dtype}")


if __name__ == "__main__":
    main(sys.argv[1])
