"""README.md and docs/: the Python code runs, the commands are valid, the links have targets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pytest
import typer
from typer.main import get_command

from scrfd_trt import samples
from scrfd_trt._cli.application import COMMANDS as COMMAND_NAMES
from scrfd_trt._cli.application import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"""(?:\]\(|(?:src|srcset|href)=")(?!https?:|mailto:|#)([^)"#\s]+)""")
SHELLS = {"sh", "bash", "console", "powershell"}


class Fence(NamedTuple):
    page: str
    section: str
    line: int
    language: str
    text: str


def fences(page: Path) -> Iterator[Fence]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        section = re.findall(r"^## (.*)$", before, re.MULTILINE)[-1:]
        yield Fence(page.relative_to(ROOT).as_posix(), *(section or [""]), before.count("\n") + 2, match[1], match[2])


def commands(fence: Fence) -> Iterator[list[str]]:
    """Words of each call of scrfd-trt in a shell fence, without what is piped, redirected or chained."""
    for line in fence.text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        for is_operator, part in groupby(words, lambda word: set(word) <= set("|&;<>()")):
            call = list(part)
            if is_operator:
                continue
            if re.split(r"[/\\]", call[0])[-1] == "scrfd-trt":
                yield call[1:]
            elif call[1:3] == ["-m", "scrfd_trt"]:
                yield call[3:]


def is_made_by_the_build(target: str) -> bool:
    """Return whether a target is the page of a command, which docs/command_reference.py makes."""
    found = re.search(r"reference/commands/([a-z]+)\.md$", target)
    return found is not None and found[1] in COMMAND_NAMES


FENCES = [fence for page in PAGES for fence in fences(page)]
TUTORIAL = "docs/start.md"  # whose blocks run one after the other
PYTHON = [
    list(run)
    for _, run in groupby(
        (f for f in FENCES if f.language == "python"), lambda f: (f.page, f.page == TUTORIAL or f.section)
    )
]
COMMANDS = [(fence, command) for fence in FENCES if fence.language in SHELLS for command in commands(fence)]


@pytest.mark.slow
@pytest.mark.parametrize("section", PYTHON, ids=lambda section: f"{section[0].page}:{section[0].section}")
def test_python_runs(section: list[Fence], network_500m, tmp_path, monkeypatch):
    """The blocks of one section run one after the other, in a folder with a photo.jpg of six people."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", samples.load("group").image)
    names: dict[str, Any] = {"__name__": "__main__"}
    for fence in section:
        exec(compile("\n" * (fence.line - 1) + fence.text, str(ROOT / fence.page), "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize(("fence", "words"), COMMANDS, ids=[f"{fence.page}:{' '.join(c)}" for fence, c in COMMANDS])
def test_command_is_valid(fence: Fence, words: list[str]):
    with suppress(typer.Exit):  # --help and --version
        context = get_command(app).make_context("scrfd-trt", list(words))
        name, command, rest = context.command.resolve_command(context, list(words))
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_link_targets_exist(page: Path):
    targets = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    missing = [target for target in targets if not (page.parent / target).exists() and not is_made_by_the_build(target)]
    assert not missing


def test_readme_has_a_picture_python_and_commands():
    readme = PAGES[0].read_text(encoding="utf-8")
    assert re.search(r"!\[[^\]]+\]\(|<img ", readme)
    assert any(section[0].page == "README.md" for section in PYTHON)
    assert any(fence.page == "README.md" for fence, _ in COMMANDS)


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_readme_has_the_two_lines_that_ci_runs(name: str):
    """``.ci/run`` reads them from the README."""
    readme = PAGES[0].read_text(encoding="utf-8")
    found = re.findall(rf"^<!-- line: {name} -->\n```sh\n(.*)\n```$", readme, re.MULTILINE)
    assert len(found) == 1
