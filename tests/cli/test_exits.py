from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from scrfd_trt._cli.exits import FLAGS, Commands, error_text
from scrfd_trt._cli.signals import StoppedError
from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt.errors import EngineError, OptionError, ScrfdError, VideoError

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EngineError("set allow_host_code", fields=["allow_host_code"]), "set --allow-host-code"),
        (OptionError("too much", fields=["workspace_mib"], value=0), "too much; see --workspace"),
        (ScrfdError("both", fields=["optimization_level", "timing_cache"]), "both; see --level, --timing-cache"),
        (
            VideoError("a.mp4: the frame is damaged", fields=["damaged"]),
            "a.mp4: the frame is damaged, or use --damaged keep",
        ),
        (
            VideoError("read it with damaged='keep'", subject="a.mp4", fields=["damaged"]),
            "a.mp4: read it with --damaged keep",
        ),
        (VideoError("cut; damaged='keep' keeps it", fields=["damaged"]).within("b"), "b: cut; --damaged keep keeps it"),
        (OptionError("use audio='auto', or name a .mkv", fields=["audio"]), "use --audio auto, or name a .mkv"),
        (OptionError("a.jpg exists; pass overwrite=True", fields=["overwrite"]), "a.jpg exists; add --overwrite"),
        (ScrfdError("bad; detect_video() writes one", fields=["faces_file"]), "bad; --save-detections writes one"),
        (OptionError("a/timing_cache: no such file"), "a/timing_cache: no such file"),
        (OptionError("no 'x'; the choices are: a", fields=["device"]), "no 'x'; the choices are: a"),
        (OptionError("no option of a command", fields=["margin", "keep"]), "no option of a command"),
    ],
)
def test_flags_follow_message(error: ScrfdError, text: str) -> None:
    assert error_text(error) == text


def test_invalid_build_options_name_flags() -> None:
    with pytest.raises(OptionError) as caught:
        BuildOptions(workspace_mib=0, optimization_level=9)
    assert error_text(caught.value) == "--level: must be at most 5 (it is 9); --workspace: must be at least 1 (it is 0)"


def test_each_build_option_has_flag(run: Run) -> None:
    assert set(BuildOptions.model_fields) <= set(FLAGS)
    shown = "".join(run(command, "--help-all").out for command in ("build", "detect", "anonymize", "evaluate"))
    for flag in FLAGS.values():
        assert flag in shown.split() or f"/{flag}" in shown


@pytest.mark.parametrize("method", ["parse_args", "resolve_command"])
@pytest.mark.parametrize(
    ("stop", "code", "cause"),
    [(KeyboardInterrupt(), 130, "Ctrl-C"), (StoppedError(signal.SIGTERM), 128 + signal.SIGTERM, "SIGTERM")],
)
def test_interrupt_before_the_command_is_reported(
    run: Run, monkeypatch: pytest.MonkeyPatch, method: str, stop: BaseException, code: int, cause: str
) -> None:
    def interrupted(*_: object) -> None:
        raise stop

    monkeypatch.setattr(Commands, method, interrupted)
    ran = run("models")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(f"error: stopped by {cause};")


@pytest.mark.parametrize("command", ["anonymize", "overlay"])
@pytest.mark.parametrize("what", ["tracks", "region", "span"])
@pytest.mark.parametrize(("old", "new"), [("keep", "only"), ("leave", "except")])
def test_flag_of_opposite_meaning_is_refused(run: Run, command: str, old: str, new: str, what: str) -> None:
    for args in ([f"--{old}-{what}", "1"], [f"--{old}-{what}=1"]):
        ran = run(command, "a.mp4", *args)
        assert (ran.code, ran.out) == (2, "")
        assert ran.error == f"--{old}-{what}: use --{new}-{what}; see 'scrfd-trt {command} --help'"
