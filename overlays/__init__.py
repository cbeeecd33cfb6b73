"""Overlays: callables that draw detections on an image and return a new image.

::

    import overlays

    skull = overlays.create("skull", opacity=0.8)
    both = overlays.Compose(overlays.create("blur", method="pixelate"), overlays.parse("landmarks:score=no"))
    out = both(image, detections)

Overlays are registered in the entry-point group ``scrfd_trt.overlays``; ten are built in, other distributions can add
their own. This module exports everything that an overlay needs; :mod:`overlays.testing` checks one.
"""

from typing import TYPE_CHECKING, Any

from overlays._annotations import DrawSizes, Label, draw_box, draw_point, draw_text, text_box, visible_faces
from overlays._base import Compose, Overlay, OverlayModel
from overlays._blending import Blending, BlendOptions, blend, blend_premultiplied
from overlays._blur import Blur
from overlays._boxes import Boxes
from overlays._colors import PALETTE, ChannelOptions, Color
from overlays._covering import Covering
from overlays._crop import CropSheet
from overlays._emoji import Emoji
from overlays._factories import Limits, OptionHelp
from overlays._filters import BlurFill, Fill, FlatFill, MosaicFill
from overlays._geometry import Box, Placement, Region, Rotations, drawing_order, eye_rotations
from overlays._image import Sticker
from overlays._landmarks import Landmarks
from overlays._masks import Mask, MaskOptions
from overlays._pictures import Picture, PictureOverlay, read_picture
from overlays._pixelate import Pixelate
from overlays._registry import create, describe, distribution, load, names, parse, summary
from overlays._skull import Skull
from overlays._solid import Solid
from overlays._spotlight import Spotlight
from overlays._supervision import from_supervision, to_supervision
from scrfd_trt._option_names import unknown_member

if TYPE_CHECKING:
    from overlays._gpu import draw_on_gpu

__all__ = [  # noqa: RUF022 - in groups
    # Overlays by name
    "create", "parse", "names", "describe", "summary", "distribution", "load", "OptionHelp", "Limits",
    # Built-in overlays
    "Blur", "Boxes", "CropSheet", "Emoji", "Landmarks", "Pixelate", "Skull", "Solid", "Spotlight", "Sticker",
    # Composition, and annotators of supervision
    "Overlay", "Compose", "from_supervision", "to_supervision",
    # Images in GPU memory
    "draw_on_gpu",
    # Base classes of overlays
    "OverlayModel", "Covering", "PictureOverlay",
    # Options and their values
    "ChannelOptions", "Color", "PALETTE", "BlendOptions", "Blending", "MaskOptions", "Mask",
    # What replaces the pixels of a face
    "Fill", "FlatFill", "MosaicFill", "BlurFill",
    # Geometry
    "Box", "Region", "Rotations", "eye_rotations", "drawing_order", "Placement",
    # Drawing
    "Picture", "read_picture", "blend", "blend_premultiplied",
    "visible_faces", "DrawSizes", "draw_box", "draw_point", "draw_text", "text_box", "Label",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what uses the GPU when it is first needed."""
    if name != "draw_on_gpu":
        hint = f"; use overlays.create({name!r})" if name in names() else ""
        raise unknown_member(__name__, name, hint)
    from overlays._gpu import draw_on_gpu  # noqa: PLC0415 - loads the modules of CUDA

    return draw_on_gpu
