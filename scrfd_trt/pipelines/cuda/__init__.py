"""The way from images to detections on an NVIDIA GPU, all of it in one CUDA graph."""

from scrfd_trt.pipelines.cuda.on_gpu import DeviceDetections
from scrfd_trt.pipelines.cuda.pipeline import CudaPipeline

__all__ = ["CudaPipeline", "DeviceDetections"]
