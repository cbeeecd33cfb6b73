"""Compare a network that was made ready for TensorRT with the file that it came from, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrfd_trt import samples
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.engine.graph import PreparedNetwork, Request
from scrfd_trt.engine.rows import EXACT, HALF, THRESHOLD, Rows, Tolerance, differences, rows_of
from scrfd_trt.errors import BackendError, ModelFormatError
from scrfd_trt.heads import recognize
from scrfd_trt.letterbox import Letterbox, normalize_into

Size = tuple[int, int]


@dataclass(frozen=True)
class Agreement:
    """How near a prepared network comes to the original at one size.

    Attributes
    ----------
    size
        Width and height of the input in pixels.
    score
        Largest difference of any score.
    box
        Largest difference of a box's side or a landmark in input pixels; FP16: of rows that may be faces.
    faces
        How many faces the original found in the samples, all of which were found again.
    """

    size: Size
    score: float
    box: float
    faces: int

    def __str__(self) -> str:
        width, height = self.size
        return f"{width}×{height}: scores within {self.score:.1g}, boxes within {self.box:.1g} px, {self.faces} faces"


def compare(original: Path, prepared: PreparedNetwork) -> tuple[Agreement, ...]:
    """Check on drawn samples that a prepared network gives what the original gives.

    Batches of the least size and of one more are run at each size. FP16 networks are run as they are and with rounding
    after each step. Where the original's size is fixed at another one, the steps that free it are checked at its own
    size first.

    Parameters
    ----------
    original
        The ONNX file.
    prepared
        What :func:`scrfd_trt.engine.graph.prepare` made of it.

    Returns
    -------
    tuple of Agreement
        One a size.

    Raises
    ------
    MissingDependencyError
        Without onnxruntime.
    ModelFormatError
        If scores, boxes or faces differ by more than rounding explains.
    """
    try:
        return _compare(Path(original), prepared)
    except (BackendError, ModelFormatError) as error:  # a run fails where the network does not fit together
        advice = "; choose precision tf32 or fp32" if prepared.precision == "fp16" else ""
        raise ModelFormatError(
            f"{original}: made ready for TensorRT, the network is not the same any more: {error}{advice}"
        ) from error


def _compare(original: Path, prepared: PreparedNetwork) -> tuple[Agreement, ...]:
    from scrfd_trt.engine.rounding import with_rounding  # noqa: PLC0415 - needs onnx, which is optional

    first = OnnxBackend(original)
    if not any(_takes(first, size) for size in prepared.sizes):
        _compare(original, _as_it_is(original, None))
    networks = [OnnxBackend(prepared.model)]
    tolerance = EXACT
    if rounding := with_rounding(prepared.model):
        networks.append(OnnxBackend(rounding))
        tolerance = HALF
    # A group, and a face that fills the frame.
    images = (samples.load("group").image, samples.load("portrait").image)
    found = []
    for size in prepared.sizes:
        reference = first if _takes(first, size) else OnnxBackend(_as_it_is(original, (size,)).model)
        blob = _samples(images, size)
        wanted = [_rows(reference, blob[index : index + 1], size, tolerance)[0] for index in range(len(blob))]
        runs = [(network, count) for network in networks for count in _batches(prepared, size)]
        found.append(_agreement(runs, blob, size, wanted, tolerance))
    return tuple(found)


def _as_it_is(original: Path, sizes: tuple[Size, ...] | None) -> PreparedNetwork:
    from scrfd_trt.engine.rewriting import rewrite  # noqa: PLC0415 - needs onnx, which is optional

    return rewrite(original, Request(sizes, (1, 1, 1), batch_one=False, precision=None, io="float32"))


def _agreement(
    runs: list[tuple[OnnxBackend, int]], blob: NDArray[np.float32], size: Size, wanted: list[Rows], tolerance: Tolerance
) -> Agreement:
    scores, boxes = [0.0], [0.0]
    for network, count in runs:
        given = _rows(network, blob[np.arange(count) % len(blob)], size, tolerance)
        for index, rows in enumerate(given):
            try:
                score, box = differences(wanted[index % len(blob)], rows, tolerance)
            except ModelFormatError as error:
                raise ModelFormatError(f"at batch {count} and {size[0]}×{size[1]} pixels {error}") from error
            scores.append(score)
            boxes.append(box)
    faces = sum(int((rows.faces.scores >= THRESHOLD).sum()) for rows in wanted)
    return Agreement(size, max(scores), max(boxes), faces)


def _samples(images: Sequence[NDArray[np.uint8]], size: Size) -> NDArray[np.float32]:
    """Letterbox the images as ``(B, 3, H, W)``."""
    blob = np.empty((len(images), 3, size[1], size[0]), np.float32)
    for planes, image in zip(blob, images, strict=True):
        normalize_into(planes, image, Letterbox.fit((image.shape[1], image.shape[0]), size))
    return blob


def _batches(prepared: PreparedNetwork, size: Size) -> list[int]:
    ranges = [shape for shape in prepared.ranges if (shape.best[3], shape.best[2]) == size]
    counts = {count for shape in ranges for count in (shape.least[0], min(shape.least[0] + 1, shape.most[0]))}
    return sorted(counts)


def _takes(network: OnnxBackend, size: Size) -> bool:
    return all(own in {None, asked} for own, asked in zip(network.input.shape[2:], size[::-1], strict=True))


def _rows(network: OnnxBackend, blob: NDArray[np.float32], size: Size, tolerance: Tolerance) -> list[Rows]:
    # A network of a fixed batch gets the images again and again until it is full.
    batch = network.input.shape[0] or len(blob)
    outputs = [np.asarray(output, np.float32) for output in network.run(blob[np.arange(batch) % len(blob)])]
    layout = recognize(network.outputs)
    return [rows_of(layout, outputs, index, size, tolerance.score) for index in range(len(blob))]
