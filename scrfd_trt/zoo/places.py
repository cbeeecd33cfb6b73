"""The folder that network files are kept in, and the address that they are downloaded from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from scrfd_trt.errors import ModelNotFoundError, OptionError

HOME_VARIABLE = "SCRFD_TRT_HOME"
"""Environment variable that names the folder of network files."""

MIRROR_VARIABLE = "SCRFD_TRT_MIRROR"
"""Environment variable that names another address to download the release archives from."""

RELEASES = "https://github.com/deepinsight/insightface/releases/download/v0.7"
"""Where InsightFace publishes the release archives."""

CHECKPOINTS = "https://github.com/deepinsight/insightface/tree/master/detection/scrfd#pretrained-models"
"""Where InsightFace's README links the PyTorch checkpoints of all models."""


def home() -> Path:
    r"""Return the folder that network files are looked for in and downloaded to; it need not exist.

    It is what the environment variable ``SCRFD_TRT_HOME`` says, otherwise the user's cache folder:
    ``~/.cache/scrfd_trt`` (under ``XDG_CACHE_HOME`` where that is set), ``~/Library/Caches/scrfd_trt`` on macOS,
    ``%LOCALAPPDATA%\scrfd_trt\scrfd_trt\Cache`` on Windows.

    Raises
    ------
    ModelNotFoundError
        If the variable is not set and the user has no home folder.
    """
    try:
        if chosen := os.environ.get(HOME_VARIABLE, "").strip():
            return Path(chosen).expanduser().absolute()
        return _cache_folder()
    except RuntimeError as error:
        raise ModelNotFoundError(
            f"there is no home folder to keep networks in: set {HOME_VARIABLE} to a folder"
        ) from error


def _cache_folder() -> Path:
    """Return the folder that platformdirs, and so ``pooch.os_cache``, gives; both may be missing here."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "").strip()
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "scrfd_trt" / "scrfd_trt" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "scrfd_trt"
    cache = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(cache) if cache else Path.home() / ".cache") / "scrfd_trt"


def has_home() -> bool:
    """Tell whether there is a home folder to speak of: some containers run under a user who has none."""
    try:
        home()
    except ModelNotFoundError:
        return False
    return True


def address(file: str) -> str:
    """Return the address that a release archive is downloaded from.

    Parameters
    ----------
    file
        Name of the archive, which is put behind the address in ``SCRFD_TRT_MIRROR``, or InsightFace's own.

    Raises
    ------
    OptionError
        If ``SCRFD_TRT_MIRROR`` is no http or https address.
    """
    base = os.environ.get(MIRROR_VARIABLE, "").strip() or RELEASES
    if not base.startswith(("https://", "http://")):
        raise OptionError(f"{MIRROR_VARIABLE} is {base!r}: it must be an address that begins with https:// or http://")
    return f"{base.rstrip('/')}/{file}"
