"""Read and write videos, and detect, track and cover the faces in them."""

from scrfd_trt._option_names import unknown_member
from scrfd_trt._tracking.faces import Face, FrameFaces
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt._tracking.tracker import FrameObservation, Tracker
from scrfd_trt.video._detections_file import FacesReader, FacesWriter
from scrfd_trt.video._encoders import EncodeOptions
from scrfd_trt.video._first_pass import FrameDetector, find_faces
from scrfd_trt.video._live_pass import RenderedFrame, overlay_live
from scrfd_trt.video._live_reader import LiveReader
from scrfd_trt.video._reader import Frame, VideoInfo, VideoReader
from scrfd_trt.video._selection import Cover, TrackSelection
from scrfd_trt.video._sources import open_source
from scrfd_trt.video._summary import ReviewMoment, Summary, TrackSummary
from scrfd_trt.video._two_pass import detect_video, overlay_video, render_frames, render_video
from scrfd_trt.video._writer import VideoWriter

__all__ = [  # noqa: RUF022 - in groups
    # Whole videos
    "detect_video", "render_video", "overlay_video", "overlay_live", "RenderedFrame",
    # Reading and writing
    "open_source", "VideoReader", "LiveReader", "VideoInfo", "Frame", "VideoWriter", "EncodeOptions", "render_frames",
    # Detection and tracking
    "find_faces", "FrameDetector", "Tracker", "TrackingOptions", "FrameObservation",
    # Faces
    "Face", "FrameFaces", "FacesReader", "FacesWriter", "TrackSelection", "Cover",
    "Summary", "TrackSummary", "ReviewMoment",
]  # fmt: skip


def __getattr__(name: str) -> object:
    raise unknown_member(__name__, name)
