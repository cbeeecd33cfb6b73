"""Drawn pictures of people with known boxes and landmarks: samples that are nobody's photograph.

:func:`scene` draws a group, :func:`portrait` one face that fills the frame, :func:`draw_face` a single person into an
image, at any place, size and angle. What somebody looks like is a :class:`Look`. All is drawn by numbers from a seed:
the same seed gives the same picture.
"""

from scrfd_trt.samples.backdrop import BACKDROPS
from scrfd_trt.samples.looks import BEARDS, CLOTHES, STYLES, Look
from scrfd_trt.samples.placing import draw_face
from scrfd_trt.samples.scenes import Scene, portrait, scene

__all__ = ["BACKDROPS", "BEARDS", "CLOTHES", "STYLES", "Look", "Scene", "draw_face", "portrait", "scene"]
