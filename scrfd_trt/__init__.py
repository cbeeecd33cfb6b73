"""SCRFD face detection: typed detections from images, on any machine.

>>> from scrfd_trt import SCRFDDetector
>>> with SCRFDDetector.from_pretrained() as detector:  # doctest: +SKIP
...     faces = detector.detect(image)
"""

from scrfd_trt._version import __version__
from scrfd_trt.detections import Detection, Detections
from scrfd_trt.detector import SCRFDDetector
from scrfd_trt.engine.inspect import inspect_engine
from scrfd_trt.engine.options import BuildOptions
from scrfd_trt.engine.report import EngineReport
from scrfd_trt.errors import (
    BackendError,
    ClosedError,
    DetectionsError,
    DeviceError,
    DownloadError,
    ImageError,
    MissingDependencyError,
    ModelError,
    ModelFormatError,
    ModelNotFoundError,
    OptionError,
    OutputError,
    ScrfdError,
)
from scrfd_trt.opening import build_engine
from scrfd_trt.options import DetectorOptions

__all__ = [
    "BackendError",
    "BuildOptions",
    "ClosedError",
    "Detection",
    "Detections",
    "DetectionsError",
    "DetectorOptions",
    "DeviceError",
    "DownloadError",
    "EngineReport",
    "ImageError",
    "MissingDependencyError",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "OptionError",
    "OutputError",
    "SCRFDDetector",
    "ScrfdError",
    "__version__",
    "build_engine",
    "inspect_engine",
]
