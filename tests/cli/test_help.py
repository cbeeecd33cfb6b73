"""The help of each command: basic options with --help, all with --help-all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scrfd_trt._cli.application import COMMANDS, load_command
from scrfd_trt._cli.help_panels import BASIC, MAX_BASIC, is_basic
from scrfd_trt._cli.option_table import OPTIONS

Run = Callable[..., Any]
TWO_SCREENS = 80
SLOW = (pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS if name != "anonymize")
EACH_COMMAND = pytest.mark.parametrize("name", ["anonymize", *SLOW])


def flags(name: str, *, basic: bool) -> list[str]:
    """The first long name of each option, and the help's own."""
    command = load_command(name)
    shown = [one for one in command.params if one.param_type_name == "option"]
    return [*(one.opts[0] for one in shown if not basic or is_basic(command, one)), "--help"]


@EACH_COMMAND
def test_basic_help_is_short_and_ends_with_examples(run: Run, name: str) -> None:
    out = run(name, "--help").out
    words = {word.rstrip(",") for word in out.partition("Examples")[0].split()}
    assert words.issuperset(flags(name, basic=True))
    assert len(flags(name, basic=True)) <= MAX_BASIC
    assert len(out.splitlines()) <= TWO_SCREENS
    examples, _, last = out.rpartition("Examples\n")[2].partition("\n\n")
    assert 1 <= examples.count("scrfd-trt ") <= 2
    assert last.startswith(f"'scrfd-trt {name} --help-all' lists ")


@EACH_COMMAND
def test_each_option_is_in_the_complete_help(run: Run, name: str) -> None:
    out = run(name, "--help-all").out
    assert {word.rstrip(",") for word in out.split()}.issuperset(flags(name, basic=False))


def test_last_line_of_the_help_names_tasks(run: Run) -> None:
    last = run("anonymize", "--help").out.partition(" more options: ")[2].replace("\n", " ")
    assert last.startswith("metadata that is kept, detection, detections files, who stays visible, videos, ")


def test_tables_of_the_help_name_options_only() -> None:
    names = {command: {one.name for one in load_command(command).params} for command in COMMANDS}
    assert [name for name in OPTIONS if not any(name in found for found in names.values())] == []
    assert [name for command, text in BASIC.items() for name in text.split() if name not in names[command]] == []


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("an", {"anonymize"}),
        ("models --fetch 5", {"500m_bnkps", "500m_gnkps", "500m"}),
        ("detect a.jpg --device cu", {"cuda", "cuda:0", "cuda:all"}),
        ("detect --format c", {"csv", "coco"}),
        ("anonymize --codec h26", {"h264", "h264_nvenc"}),
        ("anonymize --damaged k", {"keep"}),
        ("anonymize --overlay pix", {"pixelate"}),
        ("anonymize --overlay sk", {""}),
        ("overlays sk", {"skull"}),
        ("detect pho", {""}),
    ],
)
@pytest.mark.usefixtures("known_overlays")
def test_completion_in_bash(run: Run, monkeypatch: pytest.MonkeyPatch, words: str, completed: set[str]) -> None:
    monkeypatch.setenv("_SCRFD_TRT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"scrfd-trt {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    ran = run()
    assert (ran.code, ran.err, {*ran.out.rstrip("\n").split("\n")}) == (0, "", completed)


def test_names_of_deface(run: Run) -> None:
    assert run("anonymize", "x.png", "--replacewith=img").error == "--replace-with img requires --replace-image FILE"
    error = run("anonymize", "x.png", "--thresh", "0.2", "--mosaicsize", "9", "--replaceimg", "a.png").error
    assert error == "--replace-image requires --replace-with img"
