"""From `Annotations` to batches: decoding, caching, shuffling, batching and prefetching."""

from kpdetect.data.pipeline.batches import ALL_ROWS, BatchOptions, Share, training_batches
from kpdetect.data.pipeline.cache import FaceCache, build_cache, open_cache
from kpdetect.data.pipeline.framing import FaceFraming, Framing, ImageFraming

__all__ = [
    "ALL_ROWS",
    "BatchOptions",
    "FaceCache",
    "FaceFraming",
    "Framing",
    "ImageFraming",
    "Share",
    "build_cache",
    "open_cache",
    "training_batches",
]
