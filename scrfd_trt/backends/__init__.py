"""What runs the network on host arrays: one protocol, ONNX Runtime, and recordings that play back."""

from scrfd_trt.backends.base import Backend
from scrfd_trt.backends.onnxruntime import OnnxBackend
from scrfd_trt.backends.recorded import RecordedBackend, Recorder

__all__ = ["Backend", "OnnxBackend", "RecordedBackend", "Recorder"]
