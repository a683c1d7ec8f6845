"""Training of the face finder: composed pictures with faces of many sizes, targets, loss and export."""

from kpdetect.training.finder.canvases import Canvas, Portrait, draw_canvas, portrait, portraits_of
from kpdetect.training.finder.exporting import export_finder
from kpdetect.training.finder.targets import finder_loss, mirrored_targets, targets, turned_targets

__all__ = [
    "Canvas",
    "Portrait",
    "draw_canvas",
    "export_finder",
    "finder_loss",
    "mirrored_targets",
    "portrait",
    "portraits_of",
    "targets",
    "turned_targets",
]
