"""Files that are whole or not there: written under another name beside their place, and moved there at the end."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scrfd_trt.errors import OptionError, OutputError


@contextmanager
def beside(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a name for a file that takes its place when the block has ended well.

    Parameters
    ----------
    path
        Its folder must be there.
    overwrite
        Whether it may take the place of another file.

    Yields
    ------
    pathlib.Path
        Where to write; hidden, in the same folder, so that moving it is one step of the file system.

    Raises
    ------
    OptionError
        If something is there and ``overwrite`` is not set.
    OutputError
        If it cannot be moved there.
    """
    if os.path.lexists(path) and not overwrite:
        raise OptionError(f"{path} is there already; name another file, or overwrite it", fields=["overwrite"])
    temporary = path.with_name(f".scrfd-trt-{secrets.token_hex(6)}.part")
    try:
        yield temporary
        if os.path.lexists(path) and not overwrite:
            raise OptionError(
                f"{path} has come to be there meanwhile; name another file, or overwrite it", fields=["overwrite"]
            )
        try:
            temporary.replace(path)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
