"""SCRFD face detection with typed results, on NVIDIA GPUs and CPUs.

>>> from scrfd_trt import SCRFDDetector
>>> with SCRFDDetector.from_pretrained() as detector:  # doctest: +SKIP
...     faces = detector.detect(image)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from scrfd_trt._version import __version__
from scrfd_trt.errors import (
    BackendError,
    ClosedError,
    DetectionsError,
    DeviceError,
    DownloadError,
    EngineError,
    ImageError,
    MissingDependencyError,
    ModelError,
    ModelFormatError,
    ModelNotFoundError,
    OptionError,
    OutputError,
    OverlayError,
    ScrfdError,
    VideoError,
)

if TYPE_CHECKING:
    from scrfd_trt._detection_row import Detection
    from scrfd_trt._detections import Detections
    from scrfd_trt._detector import SCRFDDetector
    from scrfd_trt._engine.build_options import BuildOptions
    from scrfd_trt._engine.inspect import EngineReport, inspect_engine
    from scrfd_trt._engine.progress import BuildProgress
    from scrfd_trt._options import DetectorOptions
    from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
    from scrfd_trt._pipelines.factory import build_engine

__all__ = [
    "BackendError",
    "BuildOptions",
    "BuildProgress",
    "ClosedError",
    "Detection",
    "Detections",
    "DetectionsError",
    "DetectorOptions",
    "DeviceDetections",
    "DeviceError",
    "DownloadError",
    "EngineError",
    "EngineReport",
    "ImageError",
    "MissingDependencyError",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "OptionError",
    "OutputError",
    "OverlayError",
    "SCRFDDetector",
    "ScrfdError",
    "VideoError",
    "__version__",
    "build_engine",
    "inspect_engine",
]

_LAZY = {
    "Detection": "scrfd_trt._detection_row",
    "Detections": "scrfd_trt._detections",
    "DetectorOptions": "scrfd_trt._options",
    "DeviceDetections": "scrfd_trt._pipelines.cuda.device_detections",
    "BuildProgress": "scrfd_trt._engine.progress",
    "BuildOptions": "scrfd_trt._engine.build_options",
    "EngineReport": "scrfd_trt._engine.inspect",
    "SCRFDDetector": "scrfd_trt._detector",
    "build_engine": "scrfd_trt._pipelines.factory",
    "inspect_engine": "scrfd_trt._engine.inspect",
}
"""Names that are imported on first use: NumPy, OpenCV, pydantic and the engine modules take long to import."""


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
