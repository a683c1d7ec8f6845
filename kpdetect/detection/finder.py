"""`FaceFinder`, the default detector: a small network, run by LiteRT on an image pyramid."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.assets import packaged_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.fork import abandon, renew_after_fork
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels, as_rgb, cv2, to_channels
from kpdetect.core.litert import open_interpreter
from kpdetect.detection.boxes import largest_first, overlapping_groups, without_contained
from kpdetect.detection.oriented import tight_boxes

FINDER_FILE = "finder.tflite"

CELL = 8
"""Pixels of a cell's side. The network predicts one face per cell: its centre relative to the cell's, in cells."""
SIZE_UNIT = 32.0  # pixels; the network predicts the logarithms of a box's width and height in this unit
OUTPUT_UNIT = 8.0
"""The file's outputs, apart from the logit, are multiplied by this. All of them then have similar ranges, so that one
scale of int8 serves them."""
STRIDE = 16  # the height and width of the network's input are multiples of it

SMALLEST_SEEN = 16.0  # pixels of the smallest face after scaling; the network was trained on faces from 9 pixels on
SMALLEST_FACE = 16.0  # pixels of the photograph; smaller faces have too little detail for keypoints
LAST_LEVEL = 128  # pixels of the longer side of the pyramid's last level, which nearly the largest faces fill
LEVEL_RATIO = 2.5  # of one level's scale to the next one's, at most; most faces are seen in two sizes
LEAST_BILINEAR = 0.5  # scale from which a level is made by bilinear interpolation
GAP = 16  # pixels between the levels
MIN_FACE = 0.03  # of the photograph's longer side
MIN_SCORE = 0.5  # of a cell, if no keypoint model judges the detections
JUDGED_SCORE = 0.15  # of a cell, if one does
FUSED = 0.35  # intersection over union from which the boxes of two cells are one face's


@dataclass(frozen=True, eq=False)
class Detections:
    """The faces that a detector found in a photograph.

    Attributes:
        oriented: (N, 5) float32: x and y of the centre, width and height of the upright face, in pixels, and its
            in-plane rotation in degrees, positive if the head leans clockwise in the picture.
        scores: (N,) float32 in [0, 1].

    Example:
        >>> Detections(np.float32([[50, 50, 20, 40, 90]]), np.float32([0.9])).boxes.round().tolist()
        [[30.0, 40.0, 70.0, 60.0]]
    """

    oriented: Floats
    scores: Floats

    @property
    def boxes(self) -> Floats:
        """(N, 4) float32 tight boxes (x0, y0, x1, y1) in pixels."""
        return tight_boxes(self.oriented)

    @property
    def roll_deg(self) -> Floats:
        """(N,) float32 in-plane rotations in degrees."""
        return self.oriented[:, 4]

    def take(self, index: npt.ArrayLike) -> "Detections":
        """Some of the faces, by their indices or a mask (N,)."""
        chosen = np.asarray(index)
        return Detections(self.oriented[chosen], self.scores[chosen])


class FaceFinder:
    """Finds faces, in any in-plane rotation, with a small network that comes with kpdetect.

    The network's input is an image pyramid: the grey photograph in several sizes, side by side in one picture. The card
    in ``exported_models/finder`` describes its training and accuracy. Calls from several threads are safe and run one
    after the other.

    Args:
        min_face: The smallest face to find, as a share of the photograph's longer side, in (0, 1], but at least 16
            pixels. Half of it takes four times as long.
        min_score: The lowest score of a face, in (0, 1). A higher one finds fewer faces and fewer false ones.
        threads: The number of threads for one photograph.

    Raises:
        KpdetectError: An option is out of range, or the network's file is missing.

    Example:
        >>> FaceFinder()(np.zeros((120, 160, 3), np.uint8)).shape
        (0, 4)
    """

    def __init__(self, min_face: float = MIN_FACE, min_score: float = MIN_SCORE, threads: int = 1) -> None:
        if not 0 < min_face <= 1 or not 0 < min_score < 1 or threads < 1:
            raise KpdetectError(
                "detector: expected min_face in (0, 1], min_score in (0, 1) and threads from 1, "
                f"received {min_face}, {min_score} and {threads}"
            )
        self.min_face = min_face
        self.min_score = min_score
        self._network = _Network(packaged_file("finder", FINDER_FILE, "choose another detector"), threads)

    def __call__(self, image_rgb: npt.NDArray[np.uint8]) -> Floats:
        """Finds the faces of a photograph.

        Args:
            image_rgb: (H, W, 3) uint8.

        Returns:
            (N, 4) float32 tight boxes (x0, y0, x1, y1) in pixels, largest first; they may reach over the border.
        """
        found = self.detect(image_rgb)
        return largest_first(found.boxes[without_contained(found.boxes, found.scores)])

    def detect(self, image_rgb: npt.NDArray[np.uint8]) -> Detections:
        """Finds the faces of a photograph with their in-plane rotations and scores.

        A face may be found twice, once within the other: which is better is left to a model that scores them.

        Args:
            image_rgb: (H, W, 3) uint8.

        Returns:
            Faces by falling score; their boxes overlap by an intersection over union of less than about 0.35.

        Example:
            >>> FaceFinder().detect(np.zeros((120, 160, 3), np.uint8)).roll_deg.shape
            (0,)
        """
        pyramid = Pyramid.of(to_channels(as_rgb(image_rgb), 1)[..., 0], self.min_face)
        found = decode_cells(self._network(pyramid.picture), self.min_score)
        oriented = pyramid.to_photograph(found.oriented)
        center = oriented[:, :2]
        within = ((center > -0.5) & (center < np.array(image_rgb.shape[1::-1]) - 0.5)).all(axis=1)
        return fuse(Detections(oriented, found.scores).take(within))


def fuse(found: Detections) -> Detections:
    """Averages overlapping predictions, weighted by their scores; the highest score of a group is kept.

    Example:
        >>> fuse(Detections(np.float32([[50, 50, 20, 20, 0], [52, 50, 20, 20, 0]]), np.float32([0.75, 0.25]))).oriented
        array([[50.5, 50. , 20. , 20. ,  0. ]], dtype=float32)
    """
    roll = np.deg2rad(found.oriented[:, 4:].astype(np.float64))
    rows = np.concatenate([found.oriented[:, :4], np.sin(roll), np.cos(roll)], axis=1)
    means, scores = np.zeros((0, 6)), np.zeros(0)
    groups = overlapping_groups(found.boxes, found.scores, FUSED)
    if groups:
        weights = [found.scores[group] for group in groups]
        means = np.stack([weight @ rows[group] / weight.sum() for weight, group in zip(weights, groups, strict=True)])
        scores = np.array([weight[0] for weight in weights])  # of a group, the highest score is the first
    mean_roll_deg = np.rad2deg(np.arctan2(means[:, 4], means[:, 5]))[:, None]
    oriented = np.concatenate([means[:, :4], mean_roll_deg], axis=1)
    return Detections(np.asarray(oriented, np.float32), np.asarray(scores, np.float32))


@dataclass(frozen=True)
class Pyramid:
    """A photograph in several sizes, side by side in one picture.

    Attributes:
        picture: (H, W) uint8 grey; height and width are multiples of 16.
        places: (L, 4) where each level lies, (x0, y0, x1, y1) in pixel edges.
        scales_xy: (L, 2) pixels of each level per pixel of the photograph, in x and y.
    """

    picture: Pixels
    places: npt.NDArray[np.int64]
    scales_xy: npt.NDArray[np.float64]

    @classmethod
    def of(cls, grey: Pixels, min_face: float) -> "Pyramid":
        """Makes the pyramid of a photograph.

        Args:
            grey: (H, W) uint8.
            min_face: The smallest face to find, as a share of the longer side; `SMALLEST_FACE` is the limit.
        """
        levels = _levels(grey, SMALLEST_SEEN / max(min_face * max(grey.shape), SMALLEST_FACE))
        places = _places([(level.shape[0], level.shape[1]) for level in levels])
        width, height = (-(-int(extent) // STRIDE) * STRIDE for extent in places[:, 2:].max(axis=0))
        picture = np.full((height, width), 128, np.uint8)
        for level, (x0, y0, x1, y1) in zip(levels, places.tolist(), strict=True):
            picture[y0:y1, x0:x1] = level
        scales = [np.array(level.shape[::-1]) / grey.shape[::-1] for level in levels]
        return cls(picture, places, np.array(scales))

    def to_photograph(self, oriented: Floats) -> Floats:
        """Converts faces (N, 5) of `picture` to the photograph's pixels, by the level nearest to each centre."""
        center = oriented[:, :2]
        middles = (self.places[:, :2] + self.places[:, 2:]) / 2
        halves = (self.places[:, 2:] - self.places[:, :2]) / 2
        beside = np.maximum(np.abs(center[:, None] - middles) - halves, 0).sum(axis=2)
        level = beside.argmin(axis=1)
        scale = self.scales_xy[level]
        # A resize maps pixel edges, which are half a pixel before the centres.
        center = (center + 0.5 - self.places[level, :2]) / scale - 0.5
        size = oriented[:, 2:4] / scale.mean(axis=1, keepdims=True)  # x and y differ by the rounding of a level's size
        return np.asarray(np.concatenate([center, size, oriented[:, 4:]], axis=1), np.float32)


def decode_cells(output: Floats, min_score: float) -> Detections:
    """Converts the output of the network's file to faces.

    Args:
        output: (h, w, 28), seven values for each of the 2 x 2 cells of a position; see `kpdetect.models.finder`. All
            but the logits are multiplied by `OUTPUT_UNIT`.
        min_score: Cells with a lower score are left out.

    Returns:
        Faces in pixels of the picture.
    """
    height, width, channels = output.shape
    count = channels // 4
    cells = output.reshape(height, width, 2, 2, count).transpose(0, 2, 1, 3, 4).reshape(2 * height, 2 * width, count)
    scores = 1 / (1 + np.exp(-np.clip(cells[..., 0], -50, 50)))
    rows, columns = np.nonzero(scores >= min_score)
    values = cells[rows, columns, 1:] / OUTPUT_UNIT
    center = (np.stack([columns, rows], axis=1) + 0.5 + values[:, :2]) * CELL - 0.5
    size = np.exp(np.clip(values[:, 2:4], -3, 3)) * SIZE_UNIT
    roll_deg = np.rad2deg(np.arctan2(values[:, 4], values[:, 5]))[:, None]
    oriented = np.concatenate([center, size, roll_deg], axis=1)
    return Detections(np.asarray(oriented, np.float32), np.asarray(scores[rows, columns], np.float32))


def _levels(grey: Pixels, scale: float) -> list[Pixels]:
    """The scaled photograph, and smaller copies at even ratios until the longer side is at most `LAST_LEVEL`."""
    smaller = max(int(np.ceil(np.log(max(grey.shape) * scale / LAST_LEVEL) / np.log(LEVEL_RATIO))), 0)
    ratio = (max(grey.shape) * scale / LAST_LEVEL) ** (1 / max(smaller, 1))
    levels: list[Pixels] = []
    source = grey
    for _ in range(smaller + 1):
        size_xy = (max(round(grey.shape[1] * scale), 1), max(round(grey.shape[0] * scale), 1))
        # Below a half, bilinear interpolation would skip pixels; above, it is five times as fast.
        shrinks = max(size_xy) < LEAST_BILINEAR * max(source.shape)
        small = cv2.resize(source, size_xy, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        levels.append(np.asarray(small, np.uint8))
        source, scale = levels[-1], scale / ratio
    return levels


def _places(sizes_hw: list[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Places the first level at the top left, and the others in a column beside it, or in a row below a wide one."""
    (height, width), *rest = sizes_hw
    tall = height >= width
    places, along = [(0, 0, width, height)], 0
    for h, w in rest:
        x, y = (width + GAP, along) if tall else (along, height + GAP)
        places.append((x, y, x + w, y + h))
        along += (h if tall else w) + GAP
    return np.array(places, np.int64)


class _Network:
    """LiteRT's interpreter, resized if a picture's size differs from the one before."""

    _interpreter: Any = None

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self.renew()
        self._open()
        renew_after_fork(self)

    def renew(self) -> None:
        """Drops the interpreter, which the next call opens again, and makes a new lock."""
        abandon(self._interpreter)
        self._lock = threading.Lock()
        self._interpreter, self._size_hw = None, ()

    def _open(self) -> None:
        self._interpreter = open_interpreter(self._path, self._threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, picture: Pixels) -> Floats:
        """(H, W) uint8 -> (H / 16, W / 16, 28)."""
        with self._lock:
            if self._interpreter is None:
                self._open()
            if picture.shape != self._size_hw:
                self._interpreter.resize_tensor_input(self._input, [1, *picture.shape, 1])
                self._interpreter.allocate_tensors()
                self._size_hw = picture.shape
            self._interpreter.set_tensor(self._input, picture[None, ..., None])
            self._interpreter.invoke()
            return np.array(self._interpreter.get_tensor(self._output)[0], np.float32)
