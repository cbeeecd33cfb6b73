"""TensorRT's timing cache on disk: what it has measured of kernels, so that the next build need not."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from scrfd_trt._files import write_files
from scrfd_trt.devices import Gpu
from scrfd_trt.engine.flavours import Flavour
from scrfd_trt.errors import OutputError

if TYPE_CHECKING:
    import tensorrt

log = logging.getLogger("scrfd_trt")


def default_path(folder: Path, flavour: Flavour, gpu: Gpu | None) -> Path | None:
    """Return where a folder of engines keeps its timing cache: one a release and GPU, since no other can use it.

    Returns
    -------
    Path or None
        None for TensorRT-RTX, which has none.
    """
    if flavour.is_rtx:
        return None
    card = "unknown GPU" if gpu is None else f"{gpu.name} {gpu.compute_capability[0]}{gpu.compute_capability[1]}"
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{flavour.name} {flavour.version} {card}")
    return folder / f"{name}.timing_cache"


def load(config: tensorrt.IBuilderConfig, path: Path) -> None:
    """Let a build use a timing cache, an empty one where there is none that fits.

    A cache that cannot be read, is damaged, or was measured on another GPU costs time and nothing else.

    Parameters
    ----------
    config
        Of the build; changed in place.
    path
        The cache's file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    except OSError as error:
        log.warning("%s cannot be read (%s); building without it takes longer", path, error.strerror or error)
        data = b""
    cache = config.create_timing_cache(data)
    if cache is not None and config.set_timing_cache(cache, False):
        return
    log.warning("%s was not measured with this TensorRT on this GPU; it is made anew", path)
    config.set_timing_cache(config.create_timing_cache(b""), False)


def save(config: tensorrt.IBuilderConfig, path: Path) -> None:
    """Write a build's timing cache to disk; where that fails, the next build takes longer and nothing else is lost.

    Parameters
    ----------
    config
        Of a build that has ended well.
    path
        The cache's file. Of two builds at the same time, the one that ends last is kept.
    """
    cache = config.get_timing_cache()
    if cache is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_files({path: bytes(cast("bytes", cache.serialize()))})
    except (OSError, OutputError) as error:
        log.warning("%s cannot be written (%s); the next build takes as long as this one", path, error)
