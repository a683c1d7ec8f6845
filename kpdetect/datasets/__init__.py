"""Owns the readers: labelled faces of each format as one `Annotations` struct."""

from kpdetect.datasets.annotations import (
    Annotations,
    concatenate,
    kind_of,
    labelled,
    on_whole_pictures,
    split_by_rule,
    split_by_subject,
)
from kpdetect.datasets.asf import read_imm
from kpdetect.datasets.blending import blended
from kpdetect.datasets.conventions import align
from kpdetect.datasets.ibug import read_ibug
from kpdetect.datasets.sources import load, load_sets
from kpdetect.datasets.tabular import read_csv, read_youtube_faces

__all__ = [
    "Annotations",
    "align",
    "blended",
    "concatenate",
    "kind_of",
    "labelled",
    "load",
    "load_sets",
    "on_whole_pictures",
    "read_csv",
    "read_ibug",
    "read_imm",
    "read_youtube_faces",
    "split_by_rule",
    "split_by_subject",
]
