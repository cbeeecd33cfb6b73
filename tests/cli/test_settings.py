"""Defaults of options from a settings file and from variables, and messages as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scrfd_trt._cli import settings
from scrfd_trt._cli.application import COMMANDS, load_command

Run = Callable[..., Any]
Picture = Callable[..., Path]
Film = Callable[..., Path]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and a user without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(settings.VARIABLE, os.devnull)


def write(text: str, name: str = "s.toml") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


@pytest.mark.usefixtures("spots")
def test_command_line_comes_before_variables_and_the_file(
    run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture()
    write('device = "cpu"\n[detect]\nthreshold = 0.25\nmax_faces = 3\nscale = [64, "128"]\nformat = "jsonl"\n')
    args = ("detect", "spot.png", "--settings", "s.toml")
    ran = run(*args)
    assert json.loads(ran.out)["threshold"] == 0.25
    assert ran.err.startswith(
        "note: s.toml sets --format jsonl, --device cpu, --threshold 0.25, --scale 64 128, --max-faces 3\n"
    )
    monkeypatch.setenv("SCRFD_TRT_DETECT_THRESHOLD", "0.375")
    ran = run(*args)
    assert json.loads(ran.out)["threshold"] == 0.375
    assert "note: SCRFD_TRT_DETECT_THRESHOLD sets --threshold 0.375\n" in ran.err
    assert json.loads(run(*args, "--threshold", "0.75").out)["threshold"] == 0.75
    assert run(*args, "--quiet").err == ""
    write("\ufeff[detect]\noverwrite = false\n")  # a byte order mark, and what is so by default
    assert run(*args, "--threshold", "0.75").err == ""


@pytest.mark.usefixtures("spots")
def test_file_in_the_working_folder_is_read_only_if_named(
    run: Run, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture()
    write("[detect]\nthreshold = 0.9\n", "scrfd-trt.toml")
    monkeypatch.delenv(settings.VARIABLE)
    monkeypatch.setattr(settings, "user_file", lambda: tmp_path / "user" / "scrfd-trt.toml")
    ran = run("detect", "spot.png", "--format", "jsonl")
    assert json.loads(ran.out)["threshold"] == 0.5
    assert ran.err == "note: scrfd-trt.toml in this folder is not read; to use it, add --settings scrfd-trt.toml\n"
    (tmp_path / "user").mkdir()
    write("[detect]\nthreshold = 0.8\n", "user/scrfd-trt.toml")
    assert json.loads(run("detect", "spot.png", "--format", "jsonl").out)["threshold"] == 0.8
    write("[tool]\nscrfd-trt = 3\n", "pyproject.toml")
    ran = run("detect", "spot.png", "--settings", "pyproject.toml")
    assert ran.error.startswith("pyproject.toml: scrfd-trt: must be a table")
    write("[tool.other]\na = 1\n[tool.scrfd-trt.detect]\nthreshold = 0.7\n", "pyproject.toml")
    assert (
        json.loads(run("detect", "spot.png", "--format", "jsonl", "--settings", "pyproject.toml").out)["threshold"]
        == 0.7
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[anonymize]\nthreshhold = 1",
            "anonymize.threshhold: 'anonymize' has no such option; did you mean 'threshold'?",
        ),
        ("[anonymize]\nallow-host-code = true", "anonymize.allow-host-code: 'anonymize' has no such option"),
        ("[anonymise]\nthreshold = 1", "anonymise: [anonymise] is no command; did you mean 'anonymize'?"),
        ("threshold = 0.1", "threshold: only a command has this option; put it below its name, as in [anonymize]"),
        ("[anonymize]\noverwrite = 1", "anonymize.overwrite: must be true or false, not 1"),
        ("[anonymize]\nthreshold = true", "anonymize.threshold: must be a text or a number, not True"),
        ("[anonymize]\nthreshold = [0.1]", "anonymize.threshold: must be a text or a number, not [0.1]"),
        ("[anonymize]\noverlay = [{}]", "anonymize.overlay: must be a text or a number, or a list of them, not [{}]"),
    ],
)
def test_wrong_file_is_one_line_with_its_name_and_the_key(run: Run, text: str, message: str) -> None:
    ran = run("anonymize", "x.png", "--settings", write(text))
    assert (ran.code, ran.out) == (2, "")
    assert ran.error.startswith(f"s.toml: {message}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_not_waited_for(run: Run, tmp_path: Path) -> None:
    os.mkfifo(path := tmp_path / "pipe")
    ran = run("detect", "x.png", "--settings", path)
    assert (ran.code, ran.error) == (2, f"settings file {path}: this is a named pipe; name a file")
    ran = run("detect", "x.png", "--settings", "/dev/zero")
    assert (ran.code, ran.error) == (2, "settings file /dev/zero: more than 1 MiB")


def test_origin_of_a_wrong_value_is_named(run: Run, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run("anonymize", "x.png", "--settings", write('[anonymize]\nthreshold = "high"'))
    assert (ran.code, ran.error.partition(": ")[0]) == (2, "s.toml")
    assert "'--threshold'" in ran.error
    monkeypatch.setenv("SCRFD_TRT_ANONYMIZE_ONLY_REGION", "0,9")
    monkeypatch.setenv("SCRFD_TRT_THRESHOLD", "0.9")
    warning, *lines = run("anonymize", picture()).err.splitlines()
    assert warning == "warning: SCRFD_TRT_THRESHOLD is not read; use SCRFD_TRT_ANONYMIZE_THRESHOLD"
    assert lines[0] == "note: SCRFD_TRT_ANONYMIZE_ONLY_REGION sets --only-region 0,9"
    assert lines[-1].startswith("error: --only-region '0,9': use x, y, ")
    assert lines[-1].endswith("; --only-region comes from SCRFD_TRT_ANONYMIZE_ONLY_REGION")
    assert (
        run("detect", "x.png", "--settings", "none.toml").error == "settings file none.toml: No such file or directory"
    )
    assert run("detect", "x.png", "--settings", write("[detect")).error.startswith("settings file s.toml: ")


def test_variables_of_options_are_no_other_variables() -> None:
    other = {"HOME", "MIRROR", "SETTINGS", "REQUIRE_CPU", "REQUIRE_GPU", "REQUIRE_RTX", "REQUIRE_NVRTC", "SHARED"}
    other |= {"ENGINES", "SCENES", "CALLS", "DROPS", "WITHOUT_TORCH", "VERSION"}
    options = [one for command in COMMANDS for one in settings.by_name(load_command(command)).values()]
    found = {name for one in options for name in one.envvar}
    assert found.isdisjoint(settings.PREFIX + name for name in other)
    assert found >= {"SCRFD_TRT_ANONYMIZE_REPLACE_WITH", "SCRFD_TRT_DEVICE", "SCRFD_TRT_MODELS_JSON"}


@pytest.mark.slow
@pytest.mark.usefixtures("spots", "known_overlays")
def test_messages_as_json(run: Run, picture: Picture, film: Film, monkeypatch: pytest.MonkeyPatch) -> None:
    film(frames=4, hidden=(1,))
    picture()
    picture("torn.jpg", keep=0.5)
    ran = run("anonymize", "clip.mp4", "spot.png", "torn.jpg", "-o", "out", "--log-format", "json", "--profile")
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert ran.code == 1
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    done = next(line for line in lines if line["message"] == "done")
    assert (done["output"], done["frames"]) == (str(Path("out", "clip.mp4")), 4)
    assert {"finding", "drawing", "detecting", "profile"} <= {line.get("progress") for line in lines}
    report = next(line for line in lines if line["message"] == "review these moments")
    assert report["items"] == ["0:00.10 track 1 not detected for 1 frame, interpolated"]
    failed = next(line for line in lines if line["level"] == "error")
    assert [item.partition(":")[0] for item in failed["items"]] == ["torn.jpg"]
    assert json.loads(run("detect", "--nope", "--log-format=json").err)["level"] == "error"
    monkeypatch.setenv("SCRFD_TRT_LOG_FORMAT", "json")
    assert "there is no command" in json.loads(run("detectt").err)["message"]
    assert run("models", "--log-format", "text").err == ""
    assert run("detect", "x.png", "--log-format", "text").err.startswith("error: ")
    monkeypatch.setenv("SCRFD_TRT_LOG_FORMAT", "xml")
    assert run("models").error.partition(";")[0] == (
        "SCRFD_TRT_LOG_FORMAT: Invalid value for '--log-format': 'xml' is not one of 'text', 'json'"
    )
