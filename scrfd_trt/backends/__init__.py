"""What runs a model on host arrays: the interface, ONNX Runtime, and recorded outputs."""

from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.backends._base import Backend
from scrfd_trt.backends._onnxruntime import OnnxBackend
from scrfd_trt.backends._recorded import RecordedBackend, Recorder

__all__ = ["Backend", "OnnxBackend", "RecordedBackend", "Recorder", "ShapeRange", "TensorSpec"]
