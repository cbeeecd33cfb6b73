"""CUDA through cuda-python: GPUs, streams, buffers and graphs that are owned, or borrowed and never destroyed.

All of it stands on CUDA's driver API, which comes with the driver itself, so no CUDA runtime has to match it.
"""

from scrfd_trt.cuda.buffers import DeviceBuffer, PinnedBuffer
from scrfd_trt.cuda.device import Device
from scrfd_trt.cuda.event import Event
from scrfd_trt.cuda.graph import Graph
from scrfd_trt.cuda.stream import Stream

__all__ = ["Device", "DeviceBuffer", "Event", "Graph", "PinnedBuffer", "Stream"]
