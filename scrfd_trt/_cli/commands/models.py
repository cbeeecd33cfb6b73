"""``scrfd-trt models``: list the models and their file locations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from rich.text import Text

from scrfd_trt._cli import console
from scrfd_trt._cli.option_table import option
from scrfd_trt.models import HOME_VARIABLE, WEIGHTS_LICENCE, Model, SourceStatus, home, list_models, status
from scrfd_trt.models import fetch as fetch_model

Statuses = tuple[SourceStatus, ...]


def models(
    *,
    as_json: bool = False,
    fetch: Annotated[str | None, option("MODEL", "Download this model if needed, and print its path.")] = None,
) -> None:
    """List the models and their file locations.

    AP is the average precision on WIDER FACE (easy, medium, hard) in per
    cent, as published for SCRFD.

    For example:
      scrfd-trt models
      scrfd-trt models --fetch 2.5g_bnkps
    """
    with console.logged():
        if fetch is not None:
            path = fetch_model(fetch)
            if as_json:
                console.write_json({"name": fetch, "path": str(path)}, indent=None)
            else:
                console.write(f"{path}\n")
            return
        found = {model: status(model) for model in list_models()}
        if as_json:
            console.write_json([_as_dict(model, sources) for model, sources in found.items()])
        else:
            _print(found)


def _as_dict(model: Model, sources: Statuses) -> dict[str, Any]:
    local = _first(sources, "available")
    return {
        "name": model.name,
        "published_as": model.published_as,
        "path": local.where if local else None,
        "landmarks": model.landmarks,
        "ap": model.ap._asdict(),
        "gflops": model.gflops,
        "params_millions": model.params,
        "size": model.size,
        "sha256": list(model.sha256),
        "licence": model.licence,
        "sources": [asdict(source) for source in sources],
    }


def _print(found: dict[Model, Statuses]) -> None:
    table = console.table("name", ">AP easy", ">medium", ">hard", ">MB", "landmarks", "file")
    for model, sources in found.items():
        table.add_row(
            Text(model.name, style="bold"),
            *(f"{value:.2f}" for value in model.ap),
            "" if model.size is None else f"{model.size / 1e6:.1f}",
            "five" if model.landmarks else "none",
            _state(sources),
        )
    console.show(table)
    console.write("\n")
    # Paths are too long for the table.
    for model, sources in found.items():
        if refused := _first(sources, "refused"):
            console.print_line(f"{model.name}: {console.printable(refused.detail)}")
        elif local := _first(sources, "available"):
            console.print_line(f"{model.name}: {console.printable(local.where)}")
    console.print_line(f"Files are stored in {home()}; set {HOME_VARIABLE} to change the folder.")
    console.print_line(f"Licence of the weights: {WEIGHTS_LICENCE}.", style="yellow")


def _state(sources: Statuses) -> Text:
    if _first(sources, "refused"):
        return Text("cannot be used", style="red")
    if local := _first(sources, "available"):
        return Text("home folder" if local.source == "home" else "installed package", style="green")
    if any(source.source == "download" and source.state == "offered" for source in sources):
        return Text("download")
    return Text("by hand", style="dim")


def _first(sources: Statuses, state: str) -> SourceStatus | None:
    return next((source for source in sources if source.state == state), None)
