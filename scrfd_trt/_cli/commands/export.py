"""``scrfd-trt export``: write a model in the form that a model server reads."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from scrfd_trt import models
from scrfd_trt._cli import console, options
from scrfd_trt._cli.detector import parse_rotations, parse_scales
from scrfd_trt._cli.outputs import check_folder, make_folder
from scrfd_trt._engine.inspect import inspect_engine
from scrfd_trt._engine.plan import is_engine_file, is_model_path
from scrfd_trt._files import atomic_file, check_readable, user_path
from scrfd_trt._heads import HeadLayout, recognize
from scrfd_trt._options import DetectorOptions
from scrfd_trt._pipelines.profiles import choose_scales, describe, largest_batch
from scrfd_trt._tensors import ShapeRange, TensorSpec
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.errors import ModelFormatError, OptionError

NAME = "scrfd"
TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16"}
DEFAULT_BATCH: int = DetectorOptions.model_fields["max_batch"].default
PROCESSES = 4
"""Of the Python model, because Python uses one core."""
WAIT = 1000
"""For further requests, in microseconds."""

Server = Annotated[Literal["triton"], typer.Argument(metavar="triton", help="Model server: triton.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Model repository; created if missing.")]


def export(
    server: Server,  # noqa: ARG001 - there is one
    folder: Folder,
    *,
    model: str = options.DEFAULT_MODEL,
    detection: options.LimitedDetectArgs,
    overwrite: bool = False,
) -> None:
    """Write a model repository of Triton Inference Server.

    It holds two models: scrfd_network, the engine or ONNX file, and scrfd,
    a Python model that takes image files and returns faces. Triton's Python
    requires this package.

    For example:
      scrfd-trt export triton models
      scrfd-trt export triton models --model face.plan --threshold 0.4
    """
    network = _read_network(model)
    chosen = DetectorOptions(
        threshold=detection.threshold,
        iou=detection.iou,
        scales=parse_scales(detection.scale),
        min_face=detection.min_face,
        rotations=parse_rotations(detection.rotations),
        max_faces=detection.max_faces,
        max_batch=network.max_batch or 1,
    )
    choose_scales(network.input.shape, chosen.scales, network.ranges)
    about = {
        "options": chosen.model_dump(mode="json", exclude={"color"}),
        "network": {
            "input": asdict(network.input),
            "outputs": [asdict(each) for each in network.outputs],
            "ranges": [asdict(each) for each in network.ranges],
        },
    }
    server_code = Path(console.__file__).with_name("triton_model.py")
    kinds = ["model.onnx", "model.plan"]
    files = {
        f"{NAME}_network/1/{kinds[network.is_engine]}": network.content,
        f"{NAME}_network/config.pbtxt": _network_config(network).encode(),
        f"{NAME}/1/detector.json": (json.dumps(about, indent=2) + "\n").encode(),
        f"{NAME}/1/model.py": server_code.read_bytes(),
        f"{NAME}/config.pbtxt": _faces_config(network).encode(),
    }
    check_folder(folder)
    taken = next((folder / name for name in files if (folder / name).exists()), None)
    if taken is not None and not overwrite:
        raise OptionError(f"{taken} already exists; name another folder, or add --overwrite to replace it")
    for name, content in files.items():
        make_folder((folder / name).parent)
        with atomic_file(folder / name, overwrite=overwrite) as file:
            file.write(content)
    (folder / f"{NAME}_network/1/{kinds[not network.is_engine]}").unlink(missing_ok=True)  # of the model before
    console.plain(f"wrote {folder}: {NAME} (image files in, faces out) and {NAME}_network ({network.description})")
    console.plain(f"start Triton: tritonserver --model-repository {shlex.quote(str(folder.absolute()))}")


@dataclass(frozen=True)
class Network:
    """A model file and its tensors."""

    content: bytes
    is_engine: bool
    input: TensorSpec
    outputs: Sequence[TensorSpec]
    ranges: Sequence[ShapeRange]
    description: str

    @property
    def layout(self) -> HeadLayout:
        return recognize(self.outputs)

    @property
    def max_batch(self) -> int:
        """The most images per run; 0 if Triton cannot put images of several requests into one."""
        if self.input.shape[0] is not None or not self.layout.has_batch_axis:
            return 0
        sizes = {each.opt[:1:-1] for each in self.ranges}
        return min((largest_batch(self.ranges, (width, height)) for width, height in sizes), default=DEFAULT_BATCH)

    @property
    def batching(self) -> str:
        """Dynamic batching; it prefers the sizes that the profiles of an engine are tuned for."""
        best = sorted({each.opt[0] for each in self.ranges if 1 < each.opt[0] <= self.max_batch})
        preferred = f"preferred_batch_size: {best} " if best else ""
        return f"dynamic_batching {{ {preferred}max_queue_delay_microseconds: {WAIT} }}"


def _read_network(model: str) -> Network:
    path = user_path(model) if is_model_path(model) else models.fetch(model)
    check_readable(path)
    if not is_engine_file(path):
        content = path.read_bytes()
        backend = OnnxBackend(content)
        backend.close()
        recognize(backend.outputs)
        return Network(content, False, backend.input, backend.outputs, (), f"{path.name}, ONNX Runtime")
    report = inspect_engine(path)
    if report.kind != "tensorrt plan":
        raise OptionError(f"{path}: Triton runs engines of TensorRT, but this is a {report.kind}; use its .onnx file")
    if report.layout is None:
        why = "; ".join(report.reasons) or "its tensors are not known"
        raise ModelFormatError(f"{path}: it cannot be opened here, and has no record beside it: {why}")
    tensors = {
        role: [TensorSpec(each.name, each.shape, each.dtype) for each in report.tensors if each.role == role]
        for role in ("input", "output")
    }
    about = f"{path.name}, TensorRT {report.version}"
    network = Network(path.read_bytes(), True, tensors["input"][0], tensors["output"], report.profiles, about)
    singles = [(1, *each.opt[1:]) for each in network.ranges if network.input.shape[0] is None]
    if not all(any(each.admits(shape) for each in network.ranges) for shape in singles):
        raise OptionError(f"{path} takes {describe(network.ranges)}; build it for single images too: --batch 1,8,32")
    return network


def _network_config(network: Network) -> str:
    instances = "count: 1 kind: KIND_CPU"
    if network.is_engine:  # without its profiles, Triton uses the first one only
        instances = f"count: 1 kind: KIND_GPU profile: {json.dumps([str(n) for n in range(len(network.ranges))])}"
    return _config(
        f'platform: "{"tensorrt_plan" if network.is_engine else "onnxruntime_onnx"}"',
        f"max_batch_size: {network.max_batch}",
        *_listed("input", [_io(network.input, network.max_batch)]),
        *_listed("output", [_io(each, network.max_batch) for each in network.outputs]),
        f"instance_group [ {{ {instances} }} ]",
        network.batching if network.max_batch else "",
    )


def _faces_config(network: Network) -> str:
    columns: dict[str, tuple[str, list[int]]] = {
        "count": ("TYPE_INT32", [1]),
        "boxes": ("TYPE_FP32", [-1, 4]),
        "scores": ("TYPE_FP32", [-1]),
        "landmarks": ("TYPE_FP32", [-1, 5, 2]),
        "image_size": ("TYPE_INT32", [2]),
    }
    if network.layout.landmarks is None:
        del columns["landmarks"]
    return _config(
        'backend: "python"',
        f"max_batch_size: {network.max_batch or DEFAULT_BATCH}",
        *_listed("input", [_tensor("image", "TYPE_STRING", [1])]),
        *_listed("output", [_tensor(name, *about) for name, about in columns.items()]),
        f"instance_group [ {{ count: {PROCESSES} kind: KIND_CPU }} ]",
        network.batching,
    )


def _config(*lines: str) -> str:
    """Return a ``config.pbtxt``; without a name, a model has that of its folder."""
    return "".join(f"{line}\n" for line in lines if line)


def _listed(name: str, items: Iterable[str]) -> list[str]:
    return [f"{name} [", ",\n".join(f"  {item}" for item in items), "]"]


def _io(tensor: TensorSpec, max_batch: int) -> str:
    dims = [-1 if side is None else side for side in tensor.shape]
    return _tensor(tensor.name, TYPES[tensor.dtype], dims[1:] if max_batch else dims)


def _tensor(name: str, kind: str, dims: list[Any]) -> str:
    return f"{{ name: {json.dumps(name)} data_type: {kind} dims: {dims} }}"
