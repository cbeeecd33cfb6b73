"""Face detection as a web service: one ASGI application for uvicorn, Ray Serve and other servers."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pydantic import Field

from scrfd_trt._options import OptionsModel
from scrfd_trt.errors import MissingDependencyError, one_line

if TYPE_CHECKING:
    from scrfd_trt._detector import SCRFDDetector

__all__ = ["ServiceOptions", "create_app"]

KEYS = "SCRFD_TRT_API_KEYS"
INSTALL = 'pip install "scrfd-trt[serve]"'


class ServiceOptions(OptionsModel):
    """Limits of the service, and who may use it.

    Raises
    ------
    OptionError
        If an option is unknown or out of range.
    """

    max_bytes: int = Field(20 << 20, ge=1024, le=2 << 30, description="Maximum bytes of a request's body.")
    max_pixels: int = Field(50_000_000, ge=1, description="Maximum pixels of an image.")
    max_images: int = Field(32, ge=1, le=10_000, description="Maximum images in a request.")
    max_queue: int = Field(512, ge=1, le=1_000_000, description="Images in work; further requests are answered 429.")
    timeout: float = Field(30.0, gt=0, le=3600, description="Maximum seconds of a request after its body has arrived.")
    fetch_from: tuple[str, ...] = Field((), description="Hosts from which images are fetched, as *.example.com.")
    api_keys: tuple[str, ...] = Field(
        default_factory=lambda: tuple(key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip()),
        repr=False,
        description="Keys, one of which each request must have; none: no key is required. From SCRFD_TRT_API_KEYS.",
    )


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
        from scrfd_trt.service._app import build_app, local_service  # noqa: PLC0415 - FastAPI is optional, and slow to import
    except ImportError as error:
        raise MissingDependencyError(f"the service needs FastAPI ({one_line(error)}): {INSTALL}") from error
    service = local_service(detector, options or ServiceOptions())
    app: Callable[..., Awaitable[None]] = build_app(
        service, model=model, at_end=detector.close if close_detector else None
    )
    return app
