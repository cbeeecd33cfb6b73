"""Options that were given and would do nothing are refused: who gives one counts on it."""

from __future__ import annotations

from collections.abc import Collection

import typer

from scrfd_trt.errors import OptionError

LOOKING = ("threshold", "scale", "iou", "max_faces", "model", "every", "bridge", "extend")
"""Say how faces are looked for and followed."""
LIVE = ("delay", "duration")
"""Are for cameras and streams."""


def refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    """Refuse options that were given on the command line.

    Parameters
    ----------
    context
        Of the command.
    names
        Of its parameters; those that it has not are passed over.
    why
        Follows on the option's own name.

    Raises
    ------
    OptionError
        If one of them was given.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise OptionError(f"{parameter.opts[0]} {why}")


def refuse_looking(context: typer.Context) -> None:
    """Refuse what says how faces are looked for where they come from a file."""
    refuse(context, LOOKING, "does nothing with --detections, whose faces were found before; leave it out")
