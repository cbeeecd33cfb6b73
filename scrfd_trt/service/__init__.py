"""Face detection as a web service: one ASGI application for uvicorn, Ray Serve and other servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from scrfd_trt.errors import MissingDependencyError
from scrfd_trt.service._options import ServiceOptions

if TYPE_CHECKING:
    from scrfd_trt._detector import SCRFDDetector

__all__ = ["ServiceOptions", "create_app"]


def create_app(
    detector: SCRFDDetector, options: ServiceOptions | None = None, *, model: str = "", close_detector: bool = False
) -> Callable[..., Awaitable[None]]:
    """Return the service as an ASGI application.

    Parameters
    ----------
    detector
        Runs the model. The caller closes it after the server has stopped.
    options
        Limits and access; None: the defaults.
    model
        Name of the model in the answer to ``/v1/models``.
    close_detector
        Whether the application closes the detector when its server stops.

    Returns
    -------
    ASGI application
        One process serves it: requests share the batches of its detector.

    Raises
    ------
    MissingDependencyError
        If a package of the extra ``serve`` is not installed.
    """
    try:
        from scrfd_trt.service._app import build_app  # noqa: PLC0415 - FastAPI is optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError('the service needs FastAPI: pip install "scrfd-trt[serve]"') from error
    app: Any = build_app(detector, options or ServiceOptions(), model=model, close_detector=close_detector)
    return app  # type: ignore[no-any-return]
