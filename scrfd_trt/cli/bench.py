"""``scrfd-trt bench``: where the time of a detection goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from scrfd_trt import devices, samples, zoo
from scrfd_trt.backends import OnnxBackend
from scrfd_trt.backends.tensorrt import TensorRTBackend
from scrfd_trt.cli import messages, options, stdout
from scrfd_trt.cli.exits import FAILED
from scrfd_trt.cli.network import check_no_engine_options, gpu_number, is_engine, is_file, parse_scales
from scrfd_trt.cli.reading import read_image
from scrfd_trt.cli.stages import NETWORK, Measured, Times, measure
from scrfd_trt.errors import ImageError, OptionError
from scrfd_trt.options import DetectorOptions

MEANING = {
    "letterbox": "scale, pad, normalise",
    NETWORK: "the network's own run",
    "decode": "read the heads, map back",
    "nms": "non-maximum suppression",
    "result": "Detections, checked",
}

ImageFile = Annotated[
    Path | None, typer.Argument(metavar="[IMAGE]", help="An image file.", show_default="a drawn scene")
]
Runs = Annotated[int, typer.Option(min=1, metavar="N", help="How often each stage is measured.")]
Scale = Annotated[
    list[str] | None,
    typer.Option(
        "--scale",
        metavar="SIZE",
        help="Size of a pass in pixels, as for detect.",
        show_default="640, or an engine's own",
    ),
]


def bench(
    image: ImageFile = None,
    *,
    runs: Runs = 60,
    model: options.ModelName = options.DEFAULT_MODEL,
    device: options.Device = "auto",
    lean_runtime: options.LeanRuntime = None,
    allow_host_code: options.AllowHostCode = False,
    scale: Scale = None,
    threshold: options.Threshold = options.THRESHOLD,
    iou: options.Iou = options.IOU,
    as_json: options.AsJson = False,
) -> None:
    """Measure a detection, stage by stage.

    Medians over all runs, in milliseconds. The stages and detect() take
    turns, so that whatever else the machine does hits all of them alike.

    Networks are measured on the processor, and engines on the GPU, with the
    copies to it and back as a part of the network's own run.

    For example:
      scrfd-trt bench
      scrfd-trt bench group.jpg --scale 640 --runs 200
      scrfd-trt bench --model face.plan
    """
    with messages.logged():
        pixels = samples.scene().image if image is None else _read(image)
        chosen = DetectorOptions(threshold=threshold, iou=iou, scales=parse_scales(scale))
        path = Path(model).expanduser() if is_file(model) else zoo.fetch(model)
        if is_engine(path):
            number = gpu_number(device)
            engine = TensorRTBackend(path, device=number, lean_runtime=lean_runtime, allow_host_code=allow_host_code)
            measured = measure(engine, chosen, pixels, runs, device=f"cuda:{number}")
        else:
            check_no_engine_options(model, lean_runtime, allow_host_code=allow_host_code)
            _check_processor(device, model)
            chosen = chosen if scale else chosen.model_copy(update={"scales": ((640, 640),)})
            measured = measure(OnnxBackend(path), chosen, pixels, runs)
        name = "a drawn scene" if image is None else str(image)
        if as_json:
            stdout.write(json.dumps(as_dict(measured, name, path.name), indent=2) + "\n")
        else:
            _show(measured, name, path.name)


def _check_processor(device: str, model: str) -> None:
    if devices.parse(device)[0] == "cuda":
        raise OptionError(
            f"--device {device}: bench measures networks on the processor; for the GPU, make an engine first: "
            f"scrfd-trt build {model} -o face.plan"
        )


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        return read_image(path)
    except ImageError as error:
        messages.error(f"{path}: {error}")
        raise typer.Exit(FAILED) from error


def as_dict(measured: Measured, image: str, network: str) -> dict[str, Any]:
    """Return the figures for JSON, times in milliseconds."""
    return {
        "image": image,
        "image_size": list(measured.faces.image_size),
        "faces": len(measured.faces),
        "network": network,
        "runs_on": measured.description,
        "scales": [list(scale) for scale in measured.scales],
        "runs": len(measured.detect.seconds),
        "stages": {name: _pair(times) for name, times in measured.stages.items()},
        "around_network": _pair(measured.around),
        "detect": _pair(measured.detect),
        "detect_to_network": measured.ratio,
    }


def _pair(times: Times) -> dict[str, float]:
    return {"median": times.median, "best": times.best}


def _show(measured: Measured, image: str, network: str) -> None:
    width, height = measured.faces.image_size
    stdout.line(f"{messages.printable(image)}: {width}×{height}, {len(measured.faces)} faces; {network}", style="bold")
    stdout.line(measured.description, style="dim")
    stdout.write("\n")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column("median ms", justify="right", no_wrap=True)
    table.add_column("best ms", justify="right", no_wrap=True)
    table.add_column("what it is")
    for name, times in measured.stages.items():
        table.add_row(name, *_cells(times), MEANING[name])
    table.add_section()
    table.add_row("around the network", *_cells(measured.around), "letterbox, decode, nms and result together")
    table.add_row(
        "detect()", *_cells(measured.detect), f"{measured.ratio:.2f} times the network's own run", style="bold"
    )
    stdout.show(table)
    stdout.write(f"\n{len(measured.detect.seconds)} runs\n")


def _cells(times: Times) -> tuple[str, str]:
    return f"{times.median:.3f}", f"{times.best:.3f}"
