"""From images to detections on an NVIDIA GPU: all steps of a run are one CUDA graph."""

from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
from scrfd_trt._pipelines.cuda.pipeline import CudaPipeline

__all__ = ["CudaPipeline", "DeviceDetections"]
