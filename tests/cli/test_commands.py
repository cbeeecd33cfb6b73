from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import scrfd_trt
from scrfd_trt import SCRFDDetector
from scrfd_trt.models import DEFAULT_MODEL

COMMANDS = ["demo", "detect", "overlay", "overlays", "studio", "models", "build", "inspect", "doctor", "bench"]

Run = Callable[..., Any]


def test_the_version(run: Run) -> None:
    assert run("--version") == (0, f"scrfd-trt {scrfd_trt.__version__}\n", "")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_all_commands(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert [name for name in re.findall(r"^\W (\w+) ", out, re.MULTILINE) if name in COMMANDS] == COMMANDS
    assert "completion" not in out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_fits_into_80_columns(run: Run, name: str) -> None:
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: scrfd-trt {name}" in out
    assert max(map(len, out.splitlines())) <= 80
    assert not re.search(r"--[\w-]*…", out), "the name of an option is cut"


@pytest.mark.parametrize("words", [["nope"], ["--nope"], ["demo", "extra"]])
def test_unknown_words(run: Run, words: list[str]) -> None:
    ran = run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert "--help' tells more" in ran.error


def test_the_default_network_is_the_detectors() -> None:
    assert inspect.signature(SCRFDDetector.from_pretrained).parameters["name"].default == DEFAULT_MODEL
