"""Owns video: frames in and out, faces that keep their number, and points that do not tremble."""

from kpdetect.tracking.following import TrackOptions, follow, open_source
from kpdetect.tracking.smoothing import OneEuroFilter, OneEuroOptions
from kpdetect.tracking.tracker import TrackedFace, Tracker, TrackerOptions
from kpdetect.tracking.video import Frame, Video, open_video, video_writer

__all__ = [
    "Frame",
    "OneEuroFilter",
    "OneEuroOptions",
    "TrackOptions",
    "TrackedFace",
    "Tracker",
    "TrackerOptions",
    "Video",
    "follow",
    "open_source",
    "open_video",
    "video_writer",
]
