"""Face detection in Ray data sets: a class for ``Dataset.map_batches``, and what surrounds it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from scrfd_trt import _devices, models
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt._exports import load
from scrfd_trt._inputs import pixels_of
from scrfd_trt._jobs.stages import grouped, mapped
from scrfd_trt._pipelines.base import Outcome
from scrfd_trt.distributed._stores import read_content, store_errors
from scrfd_trt.errors import ImageError, OptionError, ScrfdError, one_line, without_frames

RAY = '"scrfd-trt[ray]"'
COLUMNS = ("bytes", "image", "path", "uri")
PIXELS, SIDES = "_pixels", ("_height", "_width")  # of decoded pictures, between two stages
MAX_PIXEL_BYTES = 1 << 26  # that a task returns at a time
READERS = 16  # threads of a task that wait for files
GPU_ROWS, CPU_ROWS, RUN, BLOCK = 64, 32, 32, 1024  # pictures a call, at most a run of the model, and a block


def load_ray(what: str) -> Any:
    """Return Ray with its data sets; raise MissingDependencyError if it is not installed."""
    load("ray.data", what, RAY)
    return sys.modules["ray"]


class FaceDetection:
    """Detects the faces in batches of a Ray data set: a class for ``Dataset.map_batches``.

    Each actor opens the detector once. A picture that cannot be read has no faces, and the reason in ``error``.

    Parameters
    ----------
    model
        As ``name`` of :class:`~scrfd_trt.SCRFDDetector`.
    column
        Column with the pictures; None: the first of ``bytes``, ``image``, ``path`` and ``uri`` that exists. A value is
        the content of a file, an array ``(H, W, 3)``, a path, an address such as ``s3://bucket/name.jpg``, a PIL image,
        or a dictionary of ``bytes`` and ``path``.
    color
        Order of the channels of arrays: ``rgb``, as ``ray.data.read_images`` returns them, or ``bgr``.
    keep
        Whether columns with pictures, ``bytes`` and ``image``, stay in the result.
    **options
        ``device`` and further keywords of :class:`~scrfd_trt.SCRFDDetector`.

    Raises
    ------
    OptionError, ModelError, DeviceError, BackendError, MissingDependencyError
        As for :class:`~scrfd_trt.SCRFDDetector`.
    """

    def __init__(
        self,
        model: str = models.DEFAULT_MODEL,
        *,
        column: str | None = None,
        color: Literal["rgb", "bgr"] = "rgb",
        keep: bool = False,
        **options: Any,
    ) -> None:
        _devices.limit_cores(assigned_cpus())
        self._column, self._keep = column, keep
        self._detector = SCRFDDetector(model, color=color, **{"max_batch": RUN} | options)
        self._batch = _devices.usable_cores() if self._detector.device == "cpu" else None

    def __call__(self, batch: Any) -> Any:
        """Return the faces in a batch.

        Parameters
        ----------
        batch
            A dictionary of NumPy arrays, a ``pandas.DataFrame`` or a ``pyarrow.Table``.

        Returns
        -------
        pyarrow.Table
            The other columns of the batch, and ``boxes`` (a list of x1, y1, x2, y2 a face), ``scores``, ``landmarks``
            (a list of five x, y a face), ``width`` and ``height`` of the picture, all in pixels, and ``error``, null
            for a picture that was read.

        Raises
        ------
        OptionError
            If the batch has no such column.
        BackendError
            If the model cannot be run.
        """
        column = PIXELS if PIXELS in _names(batch) else _picture_column(batch, self._column)
        images = _shipped(batch) if column == PIXELS else _pictures(batch, column)
        outcomes = list(self._detector.stream(images, batch=self._batch, on_error="return"))
        return _with_faces(_rest(batch, column, keep=self._keep), outcomes)


def detect_dataset(
    dataset: Any,
    model: str = models.DEFAULT_MODEL,
    *,
    column: str | None = None,
    color: Literal["rgb", "bgr"] = "rgb",
    keep: bool = False,
    device: str = "auto",
    workers: int | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Any:
    """Return a Ray data set with the faces of each picture.

    Where the cluster has GPUs, CPU tasks read and decode the pictures, and an actor on each GPU detects the faces.
    Otherwise an actor on each CPU does both. Nothing runs before the data set is used.

    Parameters
    ----------
    dataset
        A ``ray.data.Dataset`` with pictures.
    model, column, color, keep
        As for :class:`FaceDetection`.
    device
        ``cuda``, ``cpu``, or ``auto``: a GPU if the cluster has one.
    workers
        Number of actors; None: the cluster's GPUs or CPUs.
    batch_size
        Pictures a call of an actor; None: 64 on a GPU, 32 on a CPU.
    **options
        Further keywords of :class:`~scrfd_trt.SCRFDDetector`.

    Returns
    -------
    ray.data.Dataset
        With the columns that :class:`FaceDetection` returns.

    Raises
    ------
    OptionError
        If ``device`` is none of the above, or the cluster has no GPU.
    MissingDependencyError
        If Ray is not installed.
    """
    ray = load_ray("detect_dataset()")
    resources = ray.cluster_resources()
    on_gpu = choose_gpu(device, resources, workers)
    size = workers or max(1, int(resources.get("GPU" if on_gpu else "CPU", 1)))
    if on_gpu:
        decode = partial(_decode, column=column, color=color, keep=keep)
        dataset = dataset.map_batches(decode, batch_size=CPU_ROWS, batch_format="pyarrow", num_cpus=1)
    about = {"column": column, "color": color, "keep": keep, "device": "cuda" if on_gpu else "cpu"}
    return dataset.map_batches(
        FaceDetection,
        fn_constructor_args=(model,),
        fn_constructor_kwargs=about | options,
        compute=ray.data.ActorPoolStrategy(min_size=size if on_gpu else 1, max_size=size),
        batch_size=batch_size or (GPU_ROWS if on_gpu else CPU_ROWS),
        batch_format="pyarrow",
        # The only CPU of a cluster is left to the tasks that read, for which the actor would wait.
        **({"num_gpus": 1, "num_cpus": 0} if on_gpu else {"num_cpus": int(resources.get("CPU", 1) > 1)}),
    )


def read_pictures(uris: Iterable[str]) -> Any:
    """Return a Ray data set of picture files: ``uri``, ``bytes``, and ``error``, null for a file that was read.

    Parameters
    ----------
    uris
        Paths and addresses: ``file://``, ``s3://``, ``gs://`` and what else pyarrow reads.

    Returns
    -------
    ray.data.Dataset
        One row a picture. CPU tasks read the files when the data set is used.

    Raises
    ------
    MissingDependencyError
        If Ray is not installed.
    """
    ray, pa = load_ray("read_pictures()"), load("pyarrow", "read_pictures()", RAY)
    listed = list(uris)
    size = min(BLOCK, max(CPU_ROWS, len(listed) // (8 * max(1, int(ray.cluster_resources().get("CPU", 1))))))
    parts = grouped(listed, size) if listed else [listed]
    blocks = [pa.table({"uri": pa.array(part, pa.string())}) for part in parts]
    return ray.data.from_arrow(blocks).map_batches(_read, batch_size=CPU_ROWS, batch_format="pyarrow", num_cpus=1)


def choose_gpu(device: str, resources: Mapping[str, float], workers: int | None) -> bool:
    """Return whether to detect on the GPUs of a cluster with these resources."""
    if device not in ("auto", "cpu", "cuda"):
        what = f"device must be auto, cpu or cuda on a cluster, not {device}"
        raise OptionError(what, fields=["device"], value=device, choices=("auto", "cpu", "cuda"))
    has_gpu = resources.get("GPU", 0) >= 1
    if device == "cuda" and not has_gpu and not workers:  # a cluster that grows may have none yet
        what = (
            "device cuda requires a GPU, but the cluster has none; give the number of workers if it starts them later"
        )
        raise OptionError(what, fields=["device"], value=device)
    return device == "cuda" or (has_gpu and device != "cpu")


def assigned_cpus() -> int | None:
    """Return the CPUs of this actor; None outside of one, and for one that has none of its own."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized() or not (about := ray.get_runtime_context()).get_actor_id():
        return None
    return int(about.get_assigned_resources().get("CPU", 0)) or None


def _names(batch: Any) -> list[str]:
    return list(getattr(batch, "column_names", batch))


def _picture_column(batch: Any, wanted: str | None) -> str:
    names = _names(batch)
    for name in COLUMNS if wanted is None else (wanted,):
        if name in names:
            return name
    what = f"a column {wanted}" if wanted else "a column bytes, image, path or uri"
    raise OptionError(f"the data set must have {what}; it has {', '.join(names)}", fields=["column"], value=wanted)


def _values(batch: Any, name: str) -> list[Any]:
    """Return the values of a column; those of a tensor column as arrays."""
    column = batch[name]
    if not hasattr(column, "chunks"):
        return list(column)
    is_tensor = hasattr(column.type, "storage_type")
    read = [(chunk.to_numpy(zero_copy_only=False) if is_tensor else chunk.to_pylist()) for chunk in column.chunks]
    return [value for values in read for value in values]


def _pictures(batch: Any, column: str) -> Iterator[Any]:
    """Yield the pictures in a column as a detector takes them, files by their content; or the error of one."""
    problems = _values(batch, "error") if "error" in _names(batch) else repeat(None)
    with mapped(_content, _values(batch, column), workers=READERS, ahead=2 * READERS) as contents:
        for content, problem in zip(contents, problems, strict=False):
            yield ImageError(problem) if isinstance(problem, str) else content


def _content(value: Any) -> Any:
    """Return a value of a column, or the content of the file that it names, or the error."""
    if isinstance(value, Mapping):  # as Hugging Face's data sets hold pictures
        value = value.get("bytes") or value.get("path")
    if value is None:
        return ImageError("the row has no picture")
    if not isinstance(value, str):
        return value
    try:
        return read_content(value)
    except ScrfdError as error:
        return without_frames(error)


def _rest(batch: Any, column: str, *, keep: bool) -> Any:
    """Return a batch as a table without pixels, errors, and, if they are not kept, pictures."""
    unwanted = {PIXELS, *SIDES, "error"} | (set() if keep else {"bytes", "image", column} - {"path", "uri"})
    names = [name for name in _names(batch) if name not in unwanted]
    if hasattr(batch, "column_names"):  # an Arrow table
        return batch.select(names)
    from ray.data.block import BlockAccessor  # noqa: PLC0415 - optional

    block = batch[names] if hasattr(batch, "columns") else {name: batch[name] for name in names}
    return BlockAccessor.for_block(BlockAccessor.batch_to_block(block)).to_arrow()


def _read(batch: Any) -> Any:
    """Return a table of addresses with the content of the files."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    contents = [_bytes(each) for each in _pictures(batch, "uri")]
    content = pa.array([None if isinstance(each, ScrfdError) else each for each in contents], pa.binary())
    return pa.table({"uri": batch["uri"], "bytes": content, "error": _errors(contents)})


def _bytes(content: Any) -> Any:
    """Return the content of a file on this machine, or the error; anything else as it is."""
    try:
        with store_errors(ImageError):
            return content.read_bytes() if isinstance(content, Path) else content
    except ImageError as error:
        return without_frames(error)


def _decode(batch: Any, *, column: str | None, color: str, keep: bool) -> Iterator[Any]:
    """Yield tables with the pixels of pictures in place of their files."""
    column = _picture_column(batch, column)
    rest = _rest(batch, column, keep=keep)
    rows: list[NDArray[np.uint8] | ScrfdError] = []
    size = 0
    for number, picture in enumerate(_pictures(batch, column), 1):
        rows.append(pixels_or_error(picture, color))
        size += getattr(rows[-1], "nbytes", 0)
        if number == len(batch) or size >= MAX_PIXEL_BYTES:
            yield _with_pixels(rest.slice(number - len(rows), len(rows)), rows)
            rows, size = [], 0


def pixels_or_error(picture: Any, color: str) -> NDArray[np.uint8] | ScrfdError:
    try:
        return picture if isinstance(picture, ScrfdError) else np.ascontiguousarray(pixels_of(picture, color))
    except ScrfdError as error:
        return without_frames(error)
    except (MemoryError, cv2.error) as error:
        return ImageError(f"the picture cannot be decoded: {one_line(error)}")


def _with_pixels(table: Any, rows: Sequence[NDArray[np.uint8] | ScrfdError]) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - optional

    images = [None if isinstance(row, ScrfdError) else row for row in rows]
    pixels = [None if each is None else each.reshape(-1).data for each in images]
    sides = [[None if each is None else each.shape[axis] for each in images] for axis in range(2)]
    added = [pa.array(pixels, pa.large_binary()), *(pa.array(side, pa.int32()) for side in sides), _errors(rows)]
    for name, values in zip((PIXELS, *SIDES, "error"), added, strict=True):
        table = table.append_column(name, values)
    return table


def _shipped(batch: Any) -> Iterator[NDArray[np.uint8] | ScrfdError]:
    """Yield the pixels, or the error, of each row of :func:`_with_pixels`."""
    sides = (batch[name].to_pylist() for name in SIDES)
    for pixels, height, width, problem in zip(batch[PIXELS], *sides, batch["error"].to_pylist(), strict=True):
        yield ImageError(problem) if problem else np.frombuffer(pixels.as_buffer(), np.uint8).reshape(height, width, 3)


def _with_faces(table: Any, outcomes: Sequence[Outcome]) -> Any:
    """Return a table with the columns of faces, and the reason where a picture failed."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    faces = [None if isinstance(each, ScrfdError) else each for each in outcomes]
    found = [each for each in faces if each is not None and len(each)]
    ends = pa.array(np.cumsum([0, *(0 if each is None else len(each) for each in faces)], dtype=np.int32))

    def lists(values: list[NDArray[np.float32]], *sides: int) -> Any:
        array = pa.array(np.concatenate([np.empty(0, np.float32), *(each.reshape(-1) for each in values)]))
        for side in sides:
            array = pa.FixedSizeListArray.from_arrays(array, side)
        return pa.ListArray.from_arrays(ends, array)

    points = [each.landmarks for each in found if each.landmarks is not None]
    has_points = len(points) == len(found)
    columns = {
        "boxes": lists([each.boxes for each in found], 4),
        "scores": lists([each.scores for each in found]),
        "landmarks": lists(points, 2, 5)
        if has_points
        else pa.nulls(len(faces), pa.list_(pa.list_(pa.list_(pa.float32(), 2), 5))),
        "width": pa.array([None if each is None else each.image_size[0] for each in faces], pa.int32()),
        "height": pa.array([None if each is None else each.image_size[1] for each in faces], pa.int32()),
        "error": _errors(outcomes),
    }
    return pa.table({name: table[name] for name in table.column_names if name not in columns} | columns)


def _errors(values: Iterable[Any]) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - optional

    return pa.array([str(each) if isinstance(each, ScrfdError) else None for each in values], pa.string())
