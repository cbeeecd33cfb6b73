"""``scrfd-trt models``: the networks that are known by name."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from scrfd_trt._cli import console, options
from scrfd_trt.models import HOME_VARIABLE, WEIGHTS_LICENCE, Model, SourceStatus, home, list_models, status
from scrfd_trt.models import fetch as fetch_model

Fetch = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Download this network, if it is not here yet, and write its path.", show_default=False
    ),
]


def models(*, as_json: options.AsJson = False, fetch: Fetch = None) -> None:
    """List the networks that are known by name, and where they are.

    AP is the average precision in per cent on WIDER FACE, easy, medium and
    hard, as the SCRFD paper and InsightFace give it.

    For example:
      scrfd-trt models
      scrfd-trt models --fetch 2.5g_bnkps
    """
    with console.logged():
        if fetch is not None:
            path = fetch_model(fetch)
            console.write(json.dumps({"name": fetch, "path": str(path)}) + "\n" if as_json else f"{path}\n")
            return
        rows = [(model, status(model)) for model in list_models()]
        if as_json:
            console.write(json.dumps([about(model, places) for model, places in rows], indent=2) + "\n")
        else:
            _show(rows)


Rows = list[tuple[Model, tuple[SourceStatus, ...]]]


def about(model: Model, places: tuple[SourceStatus, ...]) -> dict[str, Any]:
    """Return what is known of a network, for JSON."""
    here = _first(places, "available")
    return {
        "name": model.name,
        "published_as": model.published_as,
        "path": here.where if here else None,
        "landmarks": model.landmarks,
        "ap": model.ap._asdict(),
        "gflops": model.gflops,
        "params_millions": model.params,
        "size": model.size,
        "sha256": list(model.sha256),
        "licence": model.licence,
        "sources": [
            {"source": place.source, "state": place.state, "where": place.where, "detail": place.detail}
            for place in places
        ],
    }


def _show(rows: Rows) -> None:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    table.add_column("name", no_wrap=True)
    for name in ("AP easy", "medium", "hard", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("landmarks", no_wrap=True)
    table.add_column("where it is", no_wrap=True)
    for model, places in rows:
        table.add_row(
            Text(model.name, style="bold"),
            *(f"{value:.2f}" for value in model.ap),
            "" if model.size is None else f"{model.size / 1e6:.1f}",
            "five" if model.landmarks else "none",
            _state(places),
        )
    console.show(table)
    console.write("\n")
    for line in _paths(rows):
        console.print_line(line)
    console.print_line(f"Files go into {home()}, or where {HOME_VARIABLE} says.")
    console.print_line(f"Licence of the weights: {WEIGHTS_LICENCE}.", style="yellow")


def _state(places: tuple[SourceStatus, ...]) -> Text:
    if _first(places, "refused"):
        return Text("cannot be used", style="red")
    here = _first(places, "available")
    if here:
        return Text("home folder" if here.source == "home" else "installed package", style="green")
    if any(place.source == "download" and place.state == "offered" for place in places):
        return Text("to be downloaded")
    return Text("to be exported", style="dim")


def _paths(rows: Rows) -> list[str]:
    """Return a line for each network that is here, with its path, for which no table is wide enough."""
    found = []
    for model, places in rows:
        here, refused = _first(places, "available"), _first(places, "refused")
        if refused:
            found.append(f"{model.name}: {console.printable(refused.detail)}")
        elif here:
            found.append(f"{model.name}: {console.printable(here.where)}")
    return found


def _first(places: tuple[SourceStatus, ...], state: str) -> SourceStatus | None:
    return next((place for place in places if place.state == state), None)
