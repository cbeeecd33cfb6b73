"""The service's limits, and who may use it."""

from __future__ import annotations

import os

from pydantic import Field

from scrfd_trt._options import OptionsModel

KEYS = "SCRFD_TRT_API_KEYS"


def keys_from_environment() -> tuple[str, ...]:
    """Return the keys in the variable ``SCRFD_TRT_API_KEYS``, which commas separate."""
    return tuple(filter(None, map(str.strip, os.environ.get(KEYS, "").split(","))))


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
        default_factory=keys_from_environment,
        repr=False,
        description="Keys, one of which each request must have; none: no key is required. From SCRFD_TRT_API_KEYS.",
    )
