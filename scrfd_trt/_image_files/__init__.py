"""Image files from outside: the one place where they are read and written."""

from scrfd_trt._image_files.frames import ColorDescription, ImageFile, ImageFrame, Kind, Limits
from scrfd_trt._image_files.read import open_image, read_image

__all__ = ["ColorDescription", "ImageFile", "ImageFrame", "Kind", "Limits", "open_image", "read_image"]
