"""Faces of piles of pictures that one call does not hold: in parts, on this machine or on many."""

from scrfd_trt.distributed._ray import FaceDetection, detect_dataset, read_pictures

__all__ = ["FaceDetection", "detect_dataset", "read_pictures"]
