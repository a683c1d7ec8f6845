"""Labelled faces: readers of label formats, `Annotations`, splits, label alignment and face morphing."""

from kpdetect.data.annotations import (
    Annotations,
    concatenate,
    dataset_of,
    drop_unlabelled,
    is_held_out,
    split_by_rule,
    split_by_subject,
    subject_position,
    with_image_boxes,
)
from kpdetect.data.face_morphing import morphed_faces
from kpdetect.data.label_alignment import align
from kpdetect.data.readers.asf import read_imm
from kpdetect.data.readers.coco import read_coco
from kpdetect.data.readers.cvat import read_cvat
from kpdetect.data.readers.ibug import read_dlib, read_ibug, read_pts
from kpdetect.data.readers.kaggle import read_kaggle
from kpdetect.data.readers.label_studio import read_label_studio
from kpdetect.data.readers.labelme import read_labelme
from kpdetect.data.readers.lp300w import read_300w_lp
from kpdetect.data.readers.tabular import read_csv, read_youtube_faces
from kpdetect.data.readers.wflw import read_wflw
from kpdetect.data.readers.yolo import read_yolo
from kpdetect.data.sources import load, load_sets
from kpdetect.data.writers import write

__all__ = [
    "Annotations",
    "align",
    "concatenate",
    "dataset_of",
    "drop_unlabelled",
    "is_held_out",
    "load",
    "load_sets",
    "morphed_faces",
    "read_300w_lp",
    "read_coco",
    "read_csv",
    "read_cvat",
    "read_dlib",
    "read_ibug",
    "read_imm",
    "read_kaggle",
    "read_label_studio",
    "read_labelme",
    "read_pts",
    "read_wflw",
    "read_yolo",
    "read_youtube_faces",
    "split_by_rule",
    "split_by_subject",
    "subject_position",
    "with_image_boxes",
    "write",
]
