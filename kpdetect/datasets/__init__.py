"""Owns the readers: labelled faces of each format as one `Annotations` struct."""

from kpdetect.datasets.annotations import Annotations, concatenate, split_by_subject

__all__ = ["Annotations", "concatenate", "split_by_subject"]
