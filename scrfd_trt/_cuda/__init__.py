"""CUDA through cuda-python: GPUs, streams, buffers and graphs that are owned, or borrowed and never destroyed.

All of it stands on CUDA's driver API, which comes with the driver itself, so no CUDA runtime has to match it.
"""

from scrfd_trt._cuda.device import Device
from scrfd_trt._cuda.graph import Graph
from scrfd_trt._cuda.memory import DeviceBuffer, PinnedBuffer
from scrfd_trt._cuda.stream import Event, Stream

__all__ = ["Device", "DeviceBuffer", "Event", "Graph", "PinnedBuffer", "Stream"]
