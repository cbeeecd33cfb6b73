"""Overlays: callables that draw detections over an image and return a new one.

::

    import overlays

    skull = overlays.create("skull", opacity=0.8)
    both = overlays.Compose(overlays.create("blur", method="pixelate"), overlays.parse("landmarks:score=no"))
    out = both(image, detections)

Overlays are found by name through the entry-point group ``scrfd_trt.overlays``; ten come with this project, others from
whatever distribution declares them.
"""

from overlays._base import Compose, Overlay, OverlayModel
from overlays._blur import Blur
from overlays._boxes import Boxes
from overlays._covering import Covering
from overlays._crop import CropSheet
from overlays._emoji import Emoji
from overlays._factories import OptionHelp
from overlays._image import Sticker
from overlays._landmarks import Landmarks
from overlays._pixelate import Pixelate
from overlays._registry import create, describe, load, names, parse, provider, summary
from overlays._skull import Skull
from overlays._solid import Solid
from overlays._spotlight import Spotlight
from overlays._supervision import from_supervision, to_supervision

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
