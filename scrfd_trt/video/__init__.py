"""Videos: read and written with their own times, colours and sound, and faces followed from frame to frame."""

from scrfd_trt._tracking.faces import Face, FrameFaces
from scrfd_trt._tracking.options import TrackingOptions
from scrfd_trt._tracking.tracker import FrameObservation, Tracker
from scrfd_trt.video._detections_file import FacesReader, FacesWriter
from scrfd_trt.video._encoders import EncodeOptions
from scrfd_trt.video._first_pass import FrameDetector, find_faces
from scrfd_trt.video._info import VideoInfo
from scrfd_trt.video._live import LiveReader
from scrfd_trt.video._one_pass import Drawn, draw_live
from scrfd_trt.video._reader import Frame, VideoReader
from scrfd_trt.video._selection import TrackSelection
from scrfd_trt.video._sources import open_source
from scrfd_trt.video._summary import Moment, Summary, TrackSummary
from scrfd_trt.video._two_pass import detect_video, draw_faces, draw_video, overlay_video
from scrfd_trt.video._writer import VideoWriter

__all__ = [
    "Drawn",
    "EncodeOptions",
    "Face",
    "FacesReader",
    "FacesWriter",
    "Frame",
    "FrameDetector",
    "FrameFaces",
    "FrameObservation",
    "LiveReader",
    "Moment",
    "Summary",
    "TrackSelection",
    "TrackSummary",
    "Tracker",
    "TrackingOptions",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "detect_video",
    "draw_faces",
    "draw_live",
    "draw_video",
    "find_faces",
    "open_source",
    "overlay_video",
]
