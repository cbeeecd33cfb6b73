"""Errors in the words of the command line: its options beside the library's names of them."""

from __future__ import annotations

from collections.abc import Iterable

from scrfd_trt.errors import ScrfdError

FLAGS = {
    "allow_host_code": "--allow-host-code",
    "batch": "--batch",
    "batch_one_profile": "--no-batch-one-profile",
    "codec": "--codec",
    "compute_capabilities": "--compute-capability",
    "crf": "--crf",
    "damaged": "--damaged",
    "device": "--device",
    "hardware_compatible": "--hardware-compatible",
    "io": "--io",
    "keep.audio": "--no-keep-audio",
    "keep.subtitle": "--no-subtitles",
    "lean_runtime": "--lean-runtime",
    "lean_runtime_inside": "--lean-runtime-inside",
    "optimization_level": "--level",
    "overwrite": "--overwrite",
    "precision": "--precision",
    "preset": "--preset",
    "sizes": "--size",
    "timing_cache": "--timing-cache",
    "version_compatible": "--version-compatible",
    "workspace_mib": "--workspace",
}
"""Options of the command line by the library's names; a dot precedes a part of an option."""


def flags(fields: Iterable[str]) -> list[str]:
    """Return the options of the command line for names of the library, each once; others are left out."""
    return list(dict.fromkeys(FLAGS[name] for name in fields if name in FLAGS))


def worded(error: ScrfdError) -> str:
    """Return an error's message, followed by the options that it is about."""
    named = ", ".join(flags(error.fields))
    return f"{error}; see {named}" if named else str(error)
