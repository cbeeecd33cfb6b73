"""Build options: short forms, round trips and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scrfd_trt._engine.build_options import BuildOptions
from scrfd_trt.errors import OptionError


def test_defaults() -> None:
    options = BuildOptions()
    assert (options.precision, options.sizes, options.batch, options.batch_one_profile) == (
        "fp16",
        None,
        (1, 8, 32),
        True,
    )


def test_short_forms() -> None:
    options = BuildOptions(sizes=(128, (640, 320)), batch=4, timing_cache="x")
    assert options.sizes == ((128, 128), (640, 320))
    assert options.batch == (4, 4, 4)
    assert options.timing_cache == Path("x")
    assert BuildOptions(batch=[1, 2, 3]).batch == (1, 2, 3)


def test_json_round_trip() -> None:
    options = BuildOptions(sizes=640, compute_capabilities=("7.5",), workspace_mib=64)
    assert BuildOptions.model_validate_json(options.model_dump_json()) == options


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"precision": "int4"}, "'fp32', 'tf32', 'fp16' or 'int8'"),
        ({"calibration": "photos"}, "calibration requires precision int8"),
        ({"io": "half"}, "'float32' or 'float16'"),
        ({"sizes": (100,)}, "multiple of 32"),
        ({"sizes": ((100, 64),)}, "multiple of 32"),
        ({"sizes": ((64,),)}, "sizes.0.1 is required"),
        ({"sizes": ()}, "at least 1"),
        ({"sizes": "640"}, "sizes: must be a whole number, or a list of them"),
        ({"batch": (8, 1, 32)}, "must not decrease"),
        ({"batch": (0, 1, 2)}, "must be at least 1"),
        ({"batch": (4, 2, 8)}, "must not decrease"),
        ({"batch": (1, 2)}, "batch"),
        ({"optimization_level": 6}, "must be at most 5"),
        ({"workspace_mib": 0}, "must be at least 1"),
        ({"lean_runtime_inside": True}, "lean_runtime_inside requires version_compatible"),
        ({"compute_capabilities": ("SM75",)}, "pattern"),
        ({"compute_capabilities": ()}, "at least 1"),
        ({"fp16": True}, "no option 'fp16'; the options are: precision, io, sizes"),
    ],
)
def test_invalid_options_are_refused_on_one_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        BuildOptions(**wrong)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
