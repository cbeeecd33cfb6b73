"""``scrfd-trt inspect``: what an engine or network file is, and whether it can be used here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from scrfd_trt._cli import console, options
from scrfd_trt._cli.detector import gpu_number
from scrfd_trt._cli.exits import FAILED, flags
from scrfd_trt._engine import inspect as looking
from scrfd_trt._engine.inspect import EngineReport
from scrfd_trt.errors import ModelNotFoundError

LABELS = {"file": "bold", "usable here": "bold"}
VERDICTS = {"yes": "bold green", "no": "bold red"}

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE", help="Engines, or networks as .onnx files.", show_default=False)
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="GPU that is to run the engines: cuda or cuda:N.")]


def inspect(
    files: Files,
    *,
    device: Device = "cuda",
    lean_runtime: options.LeanRuntime = None,
    allow_host_code: options.AllowHostCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Tell what engines or networks are, and whether they can be used here.

    An engine is opened where there is a GPU and a TensorRT for it; without
    them, its first bytes and the JSON beside it tell what they can. --json
    writes one object a line for each file. The exit code is 0 if all can be
    used on this machine, else 1.

    For example:
      scrfd-trt inspect face.plan
      scrfd-trt inspect my.onnx --json
    """
    with console.logged():
        number = gpu_number(device)
        usable = []
        for place, file in enumerate(files):
            report = _look(file, number, lean_runtime, allow_host_code=allow_host_code)
            usable.append(isinstance(report, EngineReport) and report.usable)
            if as_json:
                console.write(_json(file, report) + "\n")
            elif isinstance(report, EngineReport):
                _show(report, first=not place)
            if isinstance(report, str):
                console.error(report)
    if not all(usable):
        raise typer.Exit(FAILED)


def _look(file: Path, device: int, lean_runtime: Path | None, *, allow_host_code: bool) -> EngineReport | str:
    """Inspect a file; a string says why it cannot be read."""
    path = file.expanduser()
    try:
        return looking.inspect_engine(path, device=device, lean_runtime=lean_runtime, allow_host_code=allow_host_code)
    except ModelNotFoundError as error:
        return str(error)


def _json(file: Path, report: EngineReport | str) -> str:
    return json.dumps({"path": str(file), "error": report}) if isinstance(report, str) else report.model_dump_json()


def _show(report: EngineReport, *, first: bool) -> None:
    (_, path), *rows = report.rows()
    if advised := flags(report.fields):
        rows.append(("options", ", ".join(advised)))
    if not first:
        console.write("\n")
    console.print_line(console.printable(path), style="bold")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for label, text in rows:
        style = VERDICTS.get(text, "") if label == "usable here" else ""
        shown = Text(console.printable(text), style=style)
        # A list's label stands at its first item.
        table.add_row(Text("" if label == before else label, style=LABELS.get(label, "dim")), shown)
        before = label
    console.show(table)
