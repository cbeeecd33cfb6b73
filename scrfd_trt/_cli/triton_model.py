"""Python model of Triton Inference Server: the faces in image files, found with scrfd_trt.

``scrfd-trt export triton`` copies this file into a model repository. The network is another model of the repository,
which has the same name followed by ``_network``. Requires scrfd_trt in Triton's Python, and Triton 23.09 or newer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from scrfd_trt import Detections, ImageError, SCRFDDetector, ScrfdError
from scrfd_trt.backends import ShapeRange, TensorSpec
from scrfd_trt.errors import BackendError


class Network:
    """The network as a backend of the detector: each run is a request to the other model."""

    def __init__(self, name: str, about: dict[str, Any]) -> None:
        self.input = _tensor(about["input"])
        self.outputs = [_tensor(each) for each in about["outputs"]]
        self.ranges = [ShapeRange(**{end: tuple(shape) for end, shape in each.items()}) for each in about["ranges"]]
        self.description = f"the model {name} of Triton"
        self._name = name

    def run(self, blob: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Run the network once; see :meth:`scrfd_trt.backends.Backend.run`."""
        request = pb_utils.InferenceRequest(
            model_name=self._name,
            requested_output_names=[tensor.name for tensor in self.outputs],
            inputs=[pb_utils.Tensor(self.input.name, blob.astype(self.input.dtype, copy=False))],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = request.exec()
        if response.has_error():
            raise BackendError(f"{self.description} failed: {response.error().message()}")
        found = [pb_utils.get_output_tensor_by_name(response, tensor.name) for tensor in self.outputs]
        return [tensor.as_numpy().copy() for tensor in found]  # copied, because the response owns the memory

    def close(self) -> None:
        """Do nothing: Triton owns the network."""


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the detector with the options in ``detector.json``."""
        path = Path(args["model_repository"], args["model_version"], "detector.json")
        about = json.loads(path.read_text(encoding="utf-8"))
        network = Network(f"{args['model_name']}_network", about["network"])
        self._detector = SCRFDDetector.from_backend(network, **about["options"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Detect the faces in the images of all requests together; an image that fails is an error of its request."""
        groups = [pb_utils.get_input_tensor_by_name(each, "image").as_numpy().ravel().tolist() for each in requests]
        images = [image for group in groups for image in group]
        found: list[Detections | ScrfdError]
        try:
            found = self._detector.detect_batch(images, on_error="return")
        except ScrfdError as error:
            found = [error] * len(images)
        rest = iter(found)
        return [_response([next(rest) for _ in group]) for group in groups]

    def finalize(self) -> None:
        """Close the detector."""
        self._detector.close()


def _response(found: Sequence[Detections | ScrfdError]) -> Any:
    """Return the faces of the images of one request; rows beyond ``count`` are zero."""
    faces: list[Detections] = []
    for one in found:
        if isinstance(one, ScrfdError):
            code = pb_utils.TritonError.INVALID_ARG if isinstance(one, ImageError) else pb_utils.TritonError.INTERNAL
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(one), code))
        faces.append(one)
    columns: dict[str, list[Any]] = {
        "boxes": [each.boxes for each in faces],
        "scores": [each.scores for each in faces],
        "landmarks": [each.landmarks for each in faces if each.landmarks is not None],
    }
    most = max((len(each) for each in faces), default=0)
    outputs = {name: _padded(each, most) for name, each in columns.items() if each}
    outputs["count"] = np.array([[len(each)] for each in faces], np.int32)
    outputs["image_size"] = np.array([each.image_size for each in faces], np.int32)
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])


def _padded(columns: Sequence[NDArray[np.float32]], rows: int) -> NDArray[np.float32]:
    padded = np.zeros((len(columns), rows, *columns[0].shape[1:]), np.float32)
    for place, column in zip(padded, columns, strict=True):
        place[: len(column)] = column
    return padded


def _tensor(about: dict[str, Any]) -> TensorSpec:
    return TensorSpec(about["name"], tuple(about["shape"]), about["dtype"])
