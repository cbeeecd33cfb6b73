"""Prepare ONNX files for TensorRT; the onnx package, which is optional, is imported by the calls that need it."""

from __future__ import annotations

from importlib import util
from pathlib import Path

from scrfd_trt._engine.build_options import Precision
from scrfd_trt._engine.onnx.prepared import Ends, PreparedNetwork, Request, Sizes
from scrfd_trt._letterbox import FREE_SCALES
from scrfd_trt.errors import MissingDependencyError, OptionError

SIDE_STEP = 32
"""The coarsest stride at which feature maps meet: sides are multiples of it."""


def prepare(
    path: Path,
    *,
    sizes: Sizes | None = None,
    batch: tuple[int, int, int] = (1, 8, 32),
    batch_one: bool = True,
    precision: Precision = "fp16",
    io: Ends = "float32",
) -> PreparedNetwork:
    """Make a SCRFD network of an ONNX file ready for TensorRT.

    Sides that the export has fixed are freed, or free ones fixed, as asked; heads that fold the batch into their rows
    get a batch axis; dimensions that share a name and differ in size get names of their own; weights and what lies
    between are cast to FP16.

    Parameters
    ----------
    path
        The file: InsightFace's own, a batched or a grid export.
    sizes
        Widths and heights of the input in pixels, multiples of 32. One size is written into the network, which
        TensorRT makes more of; several leave width and height free. None takes the network's own size where that is
        fixed, and otherwise 128×128 and 640×640.
    batch
        Minimum, optimum and maximum number of images per run. Where minimum equals maximum, the batch is fixed.
    batch_one
        Whether batch 1 gets a profile of its own beside the range.
    precision
        ``fp16`` casts; ``fp32`` and ``tf32`` do not.
    io
        Type of the input and the outputs.

    Returns
    -------
    PreparedNetwork
        Not yet run; see :func:`scrfd_trt._engine.onnx.verify.compare`.

    Raises
    ------
    MissingDependencyError
        Without the onnx package.
    ModelNotFoundError
        If there is no such file.
    ModelFormatError
        If it is damaged, is no SCRFD network, or cannot be brought to the batch and sizes asked for.
    OptionError
        If an option makes no sense, or an FP16 network is asked for FP32.
    """
    _check_options(sizes, batch, precision, io)
    if util.find_spec("onnx") is None:
        raise MissingDependencyError('building engines needs the onnx package: pip install "scrfd-trt[build]"')
    from scrfd_trt._engine.onnx.rewrite import rewrite  # noqa: PLC0415 - onnx is optional, and slow to import

    return rewrite(Path(path), Request(sizes, batch, batch_one, precision, io))


def _check_options(sizes: Sizes | None, batch: tuple[int, int, int], precision: str, io: str) -> None:
    if precision not in {"fp32", "tf32", "fp16"}:
        raise OptionError(
            f"precision {precision!r} is not known; the choices are: fp32, tf32, fp16",
            fields=["precision"],
            value=precision,
            choices=["fp32", "tf32", "fp16"],
        )
    if io not in {"float32", "float16"}:
        raise OptionError(
            f"io {io!r} is not known; the choices are: float32, float16",
            fields=["io"],
            value=io,
            choices=["float32", "float16"],
        )
    if len(batch) != 3 or not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise OptionError(
            f"batch: expected 1 <= min <= opt <= max images, got {batch!r}",
            fields=["batch"],
            value=batch,
        )
    for size in sizes if sizes is not None else FREE_SCALES:
        if len(size) != 2 or any(side < SIDE_STEP or side % SIDE_STEP for side in size):
            raise OptionError(
                f"sizes: width and height, multiples of {SIDE_STEP} pixels, are wanted, not {size!r}",
                fields=["sizes"],
                value=size,
            )
    if sizes is not None and not sizes:
        raise OptionError(
            "sizes: at least one width and height is wanted, or None for the network's own",
            fields=["sizes"],
            value=sizes,
        )


def files_beside(path: Path) -> tuple[Path, ...]:
    """List the files beside an ONNX file that hold weights of it; without onnx, or for no ONNX file, there are none."""
    if util.find_spec("onnx") is None:
        return ()
    from scrfd_trt._engine.onnx.load import external_files  # noqa: PLC0415 - onnx is optional, and slow to import

    return external_files(path)
