"""What one check of ``scrfd-trt doctor`` says."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "absent", "problem", "note"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    group
        Checks of one group are shown together.
    name
        What was looked at.
    state
        ``ok``; ``absent``, where it can be done without; ``problem``; or ``note``.
    detail
        What was found, one line.
    remedy
        The command that would mend it, or empty.
    needed
        Whether detection hangs on it.
    """

    group: str
    name: str
    state: State
    detail: str
    remedy: str = ""
    needed: bool = False


def pip() -> str:
    """Return the command that installs into this Python, as short as it can be."""
    found = shutil.which("python")
    same = found is not None and os.path.realpath(Path(found).parent) == os.path.realpath(Path(sys.executable).parent)
    return f"{'python' if same else sys.executable} -m pip install"
