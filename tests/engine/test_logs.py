"""TensorRT's messages."""

from __future__ import annotations

import logging
import types
from collections.abc import Iterator

import pytest

from scrfd_trt._engine import logs


class Severity:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    module = types.ModuleType("tensorrt_of_this_test")
    module.ILogger = type("ILogger", (), {})  # type: ignore[attr-defined]
    yield module
    logs._loggers.pop(module.__name__, None)


def test_messages_are_collected_while_listening(module: types.ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "scrfd_trt.tensorrt")
    logger = logs.logger(module)
    assert logs.logger(module) is logger
    logger.log(Severity("ERROR"), "before")
    with logs.listen(module) as outer, logs.listen(module) as inner:
        logger.log(Severity("WARNING"), "a warning")
        logger.log(Severity("INTERNAL_ERROR"), "the cause")
        logger.log(Severity("ERROR"), "a consequence")
        logger.log(Severity("VERBOSE"), "chatter")
    logger.log(Severity("ERROR"), "after")
    assert outer.errors == inner.errors == ["the cause", "a consequence"]
    assert outer.warnings == ["a warning"]
    assert outer.reason() == "the cause"
    assert "a warning" in caplog.text
    assert "chatter" not in caplog.text


def test_last_warning_is_the_reason_without_errors() -> None:
    messages = logs.Messages()
    assert messages.reason() == "no reason given"
    assert messages.reason("nothing") == "nothing"
    messages.add("WARNING", "first")
    messages.add("WARNING", "CUDA initialization failure with error: 35")
    assert messages.reason() == "CUDA initialization failure with error: 35"


@pytest.mark.parametrize(
    ("message", "clean"),
    [
        (
            "[network.cpp::validate::3014] Error Code 4: Internal Error (fp16 is not configured in the builder)",
            "Internal Error (fp16 is not configured in the builder)",
        ),
        (
            "IBuilder::build: Error Code 6: API Usage Error (Unable to load libnvinfer.so In Impl at /a/b.cpp:305)",
            "API Usage Error (Unable to load libnvinfer.so)",
        ),
        ("two\n  lines", "two lines"),
    ],
)
def test_clean_removes_source_locations(message: str, clean: str) -> None:
    assert logs.clean(message) == clean
