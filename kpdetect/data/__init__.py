"""Labelled faces: readers of label formats, `Annotations`, splits, label alignment and face morphing."""

from kpdetect.data.annotations import (
    Annotations,
    concatenate,
    dataset_of,
    drop_unlabelled,
    split_by_rule,
    split_by_subject,
    with_image_boxes,
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
    "dataset_of",
    "drop_unlabelled",
    "load",
    "load_sets",
    "morphed_faces",
    "read_csv",
    "read_ibug",
    "read_imm",
    "read_youtube_faces",
    "split_by_rule",
    "split_by_subject",
    "with_image_boxes",
]
