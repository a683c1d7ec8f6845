"""Owns the readers: labelled faces of each format as one `Annotations` struct."""

from kpdetect.data.annotations import (
    Annotations,
    concatenate,
    kind_of,
    labelled,
    on_whole_pictures,
    split_by_rule,
    split_by_subject,
)
from kpdetect.data.face_morphing import morphed_faces
from kpdetect.data.label_alignment import align
from kpdetect.data.readers.asf import read_imm
from kpdetect.data.readers.ibug import read_ibug
from kpdetect.data.readers.tabular import read_csv, read_youtube_faces
from kpdetect.data.sources import load, load_sets

__all__ = [
    "Annotations",
    "align",
    "concatenate",
    "kind_of",
    "labelled",
    "load",
    "load_sets",
    "morphed_faces",
    "on_whole_pictures",
    "read_csv",
    "read_ibug",
    "read_imm",
    "read_youtube_faces",
    "split_by_rule",
    "split_by_subject",
]
