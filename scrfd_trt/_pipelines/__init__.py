"""From images to detections: one interface, and an implementation each for the CPU and for NVIDIA GPUs."""

from scrfd_trt._pipelines.base import Pipeline
from scrfd_trt._pipelines.host import HostPipeline

__all__ = ["HostPipeline", "Pipeline"]
