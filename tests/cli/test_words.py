from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scrfd_trt.cli.words import FLAGS, spoken
from scrfd_trt.engine.options import BuildOptions

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("set allow_host_code if you trust it", "set --allow-host-code if you trust it"),
        ("with lean_runtime= or TRT_LEAN_RUNTIME", "with --lean-runtime or TRT_LEAN_RUNTIME"),
        ("BuildOptions: workspace_mib: too much", "BuildOptions: --workspace: too much"),
        ("optimization_level, timing_cache", "--level, --timing-cache"),
        ("a/timing_cache: no such file", "a/timing_cache: no such file"),
        ("my_version_compatible.plan", "my_version_compatible.plan"),
        ("version_compatible.plan: cut off", "version_compatible.plan: cut off"),
        ("lean_runtime_inside needs version_compatible", "--lean-runtime-inside needs --version-compatible"),
    ],
)
def test_arguments_become_options(text: str, said: str) -> None:
    assert spoken(ValueError(text)) == said


def test_they_are_arguments_of_the_library_and_options_of_the_commands(run: Run) -> None:
    assert set(FLAGS) <= {*BuildOptions.model_fields, "allow_host_code", "lean_runtime"}
    told = run("build", "--help").out + run("detect", "--help").out
    for flag in FLAGS.values():
        assert f" {flag} " in told
