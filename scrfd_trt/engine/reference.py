"""Run ONNX networks on ONNX Runtime, the measure of all that TensorRT makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scrfd_trt.errors import BackendError, ModelFormatError
from scrfd_trt.heads import HeadLayout, recognize
from scrfd_trt.onnx_session import OnnxSession


class Reference:
    """A SCRFD network on ONNX Runtime.

    Parameters
    ----------
    model
        An ONNX file, or its content.

    Attributes
    ----------
    input : TensorSpec
        Its one input.
    layout : HeadLayout
        Of its outputs.

    Raises
    ------
    MissingDependencyError
        Without onnxruntime.
    ModelFormatError
        If ONNX Runtime cannot load it, or it is no SCRFD network.
    """

    def __init__(self, model: Path | bytes) -> None:
        self._session = OnnxSession(model)
        self.input = self._session.inputs[0]
        self.layout: HeadLayout = recognize(self._session.outputs)

    def takes(self, size: tuple[int, int]) -> bool:
        """Tell whether the input may have this width and height."""
        return all(own in {None, asked} for own, asked in zip(self.input.shape[2:], size[::-1], strict=True))

    def run(self, blob: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Run the network once.

        Parameters
        ----------
        blob
            ``(B, 3, H, W)`` float32.

        Returns
        -------
        list of numpy.ndarray
            float32, in the network's own order.

        Raises
        ------
        ModelFormatError
            If the run fails: the network does not fit together.
        """
        try:
            outputs = self._session.run(blob)
        except BackendError as error:
            raise ModelFormatError(str(error)) from error
        return [np.asarray(output, np.float32) for output in outputs]
