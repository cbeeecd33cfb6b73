from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from scrfd_trt._cli.options import SelectionArgs, flatten_groups
from scrfd_trt.errors import OptionError


@dataclass(frozen=True)
class Inner:
    depth: Annotated[int, typer.Option("--deep", min=1, help="Depth.")] = 3


@dataclass(frozen=True)
class Group:
    name: Annotated[str, typer.Option(help="Name.")]
    inner: Inner


@dataclass(frozen=True)
class Narrow(Inner):
    depth: Annotated[int, typer.Option("--deep", min=1, help="Depth.")] = 7


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        (["a", "--name", "b"], ("a", Group("b", Inner(3)), False)),
        (["a", "--name", "b", "--deep", "2", "--loud"], ("a", Group("b", Inner(2)), True)),
    ],
)
def test_a_command_gets_its_groups(words: list[str], taken: tuple[object, ...]) -> None:
    found: list[tuple[object, ...]] = []

    def command(first: str, *, group: Group, loud: bool = False) -> None:
        """Do it."""
        found.append((first, group, loud))

    app = typer.Typer()
    app.command()(flatten_groups(command))
    ran = CliRunner().invoke(app, words)
    assert (ran.exit_code, found) == (0, [taken])


def test_help_lists_the_fields_in_order_and_defaults_of_subclasses() -> None:
    def command(*, narrow: Narrow, last: bool = False) -> None:
        """Do it."""

    app = typer.Typer()
    app.command()(flatten_groups(command))
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "TERM": "dumb"}).output
    assert shown.index("--deep") < shown.index("--last")
    assert "[default: 7]" in shown
    assert "narrow" not in shown
    assert CliRunner().invoke(app, ["--deep", "0"]).exit_code == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10,20,60,80@0:02-0:01", "the end is before the start"),
        ("10,20,60,80@0:02 10,20,60,80@0:01", "the times must increase"),
        ("10,20,-60,80", "width and height must be above 0"),
        ("10 20 60 80", "use x, y, width and height in pixels, such as 0,0,640,200"),
        ("10,20,60,80@0-1s", "use two times, the earlier first, such as 0:05-1:12.5 or 5-72.5"),
        ("10,20,60,80@0:05", "one time is not enough"),
        ("10,20,60,80 10,20,60,80@0:05", "each of several places needs a time"),
        ("10,20,0.5,80", "places are at least one pixel wide and high"),
    ],
)
def test_what_is_wrong_with_a_cover(text: str, reason: str) -> None:
    with pytest.raises(OptionError, match=rf"^--cover '.*': {re.escape(reason)}"):
        SelectionArgs(cover=[text]).parse()
