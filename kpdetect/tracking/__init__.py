"""Faces of videos: frames in and out, faces that keep their numbers, and smoothed keypoints."""

from kpdetect.tracking.smoothing import OneEuroFilter, OneEuroOptions
from kpdetect.tracking.track_run import TrackOptions, open_source, track_video
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
    "open_source",
    "open_video",
    "track_video",
    "video_writer",
]
