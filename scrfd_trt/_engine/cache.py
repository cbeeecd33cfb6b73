"""Engines that look after themselves: built when first needed, kept, and built anew when they no longer fit."""

from __future__ import annotations

import glob
import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from scrfd_trt._devices import Gpu
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._engine.onnx.prepared import RECIPE
from scrfd_trt._engine.record import EngineRecord, mark, mark_network, read_record
from scrfd_trt._files import locked, write_files
from scrfd_trt.errors import EngineError, ModelFormatError, OutputError
from scrfd_trt.models import home

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


Opened = TypeVar("Opened")


@dataclass(frozen=True)
class EngineKey:
    """Everything that decides which engine is the right one.

    Attributes
    ----------
    onnx
        The network's file.
    sha256
        Of that file.
    flavour
        The TensorRT that builds and runs it.
    gpu
        What it runs on; None for TensorRT-RTX, whose engines are for many.
    options
        How to build it.
    """

    onnx: Path
    sha256: str
    flavour: Flavour
    gpu: Gpu | None
    options: BuildOptions

    @classmethod
    def of(cls, onnx: Path, flavour: Flavour, gpu: Gpu | None, options: BuildOptions) -> EngineKey:
        """Take the network's hash.

        Raises
        ------
        ModelNotFoundError
            If its file cannot be read.
        """
        return cls(onnx, mark_network(onnx).sha256, flavour, gpu, options)

    @property
    def path(self) -> Path:
        """Where the engine is kept: one place for each network, GPU, TensorRT and set of options."""
        asked = f"{self.sha256} {self.options.model_dump_json(exclude={'timing_cache'})}"
        gpu = re.sub(r"\W+", "-", self.gpu.name) if self.gpu else "any-gpu"
        key = hashlib.sha256(asked.encode()).hexdigest()[:12]
        kind = f"{self.onnx.stem}-{self.options.precision}-{gpu}-{self.flavour.name}"
        return home() / "engines" / f"{kind}-{self.flavour.version}-{key}.plan"

    def others(self) -> list[str]:
        """List the releases for which the same engine is kept."""
        before, after = self.path.name.split(f"-{self.flavour.version}-", 1)
        kept = self.path.parent.glob(f"{glob.escape(before)}-*-{after}")
        return sorted(path.name[len(before) + 1 : -len(after) - 1] for path in kept if path != self.path)

    def misfit(self, record: EngineRecord) -> str:
        """Tell why an engine is not the one that is wanted; empty if it is."""
        gpu = None if self.gpu is None else (self.gpu.name, self.gpu.compute_capability)
        made_on = None if record.gpu is None else (record.gpu.name, record.gpu.compute_capability)
        asked = self.options.model_copy(update={"timing_cache": None})
        pairs = [
            ("the network has changed", record.onnx.sha256, self.sha256),
            ("it was built by {was}, and here is {now}", record.flavour, self.flavour.name),
            ("it was built by release {was}, and here is {now}", record.version, self.flavour.version),
            ("it was built on {was}, and here is {now}", made_on, gpu),
            ("networks are made ready in another way now", record.recipe, RECIPE),
            ("other options are asked for", record.options.model_copy(update={"timing_cache": None}), asked),
        ]
        return next((why.format(was=was, now=now) for why, was, now in pairs if was != now), "")


def open_or_build(wanted: EngineKey, build: Callable[[Path], object], opens: Callable[[Path], Opened]) -> Opened:
    """Open the engine that is kept, or build it first.

    Of several processes that want the same engine one builds it, and the others wait.

    Parameters
    ----------
    wanted
        Which one.
    build
        Builds it into a file; it may replace what is there.
    opens
        Opens that file.

    Returns
    -------
    Opened
        What ``opens`` returns.

    Raises
    ------
    OutputError
        If nothing can be kept there.
    ScrfdError
        What ``build`` raises, and what ``opens`` raises of an engine that was just built.
    """
    path = wanted.path
    # Without the lock first: an engine that fits may lie where nothing can be written.
    try:
        if not _why_not(wanted, path):
            return opens(path)
    except (EngineError, ModelFormatError) as error:
        log.info("%s: %s", path.name, error)
    with _locked(path):
        return _open_or_build(wanted, path, build, opens)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(path.with_suffix(".lock")))
        except OSError as error:
            raise OutputError(
                f"cannot keep engines in {path.parent} ({error.strerror}): set SCRFD_TRT_HOME to a folder of your own"
            ) from error
        yield


def _open_or_build(
    wanted: EngineKey, path: Path, build: Callable[[Path], object], opens: Callable[[Path], Opened]
) -> Opened:
    reason = _why_not(wanted, path)
    if not reason:
        try:
            return opens(path)
        except (EngineError, ModelFormatError) as error:
            reason = str(error)
    log.warning("building the engine %s: %s; this takes minutes, once", path.name, reason)
    build(path)
    return opens(path)


def _why_not(wanted: EngineKey, path: Path) -> str:
    if not path.is_file():
        others = wanted.others()
        return f"there is one for release {', '.join(others)} only" if others else "there is none yet"
    try:
        record = read_record(path)
    except ModelFormatError as error:
        return str(error)
    if record is None:
        return "nothing says how the one that is kept was made"
    if mark(path).sha256 != record.plan.sha256:
        return "the one that is kept is damaged"
    return wanted.misfit(record)
