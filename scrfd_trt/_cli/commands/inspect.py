"""``scrfd-trt inspect``: describe engine and model files, and check whether they can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from scrfd_trt._cli import console
from scrfd_trt._cli.detector import gpu_number
from scrfd_trt._cli.exits import FAILED, flags
from scrfd_trt._cli.inputs import exists
from scrfd_trt._cli.option_rules import ENGINES, check_options
from scrfd_trt._cli.option_table import option
from scrfd_trt._engine.inspect import EngineReport, inspect_engine
from scrfd_trt._engine.plan import is_engine_file
from scrfd_trt._files import user_path
from scrfd_trt.errors import ModelNotFoundError
from scrfd_trt.models import list_models, status

BOLD_LABELS = {"file", "usable here"}
USABLE_STYLES = {"yes": "bold green", "no": "bold red"}

Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="Engine or .onnx files.")]
Device = Annotated[str, option("DEVICE", "GPU to check the engines on: cuda or cuda:N.")]


def inspect(
    context: typer.Context,
    files: Files,
    *,
    device: Device = "cuda",
    lean_runtime: Path | None = None,
    allow_host_code: bool = False,
    as_json: bool = False,
) -> None:
    """Describe engines and models, and check whether this machine can use them.

    Opens an engine if there is a GPU and a matching TensorRT; otherwise
    reads the file's header and the JSON file beside it. --json prints one
    JSON object per line, one per file.

    Exit code: 0 if all files can be used on this machine, else 1.

    For example:
      scrfd-trt inspect face.plan
      scrfd-trt inspect my.onnx --json
    """
    with console.logged():
        files = [_local(file) for file in files]
        engines = any(is_engine_file(file) or not exists(file) for file in map(user_path, files))
        check_options(context, {ENGINES} if engines else ())
        gpu = gpu_number(device)
        usable = True
        for index, file in enumerate(files):
            try:
                report = inspect_engine(
                    user_path(file), device=gpu, lean_runtime=lean_runtime, allow_host_code=allow_host_code
                )
            except ModelNotFoundError as error:
                usable = False
                if as_json:
                    console.write_json({"path": str(file), "error": str(error)}, indent=None)
                console.error(error)
                continue
            usable = usable and report.usable
            if as_json:
                console.write(report.model_dump_json() + "\n")
            else:
                _print(report, separated=index > 0)
    if not usable:
        raise typer.Exit(FAILED)


def _local(file: Path) -> Path:
    """Return the file of a model that is named, if it is on this machine."""
    model = next((one for one in list_models() if one.name == str(file) and not exists(file)), None)
    places = [] if model is None else [source.where for source in status(model) if source.state == "available"]
    return Path(places[0]) if places and places[0] else file


def _print(report: EngineReport, *, separated: bool) -> None:
    (_, path), *rows = report.rows()
    if advised := flags(report.fields):
        rows.append(("options", ", ".join(advised)))
    if separated:
        console.write("\n")
    console.print_line(console.printable(path), style="bold")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    previous = ""
    for label, text in rows:
        style = USABLE_STYLES.get(text, "") if label == "usable here" else ""
        value = Text(console.printable(text), style=style)
        # Only the first item of a list has a label.
        shown = "" if label == previous else label
        table.add_row(Text(shown, style="bold" if label in BOLD_LABELS else "dim"), value)
        previous = label
    console.show(table)
