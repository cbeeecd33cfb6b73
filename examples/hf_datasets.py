"""Add the faces to each image of a Hugging Face data set, in two processes.

python examples/hf_datasets.py photos/
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from datasets import Dataset, load_dataset

from scrfd_trt import SCRFDDetector


def add_faces(rows: dict[str, list[Any]], detector: SCRFDDetector) -> dict[str, list[Any]]:
    """Return a column ``faces``: for each image, a list of boxes, scores and landmarks."""
    # The images are those of PIL, which know their colours.
    return {"faces": [faces.to_dicts() for faces in detector.detect_batch(rows["image"])]}


def main(folder: str) -> Dataset:
    """Print how many faces each image has."""
    photos = load_dataset("imagefolder", data_dir=folder, split="train")
    # Each process opens the model for itself.
    find = partial(add_faces, detector=SCRFDDetector())
    found = photos.map(find, batched=True, batch_size=16, num_proc=min(2, len(photos)))
    for number, row in enumerate(found.select_columns("faces")):
        count = len(row["faces"])
        print(f"image {number}: {count} face{'s' * (count != 1)}")
    return found


if __name__ == "__main__":
    main(sys.argv[1])
