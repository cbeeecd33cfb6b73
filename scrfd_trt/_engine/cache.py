"""Engines and timing caches kept between runs: built when first needed, and rebuilt when they no longer fit."""

from __future__ import annotations

import glob
import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from scrfd_trt._devices import Gpu
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt._engine.calibration import hash_images
from scrfd_trt._engine.flavours import Flavour
from scrfd_trt._engine.plan import RECIPE, EngineRecord, hash_file, hash_model, read_record
from scrfd_trt._files import locked, write_files
from scrfd_trt.errors import EngineError, ModelFormatError, OptionError, OutputError
from scrfd_trt.models import home

if TYPE_CHECKING:
    import tensorrt

Opened = TypeVar("Opened")

log = logging.getLogger("scrfd_trt")

FILES = ("timing_cache", "calibration")  # options whose paths do not matter


@dataclass(frozen=True)
class EngineKey:
    """Everything that determines an engine; gpu is None for TensorRT-RTX, whose engines run on many."""

    onnx: Path
    sha256: str
    flavour: Flavour
    gpu: Gpu | None
    options: BuildOptions
    calibration: str = ""  # hash of the images

    @classmethod
    def of(cls, onnx: Path, flavour: Flavour, gpu: Gpu | None, options: BuildOptions) -> EngineKey:
        """Hash model and calibration images; raise ModelNotFoundError or OptionError if they cannot be read."""
        return cls(onnx, hash_model(onnx).sha256, flavour, gpu, options, hash_images(options.calibration))

    @property
    def path(self) -> Path:
        """The engine's path, which is unique to model, calibration images, GPU, TensorRT and options."""
        content = f"{self.sha256} {self.calibration} {self.options.model_dump_json(exclude={*FILES})}"
        gpu = re.sub(r"\W+", "-", self.gpu.name) if self.gpu else "any-gpu"
        key = hashlib.sha256(content.encode()).hexdigest()[:12]
        # File systems allow 255 bytes; the key distinguishes models whose names begin alike.
        kind = f"{self.onnx.stem[:40]}-{self.options.precision}-{gpu}-{self.flavour.name}"
        return home() / "engines" / f"{kind}-{self.flavour.version}-{key}.plan"

    def other_releases(self) -> list[str]:
        """List the releases for which the same engine is cached."""
        before, after = self.path.name.split(f"-{self.flavour.version}-", 1)
        cached = self.path.parent.glob(f"{glob.escape(before)}-*-{after}")
        return sorted(path.name[len(before) + 1 : -len(after) - 1] for path in cached if path != self.path)

    def mismatch(self, record: EngineRecord) -> str:
        """Return why an engine with this record does not fit; empty if it does."""
        gpu = None if self.gpu is None else (self.gpu.name, self.gpu.compute_capability)
        built_on = None if record.gpu is None else (record.gpu.name, record.gpu.compute_capability)
        no_files = dict.fromkeys(FILES)
        pairs = [
            ("the model has changed", record.onnx.sha256, self.sha256),
            ("it was built by {was}, not {now}", record.flavour, self.flavour.name),
            ("it was built by release {was}, not {now}", record.version, self.flavour.version),
            ("it was built on {was}, not {now}", built_on, gpu),
            ("the rewriting of models has changed", record.recipe, RECIPE),
            (
                "the build options have changed",
                record.options.model_copy(update=no_files),
                self.options.model_copy(update=no_files),
            ),
        ]
        return next((why.format(was=was, now=now) for why, was, now in pairs if was != now), "")


def open_or_build(key: EngineKey, build: Callable[[Path], object], open_engine: Callable[[Path], Opened]) -> Opened:
    """Open the cached engine with ``open_engine``, or ``build`` it first; one process builds while others wait."""
    path = key.path
    # First without the lock: a fitting engine may be in a read-only folder.
    try:
        if not _rebuild_reason(key, path):
            return open_engine(path)
    except (EngineError, ModelFormatError) as error:
        log.info("%s: %s", path.name, error)
    with _locked(path):
        reason = _rebuild_reason(key, path)
        if not reason:
            try:
                return open_engine(path)
            except (EngineError, ModelFormatError) as error:
                reason = str(error)
        log.warning("building the engine %s: %s; this takes minutes, once", path.name, reason)
        build(path)
        return open_engine(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path.with_suffix(".lock")))
        except OSError as error:
            raise OutputError(
                f"cannot keep engines in {path.parent} ({error.strerror}): set SCRFD_TRT_HOME to a writable folder"
            ) from error
        yield


def _rebuild_reason(key: EngineKey, path: Path) -> str:
    if not path.is_file():
        others = key.other_releases()
        return f"the cached one is for release {', '.join(others)}" if others else "none is cached"
    try:
        record = read_record(path)
    except ModelFormatError as error:
        return str(error)
    if record is None:
        return "the cached one has no record"
    if hash_file(path).sha256 != record.plan.sha256:
        return "the cached one is damaged"
    return key.mismatch(record)


def timing_cache_path(folder: Path, flavour: Flavour, gpu: Gpu | None) -> Path | None:
    """Return the path of a timing cache in a folder of engines, one per release and GPU; None for TensorRT-RTX."""
    if flavour.is_rtx:
        return None
    card = "unknown GPU" if gpu is None else f"{gpu.name} {gpu.compute_capability[0]}{gpu.compute_capability[1]}"
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{flavour.name} {flavour.version} {card}")
    return folder / f"{name}.timing_cache"


def load_timing_cache(config: tensorrt.IBuilderConfig, path: Path, parts: Sequence[bytes] = ()) -> None:
    """Set a build's timing cache: ``parts`` together; without them, the file's if it is usable, else an empty one."""
    if parts:
        cache = config.create_timing_cache(b"")
        combined = [cache.combine(config.create_timing_cache(part), False) for part in parts]
        if not all(combined):
            log.warning("TensorRT does not combine the timing caches of the profiles; building takes longer")
        config.set_timing_cache(cache, False)
        return
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
    log.warning("%s was not measured with this TensorRT on this GPU; a new one replaces it", path)
    config.set_timing_cache(config.create_timing_cache(b""), False)


def read_timing_cache(config: tensorrt.IBuilderConfig) -> bytes:
    """Return the contents of a build's timing cache; empty without one."""
    cache = config.get_timing_cache()
    return b"" if cache is None else bytes(cast("bytes", cache.serialize()))


def save_timing_cache(content: bytes, path: Path) -> None:
    """Write a build's timing cache; log a warning if that fails. Of two simultaneous builds, the last one wins."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_files({path: content})
    except (OSError, OptionError) as error:  # OptionError: a folder or device is there
        log.warning("%s cannot be written (%s); the next build takes as long as this one", path, error)
