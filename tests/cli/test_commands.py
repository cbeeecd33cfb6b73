from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import scrfd_trt
from scrfd_trt import SCRFDDetector
from scrfd_trt._cli import commands
from scrfd_trt._cli.application import COMMANDS, load_command
from scrfd_trt.models import DEFAULT_MODEL

FOLDER = Path(str(commands.__file__)).parent
MAX_HELP_WORDS = 12

Run = Callable[..., Any]


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"scrfd-trt {scrfd_trt.__version__}\n", "")


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_help_lists_all_commands(run: Run, args: list[str]) -> None:
    code, out, err = run(*args)
    assert (code, err) == (0, "")
    assert [name for name in re.findall(r"^\W (\w+) ", out, re.MULTILINE) if name in COMMANDS] == [*COMMANDS]
    assert "--install-completion" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_command_fits_80_columns(run: Run, name: str) -> None:
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: scrfd-trt {name}" in out
    assert max(map(len, out.splitlines())) <= 80
    assert not re.search(r"--[\w-]*…", out), "the name of an option is cut"


@pytest.mark.parametrize("args", [["nope"], ["--nope"], ["demo", "extra"]])
def test_unknown_command_or_option(run: Run, args: list[str]) -> None:
    ran = run(*args)
    assert (ran.code, ran.out) == (2, "")
    assert "; see 'scrfd-trt" in ran.error
    assert ran.error.endswith("--help'")


def test_usage_error_names_help_of_command(run: Run) -> None:
    assert run("detect", "--model").error == "Option '--model' requires an argument; see 'scrfd-trt detect --help'"


def test_similar_command_is_suggested(run: Run) -> None:
    assert run("detekt").error == "there is no command 'detekt'; did you mean 'detect'? see 'scrfd-trt --help'"


def test_default_model_matches_from_pretrained() -> None:
    assert inspect.signature(SCRFDDetector.from_pretrained).parameters["name"].default == DEFAULT_MODEL


def test_each_command_module_is_a_command() -> None:
    assert {path.stem for path in FOLDER.glob("[!_]*.py")} == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"bench", "build", "doctor", "studio"}))
def test_help_of_options_is_short(name: str) -> None:
    for parameter in load_command(name).params:
        assert len(parameter.help.split()) <= MAX_HELP_WORDS, parameter.help


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("anonymize", "gaps of up to --bridge seconds between detections are covered"),
        ("overlay", "gaps of up to --bridge seconds between detections are covered"),
        ("overlay", "In a folder, outputs keep the input's name and format."),
        ("demo", "apply three overlays"),
    ],
)
def test_help_states_what_command_does(run: Run, name: str, text: str) -> None:
    assert text in " ".join(run(name, "--help").out.split())


def test_version_imports_no_slow_packages() -> None:
    program = (
        "import sys; from scrfd_trt._cli.application import app\n"
        "try: app(['--version'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(sorted({'numpy', 'cv2', 'pydantic', 'overlays', 'scrfd_trt.video'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
