"""From images to detections: one interface, and an implementation each for the CPU and for NVIDIA GPUs.

| module | |
|---|---|
| `base` | the interface, and NMS over all passes |
| `host` | the CPU pipeline: letterbox, backend, decoding |
| `cuda` | the GPU pipeline |
| `profiles` | how a batch is split over the optimization profiles of an engine |
| `factory` | opens a pipeline for a file and a device; builds engines |
| `verify` | compares a new engine with its ONNX model after the build |
| `streaming` | several batches in flight, results in order |
"""

from scrfd_trt._pipelines.base import Pipeline
from scrfd_trt._pipelines.host import HostPipeline

__all__ = ["HostPipeline", "Pipeline"]
