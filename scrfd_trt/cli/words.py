"""Errors in the words of the command line: its options where the library's messages name arguments."""

from __future__ import annotations

import re

FLAGS = {
    "allow_host_code": "--allow-host-code",
    "batch_one_profile": "--no-batch-one-profile",
    "compute_capabilities": "--compute-capability",
    "hardware_compatible": "--hardware-compatible",
    "lean_runtime": "--lean-runtime",
    "lean_runtime_inside": "--lean-runtime-inside",
    "optimization_level": "--level",
    "timing_cache": "--timing-cache",
    "version_compatible": "--version-compatible",
    "workspace_mib": "--workspace",
}

# Not as a part of a path or of a longer name.
ARGUMENT = re.compile(rf"(?<![\w./\\-])({'|'.join(FLAGS)})=?(?![\w./\\-])")


def spoken(text: object) -> str:
    """Put the command line's options in place of the library's arguments.

    Parameters
    ----------
    text
        A message, or an error with one.

    Returns
    -------
    str
        For example ``…, or set --allow-host-code if …``.
    """
    return ARGUMENT.sub(lambda match: FLAGS[match[1]], str(text))
