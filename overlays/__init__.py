"""Overlays: callables that draw detections over an image and return a new one.

::

    import overlays

    skull = overlays.create("skull", opacity=0.8)
    both = overlays.Compose(overlays.create("blur", method="pixelate"), overlays.parse("landmarks:score=no"))
    out = both(image, detections)

Overlays are found by name through the entry-point group ``scrfd_trt.overlays``; ten come with this project, others from
whatever distribution declares them.
"""

from overlays.base import Compose, Overlay, OverlayModel
from overlays.blur import Blur
from overlays.boxes import Boxes
from overlays.covering import Covering
from overlays.crop_sheet import CropSheet
from overlays.emoji import Emoji
from overlays.factories import OptionHelp
from overlays.landmarks import Landmarks
from overlays.pixelate import Pixelate
from overlays.registry import create, describe, load, names, parse, provider, summary
from overlays.skull import Skull
from overlays.solid import Solid
from overlays.spotlight import Spotlight
from overlays.sticker import Sticker
from overlays.with_supervision import from_supervision, to_supervision

__all__ = [
    "Blur",
    "Boxes",
    "Compose",
    "Covering",
    "CropSheet",
    "Emoji",
    "Landmarks",
    "OptionHelp",
    "Overlay",
    "OverlayModel",
    "Pixelate",
    "Skull",
    "Solid",
    "Spotlight",
    "Sticker",
    "create",
    "describe",
    "from_supervision",
    "load",
    "names",
    "parse",
    "provider",
    "summary",
    "to_supervision",
]
