"""README.md and docs/: the Python code and the commands run, the links have targets."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.main import get_command

from scrfd_trt import samples
from scrfd_trt._cli.application import COMMANDS as COMMAND_NAMES
from scrfd_trt._cli.application import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
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
NOT_RUN = re.compile(
    r"(demo|serve|studio|build|bench|evaluate|doctor|export|inspect)\b"  # servers, GPUs, data sets: see other tests
    r"|.*(://|camera:|--preview|--address|--device cuda|\.plan|my\.onnx|frames/|(^| )-( |$))"  # no network, no camera
)
DONE: set[tuple[str, ...]] = set()
"""Commands that ran; the slowest run once."""
ONE_PROGRAM = ("docs/start.md", "docs/how-to/python.md")  # pages whose blocks run one after the other
TORCH_OR_RAY = [fence for fence in FENCES if fence.language == "py"]
PYTHON = [
    list(run)
    for _, run in groupby(
        (f for f in FENCES if f.language == "python"), lambda f: (f.page, f.page in ONE_PROGRAM or f.section)
    )
]
COMMANDS = [(fence, command) for fence in FENCES if fence.language in SHELLS for command in commands(fence)]


def write_clip(path: str, image: NDArray[np.uint8]) -> None:
    """Write a clip of twelve seconds and four pictures."""
    with av.open(path, "w") as clip:
        stream = clip.add_stream("libx264", rate=Fraction(1, 3))
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
        for _ in range(4):
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        clip.mux(stream.encode())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the pages name: six people, small in all but photo.jpg."""
    folder = tmp_path_factory.mktemp("inputs")
    small = cv2.resize(samples.load("group-640x480").image, (320, 240), interpolation=cv2.INTER_AREA)
    for name in ("group.jpg", "photos/one.jpg", "scrfd-demo/scene.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), small)
    for name in ("clip.mp4", "talk.mp4", "street.mp4"):
        write_clip(str(folder / name), small)
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a copy of the inputs."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("section", PYTHON, ids=lambda section: f"{section[0].page}:{section[0].section}")
def test_python_runs(section: list[Fence], network_500m, folder):
    """The blocks of one section run one after the other, in a folder with a photo.jpg of six people."""
    cv2.imwrite("photo.jpg", samples.load("group").image)
    names: dict[str, Any] = {"__name__": "__main__"}
    for fence in section:
        exec(compile("\n" * (fence.line - 1) + fence.text, str(ROOT / fence.page), "exec"), names)


@pytest.mark.parametrize("fence", TORCH_OR_RAY, ids=lambda fence: f"{fence.page}:{fence.line}")
def test_python_that_is_not_run_imports_public_names(fence: Fence):
    for node in ast.walk(ast.parse(fence.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("scrfd_trt", "overlays"):
            module = pytest.importorskip(str(node.module))
            assert {name.name for name in node.names} <= {*module.__all__, *dir(module)}


@pytest.mark.slow
@pytest.mark.parametrize("page", dict.fromkeys(fence.page for fence, _ in COMMANDS))
def test_commands_run(page: str, network_500m, folder, monkeypatch):
    """The commands of a page run one after the other; those of NOT_RUN are read only."""
    shutil.copy("group.jpg", "photo.jpg")
    monkeypatch.setenv("SCRFD_TRT_ANONYMIZE_ROTATIONS", "none")  # which would take most of the time
    for name in ("DETECT", "ANONYMIZE", "OVERLAY", "TRACKS"):
        monkeypatch.setenv(f"SCRFD_TRT_{name}_OVERWRITE", "1")
    for words in (words for fence, words in COMMANDS if fence.page == page):
        if tuple(words) in DONE and "--verify" in words:
            continue
        DONE.add(tuple(words))
        if NOT_RUN.match(" ".join(words)):
            with suppress(typer.Exit):  # --help and --version
                context = get_command(app).make_context("scrfd-trt", list(words))
                name, command, rest = context.command.resolve_command(context, list(words))
                command.make_context(name, rest, parent=context)
        else:
            with pytest.raises(SystemExit) as end:
                app(list(words), prog_name="scrfd-trt")
            assert end.value.code == 0, " ".join(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_link_targets_exist(page: Path):
    targets = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    missing = [target for target in targets if not (page.parent / target).exists() and not is_made_by_the_build(target)]
    assert not missing


def test_readme_has_a_picture_python_and_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"!\[[^\]]+\]\(|<img ", readme)
    assert any(section[0].page == "README.md" for section in PYTHON)
    assert any(fence.page == "README.md" for fence, _ in COMMANDS)


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_readme_has_the_two_lines_that_ci_runs(name: str):
    """``.ci/run`` reads them from the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^<!-- line: {name} -->\n```sh\n(.*)\n```$", readme, re.MULTILINE)
    assert len(found) == 1
