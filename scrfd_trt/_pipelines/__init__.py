"""The way from images to detections: one contract, one implementation a kind of machine."""

from scrfd_trt._pipelines.base import Pipeline
from scrfd_trt._pipelines.host import HostPipeline

__all__ = ["HostPipeline", "Pipeline"]
