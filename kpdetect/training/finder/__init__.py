"""Training of the face finder: composed pictures with faces of many sizes, targets, loss and export."""

from kpdetect.training.finder.canvases import Canvas, Portrait, draw_canvas, portraits_of
from kpdetect.training.finder.exporting import export_finder
from kpdetect.training.finder.targets import finder_loss, targets

__all__ = ["Canvas", "Portrait", "draw_canvas", "export_finder", "finder_loss", "portraits_of", "targets"]
