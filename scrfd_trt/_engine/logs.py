"""TensorRT's messages: collected as reasons for errors, and passed on to Python's logging."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

from scrfd_trt import _forks
from scrfd_trt._engine.flavours import Api, subclass

log = logging.getLogger("scrfd_trt.tensorrt")

LEVELS = {"INTERNAL_ERROR": logging.DEBUG, "ERROR": logging.DEBUG, "WARNING": logging.INFO, "INFO": logging.DEBUG}
"""Errors are raised by the caller; an error record in addition would report them twice."""

VERBOSE = 5  # below DEBUG: TensorRT reports each kernel that it tries
MAX_MESSAGES = 100
SOURCE_LOCATIONS = (
    r"^\[[^\]]*\]\s*",  # [network.cpp::validate::3014]
    r"^\w+::\w+:\s*",  # IBuilder::buildSerializedNetwork:
    r"^(Internal )?Error Code \d+:\s*",
    r"\s+In \w+ at /\S+:\d+",
)


class Messages:
    """Errors and warnings of TensorRT in order, collected by :func:`listen`."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.thread = threading.get_ident()

    def add(self, severity: str, message: str) -> None:
        messages = self.errors if severity.endswith("ERROR") else self.warnings if severity == "WARNING" else None
        if messages is not None and len(messages) < MAX_MESSAGES:
            messages.append(message)

    def reason(self, default: str = "no reason given") -> str:
        """Return TensorRT's reason for a failure on one line."""
        # The first error is the cause; the following are often about cleaning up.
        messages = self.errors or self.warnings[-1:]
        return clean(messages[0]) if messages else default


def clean(message: str) -> str:
    """Put a message on one line and remove locations in TensorRT's source."""
    text = " ".join(message.split())
    for pattern in SOURCE_LOCATIONS:
        text = re.sub(pattern, "", text)
    return text


class _Logger:
    """The flavour-independent part of a TensorRT ``ILogger``."""

    def __init__(self) -> None:
        self.listeners: list[Messages] = []
        super().__init__()

    def log(self, severity: Any, msg: str) -> None:
        """Receive a message; TensorRT also calls this from its own threads."""
        name = str(severity.name)
        listeners = tuple(self.listeners)
        # A message from a listening thread is for that thread; those from TensorRT's threads reach all listeners.
        own = [messages for messages in listeners if messages.thread == threading.get_ident()]
        for messages in own or listeners:
            messages.add(name, msg)
        level = LEVELS.get(name, VERBOSE)
        if log.isEnabledFor(level):
            log.log(level, "%s", clean(msg))


creating = _forks.Lock()
"""Held while builders and runtimes are created. TensorRT locks meanwhile, and lets Python log: another thread that then
creates one waits for TensorRT's lock with the GIL held, without which the first thread cannot go on."""

_loggers: dict[str, Any] = {}
_lock = _forks.Lock(threading.RLock)  # the garbage collector may end a run in the thread that holds it


def logger(module: ModuleType) -> Any:
    """Return the ``ILogger`` of a TensorRT module: one per module for good, as TensorRT keeps the first one."""
    with _lock:
        if module.__name__ not in _loggers:
            _loggers[module.__name__] = subclass(_Logger, cast("Api", module).ILogger)()
        return _loggers[module.__name__]


@contextmanager
def listen(module: ModuleType) -> Iterator[Messages]:
    """Collect a TensorRT module's messages until the block ends."""
    messages = Messages()
    listeners: list[Messages] = logger(module).listeners
    with _lock:
        listeners.append(messages)
    try:
        yield messages
    finally:
        with _lock:
            listeners.remove(messages)
