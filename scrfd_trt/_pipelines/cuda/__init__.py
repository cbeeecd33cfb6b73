"""The way from images to detections on an NVIDIA GPU, all of it in one CUDA graph."""

from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
from scrfd_trt._pipelines.cuda.pipeline import CudaPipeline

__all__ = ["CudaPipeline", "DeviceDetections"]
