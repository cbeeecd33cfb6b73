"""Ask Triton Inference Server for the faces in image files.

pip install "tritonclient[grpc]"
scrfd-trt export triton models && tritonserver --model-repository $PWD/models
python examples/triton_client.py localhost:8001 photo.jpg group.jpg
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton


def main(address: str, paths: list[str]) -> None:
    with (
        triton.InferenceServerClient(address) as client,
        ThreadPoolExecutor(16) as pool,
    ):  # Triton makes batches of them
        # Triton makes batches of requests that come at the same time.
        results = pool.map(lambda path: client.infer("scrfd", [encoded(path)]), paths)
        for path, found in zip(paths, results, strict=True):
            boxes, scores = found.as_numpy("boxes")[0], found.as_numpy("scores")[0]
            print(f"{path}: {len(boxes)} faces")
            for box, score in zip(boxes, scores, strict=True):
                print(f"  {score:.2f}  {' '.join(f'{side:.0f}' for side in box)}")


def encoded(path: str) -> triton.InferInput:
    """Return an image file as the input of one request."""
    image = triton.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[Path(path).read_bytes()]], object))
    return image


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
