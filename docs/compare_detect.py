"""Time a detector of faces on images, and print its boxes as JSON. ``compare.py`` starts this in several environments.

python docs/compare_detect.py scrfd-trt|insightface MODEL.onnx SIZE SECONDS IMAGE...

``SIZE`` is the side of a single pass in pixels; 0 stands for the library's default. Each image is repeated for
``SECONDS``. Times are wall time and the CPU time of all threads.
"""

# ruff: noqa: PLC0415 (each environment has one of the libraries)

import json
import sys
import time

import cv2


def scrfd_trt(model, size):
    """Open scrfd_trt's detector; return a function that detects, and one that takes the boxes of its result."""
    from scrfd_trt import SCRFDDetector

    detector = SCRFDDetector(model, device="cpu", **({"scales": size} if size else {}))
    return detector.detect, lambda faces: faces.boxes


def insightface(model, size):
    """Open InsightFace's detector; return the same."""
    from insightface.model_zoo import get_model

    detector = get_model(model, providers=["CPUExecutionProvider"])
    detector.prepare(ctx_id=-1, **({"input_size": (size, size)} if size else {}))
    return detector.detect, lambda found: found[0][:, :4]


def main(library, model, size, seconds, *paths):
    """Print one line for each image."""
    images = [cv2.imread(path) for path in paths]
    detect, boxes = {"scrfd-trt": scrfd_trt, "insightface": insightface}[library](model, int(size))
    for image in images:
        detect(image)
    for image in images:
        runs, cpu, start = 0, time.process_time(), time.perf_counter()
        while not runs or time.perf_counter() - start < float(seconds):
            found = detect(image)
            runs += 1
        taken, cores = time.perf_counter() - start, time.process_time() - cpu
        print(json.dumps({"wall": taken / runs, "cpu": cores / runs, "boxes": boxes(found).tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
