"""Owns the way from `Annotations` to batches: the one place that decodes, caches, shuffles, batches, prefetches."""

from kpdetect.pipeline.batches import BatchOptions, training_batches
from kpdetect.pipeline.cache import FaceCache, build_cache, open_cache
from kpdetect.pipeline.framing import FaceFraming, Framing, ImageFraming

__all__ = [
    "BatchOptions",
    "FaceCache",
    "FaceFraming",
    "Framing",
    "ImageFraming",
    "build_cache",
    "open_cache",
    "training_batches",
]
