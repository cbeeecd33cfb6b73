"""One overlay of the page, made once for the options that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

import overlays
from scrfd_trt.errors import ScrfdError


class Layer:
    """One overlay on the page.

    Parameters
    ----------
    name
        The overlay's.
    options
        What was changed from its defaults.

    Attributes
    ----------
    name, options
        As above; options are replaced as a whole, so that a drawing in progress never sees half of a change.
    """

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.options = dict(options or {})
        self._made: tuple[dict[str, Any], overlays.Overlay] | None = None

    def make(self) -> overlays.Overlay:
        """Make the overlay; the same one again until an option changes, since a sticker takes seconds to be read.

        Raises
        ------
        ScrfdError
            If it cannot be loaded, or refuses its options.
        """
        made = self._made
        if made is None or made[0] != self.options:
            options = dict(self.options)
            made = self._made = (options, overlays.create(self.name, **options))
        return made[1]

    def take(self, options: Mapping[str, Any]) -> None:
        """Take other options, if the overlay does; they are also taken where it only needs further ones.

        Raises
        ------
        ScrfdError
            If it refuses them; those before stay.
        """
        wanted = dict(options)
        try:
            made = overlays.create(self.name, **wanted)
        except ScrfdError as error:
            if not self._only_needs_more(error, wanted):
                raise
        else:
            self._made = (wanted, made)
        self.options = dict(wanted)

    def _only_needs_more(self, error: ScrfdError, options: Mapping[str, Any]) -> bool:
        if isinstance(error.__cause__, ValidationError):
            return all(item["type"] == "missing" for item in error.__cause__.errors())
        return any(option.required and option.name not in options for option in overlays.describe(self.name))
