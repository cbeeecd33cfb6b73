"""What TensorRT says while it works: kept, so that an error can tell the reason, and passed on to Python's logging."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

from scrfd_trt._engine.flavours import Api, subclass

log = logging.getLogger("scrfd_trt.tensorrt")

LEVELS = {"INTERNAL_ERROR": logging.DEBUG, "ERROR": logging.DEBUG, "WARNING": logging.INFO, "INFO": logging.DEBUG}
"""Errors are raised by whoever listens; to log them as errors too would tell them twice."""

VERBOSE = 5
"""Below DEBUG: TensorRT tells of each kernel that it tries."""

MOST_KEPT = 100
WHERE = (
    r"^\[[^\]]*\]\s*",  # [network.cpp::validate::3014]
    r"^\w+::\w+:\s*",  # IBuilder::buildSerializedNetwork:
    r"^(Internal )?Error Code \d+:\s*",
    r"\s+In \w+ at /\S+:\d+",
)


class Messages:
    """What TensorRT said while somebody listened.

    Attributes
    ----------
    errors, warnings
        In the order in which they came.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.thread = threading.get_ident()

    def add(self, severity: str, message: str) -> None:
        """Keep an error or a warning."""
        kept = self.errors if severity.endswith("ERROR") else self.warnings if severity == "WARNING" else None
        if kept is not None and len(kept) < MOST_KEPT:
            kept.append(message)

    def reason(self, otherwise: str = "it does not say why") -> str:
        """Return TensorRT's own reason for a failure, on one line.

        Parameters
        ----------
        otherwise
            What to say where TensorRT said nothing.
        """
        # The first error is the cause; those that follow are often about cleaning up.
        told = self.errors or self.warnings[-1:]
        return clean(told[0]) if told else otherwise


def clean(message: str) -> str:
    """Bring a message of TensorRT to one line without the places in its source."""
    text = " ".join(message.split())
    for pattern in WHERE:
        text = re.sub(pattern, "", text)
    return text


class _Logger:
    """The part of a TensorRT ``ILogger`` that is the same for all flavours."""

    def __init__(self) -> None:
        self.listeners: list[Messages] = []
        super().__init__()

    def log(self, severity: Any, msg: str) -> None:
        """Take a message; TensorRT calls this from threads of its own."""
        name = str(severity.name)
        listeners = tuple(self.listeners)
        # What is said in a thread that listens is meant for it; TensorRT's own threads speak to everybody.
        own = [messages for messages in listeners if messages.thread == threading.get_ident()]
        for messages in own or listeners:
            messages.add(name, msg)
        level = LEVELS.get(name, VERBOSE)
        if log.isEnabledFor(level):
            log.log(level, "%s", clean(msg))


_loggers: dict[str, Any] = {}
_lock = threading.Lock()


def logger(module: ModuleType) -> Any:
    """Return the one ``ILogger`` of a TensorRT module.

    TensorRT keeps the logger that it was given first for as long as anything made with it lives, and says things to it
    that belong to other objects. So there is one for each module, which lives as long as the process.
    """
    with _lock:
        if module.__name__ not in _loggers:
            _loggers[module.__name__] = subclass(_Logger, cast("Api", module).ILogger)()
        return _loggers[module.__name__]


@contextmanager
def listen(module: ModuleType) -> Iterator[Messages]:
    """Keep what a TensorRT module says until the block ends."""
    messages = Messages()
    listeners: list[Messages] = logger(module).listeners
    with _lock:
        listeners.append(messages)
    try:
        yield messages
    finally:
        with _lock:
            # By identity: two listeners that heard the same are not the same one.
            listeners[:] = [other for other in listeners if other is not messages]
