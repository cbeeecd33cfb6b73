"""Videos: read and written with their own times, colours and sound, and faces followed from frame to frame."""

from scrfd_trt.video.choice import Choice
from scrfd_trt.video.detecting import Finder, find_faces
from scrfd_trt.video.drawing import draw_faces
from scrfd_trt.video.faces import Face, FrameFaces
from scrfd_trt.video.faces_file import FacesReader, FacesWriter
from scrfd_trt.video.follow_options import FollowOptions
from scrfd_trt.video.info import VideoInfo
from scrfd_trt.video.live import LiveReader
from scrfd_trt.video.one_pass import Drawn, draw_live
from scrfd_trt.video.options import EncodeOptions
from scrfd_trt.video.reading import Frame, VideoReader
from scrfd_trt.video.running import detect_video, draw_video, overlay_video
from scrfd_trt.video.sources import open_source
from scrfd_trt.video.summary import Moment, Summary, TrackSummary
from scrfd_trt.video.tracker import Sighting, Tracker
from scrfd_trt.video.writing import VideoWriter

__all__ = [
    "Choice",
    "Drawn",
    "EncodeOptions",
    "Face",
    "FacesReader",
    "FacesWriter",
    "Finder",
    "FollowOptions",
    "Frame",
    "FrameFaces",
    "LiveReader",
    "Moment",
    "Sighting",
    "Summary",
    "TrackSummary",
    "Tracker",
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
