"""Owns the readers: labelled faces of each format as one `Annotations` struct."""

from kpdetect.datasets.annotations import Annotations, concatenate, split_by_subject
from kpdetect.datasets.sources import load
from kpdetect.datasets.tabular import read_csv, read_youtube_faces

__all__ = ["Annotations", "concatenate", "load", "read_csv", "read_youtube_faces", "split_by_subject"]
