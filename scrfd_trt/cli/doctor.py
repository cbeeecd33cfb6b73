"""``scrfd-trt doctor``: what is there, what would be used, and what would mend the rest."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from scrfd_trt.cli import messages, options, stdout
from scrfd_trt.cli.check import Check
from scrfd_trt.cli.checks import all_checks
from scrfd_trt.cli.exits import FAILED
from scrfd_trt.cli.gpu_checks import ONLY_FOR_GPUS

STYLES = {"ok": "green", "absent": "dim", "problem": "bold red", "note": ""}


def doctor(*, as_json: options.AsJson = False) -> None:
    """Tell what is installed, what a detection would run on, and why not on the GPU.

    Nothing is downloaded or changed. The exit code is 0 if detection works,
    else 1.
    """
    with messages.logged(quiet=True):
        checks = all_checks()
    works = all(check.state != "problem" for check in checks if check.needed)
    if as_json:
        stdout.write(json.dumps({"works": works, "checks": [asdict(check) for check in checks]}, indent=2) + "\n")
    else:
        _show(checks, works)
    if not works:
        raise typer.Exit(FAILED)


def _show(checks: list[Check], works: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("detail", overflow="fold")
    group = checks[0].group
    for check in checks:
        if check.group != group:
            table.add_section()
            group = check.group
        table.add_row(check.name, Text(check.state, style=STYLES[check.state]), Text(messages.printable(check.detail)))
    stdout.show(table)
    _show_remedies([check for check in checks if check.remedy])
    stdout.write("\n")
    stdout.line(
        "Detection works." if works else "Detection does not work yet.", style="bold green" if works else "bold red"
    )


def _show_remedies(checks: list[Check]) -> None:
    titles = {
        "To mend:": [check for check in checks if check.state == "problem"],
        "To add:": [check for check in checks if check.state == "absent" and not _for_gpus(check)],
        "To add, for NVIDIA GPUs only (one of the TensorRTs is enough):": [
            check for check in checks if check.state == "absent" and _for_gpus(check)
        ],
        "To know:": [check for check in checks if check.state == "note"],
    }
    for title, chosen in titles.items():
        if chosen:
            stdout.write(f"\n{title}\n")
        for check in chosen:
            stdout.line(f"  {check.name}: {check.remedy}")


def _for_gpus(check: Check) -> bool:
    return check.group == "engines" or check.detail.endswith(ONLY_FOR_GPUS)
