"""SCRFD face detection with typed results, on NVIDIA GPUs and CPUs.

>>> from scrfd_trt import SCRFDDetector
>>> with SCRFDDetector() as detector:  # doctest: +SKIP
...     faces = detector.detect(image)
"""

from importlib import import_module

from scrfd_trt._version import __version__

TYPE_CHECKING = False  # the typing module would take most of the time of this import
if TYPE_CHECKING:
    from scrfd_trt._detection_row import Detection
    from scrfd_trt._detections import Detections
    from scrfd_trt._detector import SCRFDDetector
    from scrfd_trt._engine.build_options import BuildOptions
    from scrfd_trt._engine.inspect import EngineReport, inspect_engine
    from scrfd_trt._engine.progress import BuildProgress
    from scrfd_trt._image_arrays import YUVImage
    from scrfd_trt._options import DetectorOptions
    from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
    from scrfd_trt._pipelines.factory import build_engine
    from scrfd_trt.errors import (
        BackendError,
        ClosedError,
        DetectionsError,
        DeviceError,
        DownloadError,
        EngineError,
        ImageError,
        ImageNotFoundError,
        MissingDependencyError,
        ModelError,
        ModelFormatError,
        ModelNotFoundError,
        OptionError,
        OutputError,
        OverlayError,
        ScrfdError,
        VideoError,
        VideoNotFoundError,
    )

__all__ = [
    "BackendError", "BuildOptions", "BuildProgress", "ClosedError", "Detection", "Detections", "DetectionsError",
    "DetectorOptions", "DeviceDetections", "DeviceError", "DownloadError", "EngineError", "EngineReport", "ImageError",
    "ImageNotFoundError", "MissingDependencyError", "ModelError", "ModelFormatError", "ModelNotFoundError",
    "OptionError", "OutputError", "OverlayError", "SCRFDDetector", "ScrfdError", "VideoError", "VideoNotFoundError",
    "YUVImage", "__version__", "build_engine", "inspect_engine",
]  # fmt: skip

_LAZY = {
    **{name: "scrfd_trt.errors" for name in __all__ if name.endswith("Error")},
    "Detection": "scrfd_trt._detection_row",
    "Detections": "scrfd_trt._detections",
    "DetectorOptions": "scrfd_trt._options",
    "YUVImage": "scrfd_trt._image_arrays",
    "DeviceDetections": "scrfd_trt._pipelines.cuda.device_detections",
    "BuildProgress": "scrfd_trt._engine.progress",
    "BuildOptions": "scrfd_trt._engine.build_options",
    "EngineReport": "scrfd_trt._engine.inspect",
    "SCRFDDetector": "scrfd_trt._detector",
    "build_engine": "scrfd_trt._pipelines.factory",
    "inspect_engine": "scrfd_trt._engine.inspect",
}
_MODULES = ("backends", "errors", "models", "samples", "video")
"""Names that are imported on first use: NumPy, OpenCV, pydantic and the engine modules take long to import, and the
command line handles signals after this module."""


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"scrfd_trt.{name}")
    if name not in _LAZY:
        from scrfd_trt._option_names import unknown_member  # noqa: PLC0415 - as _LAZY

        is_detector = name[0] != "_" and name.lower().endswith(("scrfd", "detector", "detect", "analysis"))
        raise unknown_member(__name__, name, "; use SCRFDDetector()" if is_detector else "")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name[:1] != "_" or name[:2] == "__"), *__all__})
