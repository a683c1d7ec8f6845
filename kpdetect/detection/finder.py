"""Owns the detector that is there by default: a small network of our own over a pyramid of sizes, run by LiteRT."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.assets import shipped_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels, as_rgb, cv2, to_channels
from kpdetect.detection.boxes import biggest_first, merge_boxes

FINDER_FILE = "finder.tflite"

CELL = 8
"""Pixels of the squares of which the network tells one each: for a face, its centre from the square's, in squares."""
SIZE_UNIT = 32.0  # pixels; the network tells the logarithms of a box's width and height in this unit
STRIDE = 16  # a picture's height and width are multiples of it

SMALLEST_SEEN = 20.0
"""Pixels of the smallest face as the network sees it. It has learned from 12 on, and finds 97 % of those of 16 on
canvases of validation faces; but of eight in a group's photograph it missed three that it saw at 16 to 20, and at 23
none."""
SMALLEST_FACE = 16.0  # pixels of the photograph; what is smaller still holds too little to tell points from
LAST_LEVEL = 96  # pixels of the pyramid's last picture at most: a face that fills the photograph is seen there
GAP = 16  # pixels between the pyramid's pictures
MIN_FACE = 0.03  # of the longer side
MIN_SCORE = 0.5  # of a square, where nothing else judges what is found
JUDGED_SCORE = 0.25  # of a square, where a model does


class FaceFinder:
    """Finds faces with a small network of kpdetect's own.

    It sees the photograph in several sizes at once, each half of the one before, as one grey picture. How it was
    trained and what it finds is on its card, ``exported_models/finder``. Safe to call from several threads: one
    photograph goes through the network at a time.

    Args:
        min_face: The smallest face that is looked for, as a share of the photograph's longer side, in (0, 1], but
            at least 16 pixels. Half as much takes four times as long.
        min_score: The least score of a face, in (0, 1); more finds fewer faces and fewer mistakes.
        threads: How many one photograph may use.

    Raises:
        KpdetectError: An option is out of range, or the network's file is missing.
    """

    def __init__(self, min_face: float = MIN_FACE, min_score: float = MIN_SCORE, threads: int = 1) -> None:
        if not 0 < min_face <= 1 or not 0 < min_score < 1 or threads < 1:
            raise KpdetectError(
                "detector: expected min_face in (0, 1], min_score in (0, 1) and threads from 1, "
                f"received {min_face}, {min_score} and {threads}"
            )
        self.min_face = min_face
        self.min_score = min_score
        self._network = _Network(shipped_file("finder", FINDER_FILE, "name another detector"), threads)

    def __call__(self, image_rgb: npt.NDArray[np.uint8]) -> Floats:
        """Finds the faces of a photograph.

        Args:
            image_rgb: (H, W, 3) uint8.

        Returns:
            (N, 4) float32 tight boxes in pixels, biggest first; they may reach over the border. (0, 4) for no face.
        """
        return biggest_first(merge_boxes(*self.guesses(image_rgb))[0])

    def guesses(self, image_rgb: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """What each square says, before any merging: boxes (N, 4) in pixels of the photograph, and scores (N,)."""
        pyramid = Pyramid.of(to_channels(as_rgb(image_rgb), 1)[..., 0], self.min_face)
        boxes, scores = boxes_of(self._network(pyramid.picture), self.min_score)
        boxes = pyramid.to_photograph(boxes)
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        within = ((center > -0.5) & (center < np.array(image_rgb.shape[1::-1]) - 0.5)).all(axis=1)
        return boxes[within], scores[within]


@dataclass(frozen=True)
class Pyramid:
    """A photograph in several sizes, beside and below each other in one picture.

    Attributes:
        picture: (H, W) uint8 grey, height and width multiples of 16.
        places: (L, 4) where each of them lies, as (x0, y0, x1, y1) in pixels' edges.
        scales_xy: (L, 2) its pixels for one of the photograph.
    """

    picture: Pixels
    places: npt.NDArray[np.int64]
    scales_xy: npt.NDArray[np.float64]

    @classmethod
    def of(cls, grey: Pixels, min_face: float) -> "Pyramid":
        """The pyramid of a photograph (H, W) whose smallest faces have a share of its longer side, and 16 pixels."""
        levels = _levels(grey, SMALLEST_SEEN / max(min_face * max(grey.shape), SMALLEST_FACE))
        places = _places([(level.shape[0], level.shape[1]) for level in levels])
        width, height = (-(-int(extent) // STRIDE) * STRIDE for extent in places[:, 2:].max(axis=0))
        picture = np.full((height, width), 128, np.uint8)
        for level, (x0, y0, x1, y1) in zip(levels, places.tolist(), strict=True):
            picture[y0:y1, x0:x1] = level
        scales = [np.array(level.shape[::-1]) / grey.shape[::-1] for level in levels]
        return cls(picture, places, np.array(scales))

    def to_photograph(self, boxes: Floats) -> Floats:
        """Boxes (N, 4) of this picture in the photograph's pixels; each belongs where its centre lies."""
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        middles = (self.places[:, :2] + self.places[:, 2:]) / 2
        halves = (self.places[:, 2:] - self.places[:, :2]) / 2
        beside = np.maximum(np.abs(center[:, None] - middles) - halves, 0).sum(axis=2)
        level = beside.argmin(axis=1)
        origin, scale = np.tile(self.places[level, :2], 2), np.tile(self.scales_xy[level], 2)
        # A resize counts pixels' edges, which stand half a pixel before their centres.
        return np.asarray((boxes + 0.5 - origin) / scale - 0.5, np.float32)


def boxes_of(said: Floats, min_score: float) -> tuple[Floats, Floats]:
    """What the network says of squares as boxes.

    Args:
        said: (h, w, 20), cells of four quarters; see `kpdetect.models.finder`.
        min_score: What is scored below is left out.

    Returns:
        Boxes (N, 4) in pixels of the picture, and scores (N,) in [0, 1].
    """
    height, width, _ = said.shape
    squares = said.reshape(height, width, 2, 2, 5).transpose(0, 2, 1, 3, 4).reshape(2 * height, 2 * width, 5)
    scores = 1 / (1 + np.exp(-np.clip(squares[..., 0], -50, 50)))
    rows, columns = np.nonzero(scores >= min_score)
    values = squares[rows, columns]
    center = (np.stack([columns, rows], axis=1) + 0.5 + values[:, 1:3]) * CELL - 0.5
    half = np.exp(np.clip(values[:, 3:], -3, 3)) * SIZE_UNIT / 2
    boxes = np.concatenate([center - half, center + half], axis=1)
    return np.asarray(boxes, np.float32), np.asarray(scores[rows, columns], np.float32)


def _levels(grey: Pixels, scale: float) -> list[Pixels]:
    """The photograph scaled, then half of each, until a face as large as the photograph is small enough to be seen."""
    levels: list[Pixels] = []
    source = grey
    while not levels or max(levels[-1].shape) > LAST_LEVEL:
        size_xy = (max(round(grey.shape[1] * scale), 1), max(round(grey.shape[0] * scale), 1))
        shrinks = size_xy[0] <= source.shape[1]
        small = cv2.resize(source, size_xy, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        levels.append(np.asarray(small, np.uint8))
        source, scale = levels[-1], scale / 2
    return levels


def _places(sizes_hw: list[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """The first picture at the top left; the others in a column beside it, or in a row below a wide one."""
    (height, width), *rest = sizes_hw
    tall = height >= width
    places, along = [(0, 0, width, height)], 0
    for h, w in rest:
        x, y = (width + GAP, along) if tall else (along, height + GAP)
        places.append((x, y, x + w, y + h))
        along += (h if tall else w) + GAP
    return np.array(places, np.int64)


class _Network:
    """LiteRT's interpreter, resized to each picture of another size than the one before."""

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._path = path
        self._lock = threading.Lock()
        self._interpreter: Any = Interpreter(model_path=os.fspath(path), num_threads=threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._size_hw: tuple[int, ...] = ()

    def __call__(self, picture: Pixels) -> Floats:
        """(H, W) uint8 -> (H / 16, W / 16, 20)."""
        with self._lock:
            if picture.shape != self._size_hw:
                self._interpreter.resize_tensor_input(self._input, [1, *picture.shape, 1])
                self._interpreter.allocate_tensors()
                self._size_hw = picture.shape
            self._interpreter.set_tensor(self._input, picture[None, ..., None].astype(np.float32))
            self._interpreter.invoke()
            return np.array(self._interpreter.get_tensor(self._output)[0], np.float32)
