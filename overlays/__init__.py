"""Overlays: callables that draw detections over an image and return a new one.

::

    import overlays

    skull = overlays.create("skull", opacity=0.8)
    both = overlays.Compose(overlays.create("blur", method="pixelate"), overlays.parse("landmarks:score=no"))
    out = both(image, detections)

Overlays are found by name through the entry-point group ``scrfd_trt.overlays``; ``skull``, ``blur`` and ``landmarks``
come with this project, others from whatever distribution declares them.
"""

from overlays.base import Compose, Overlay, OverlayModel
from overlays.blur import Blur
from overlays.factories import OptionHelp
from overlays.landmarks import Landmarks
from overlays.registry import create, describe, load, names, parse, provider, summary
from overlays.skull import Skull

__all__ = [
    "Blur",
    "Compose",
    "Landmarks",
    "OptionHelp",
    "Overlay",
    "OverlayModel",
    "Skull",
    "create",
    "describe",
    "load",
    "names",
    "parse",
    "provider",
    "summary",
]
