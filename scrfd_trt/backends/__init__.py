"""What runs the network on host arrays: one protocol, ONNX Runtime, and recordings that play back."""

from scrfd_trt.backends._base import Backend
from scrfd_trt.backends._onnxruntime import OnnxBackend
from scrfd_trt.backends._recorded import RecordedBackend, Recorder

__all__ = ["Backend", "OnnxBackend", "RecordedBackend", "Recorder"]
