"""The overlay ``solid``: faces covered with one colour."""

from __future__ import annotations

from pydantic import Field

from overlays._colors import ChannelOptions, Color
from overlays._covering import Covering
from overlays._filters import Fill, FlatFill, Values


class Solid(ChannelOptions, Covering):
    """Cover each face with one colour.

    Nothing of a face is left, not even its colours: this overlay hides the most.
    """

    fill: Color = Field("black", description="Colour: #rrggbb, #rgb or a name.")

    def fill_for(self, sizes: Values) -> Fill:
        return FlatFill(self.channels(self.fill))
