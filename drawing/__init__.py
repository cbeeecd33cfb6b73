"""Generators of the drawn people, skull and emoji that the packages contain as pictures; not installed.

:func:`scene` draws a group, :func:`portrait` one face that fills the frame, and :func:`draw_face` one person at any
position, size and angle. A :class:`Look` describes a person. The same seed gives the same picture.
``python -m drawing.make_assets`` writes the packages' pictures.
"""

from drawing.backdrop import BACKDROPS
from drawing.looks import BEARDS, CLOTHES, STYLES, Look
from drawing.placing import draw_face, truth
from drawing.scenes import Scene, portrait, scene

__all__ = ["BACKDROPS", "BEARDS", "CLOTHES", "STYLES", "Look", "Scene", "draw_face", "portrait", "scene", "truth"]
