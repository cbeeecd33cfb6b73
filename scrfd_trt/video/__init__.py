"""Videos: read and written frame by frame, with their own times, colours and sound."""

from scrfd_trt.video.info import VideoInfo
from scrfd_trt.video.options import EncodeOptions
from scrfd_trt.video.reading import Frame, VideoReader
from scrfd_trt.video.writing import VideoWriter

__all__ = ["EncodeOptions", "Frame", "VideoInfo", "VideoReader", "VideoWriter"]
