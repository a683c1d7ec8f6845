"""Draws faces on a photograph: contours, keypoints and boxes. Uses OpenCV alone, so prediction needs no Matplotlib."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import Pixels, as_rgb, cv2
from kpdetect.detection import Face
from kpdetect.visualization.contours import contour_edges

Color = tuple[int, int, int]

BOX_RGB: Color = (255, 200, 0)
CONTOUR_RGB: Color = (90, 230, 200)
POINT_RGB: Color = (0, 255, 120)
RIM_RGB: Color = (0, 0, 0)

POINT_SIZE = 0.015
LINE_WIDTH = 0.004
LARGEST_MARK = 0.1

_RIM_SHARE = 0.25  # of a point's radius; a dark rim keeps points apart from light skin
_HOLE_SHARE = 0.6  # diameter of the hole of a guessed point
_SMALLEST_RIMMED = 3.0  # pixels; the rim of a smaller point would cover its colour
_THINNEST_BOX = 0.75  # pixels
_CONTOUR_OPACITY = 0.65
_RIM_OPACITY = 0.6
_FINE_SIDE = 500  # pixels; smaller faces are drawn enlarged to about this size and then reduced
_FINEST = 16
_SHIFT = 4  # OpenCV draws at sixteenths of a pixel
_SMOOTHED_EDGE = 0.5  # pixels that OpenCV's antialiasing adds to the radius of a disc
_FAR = 1e6  # OpenCV's coordinates are 32-bit integers; points beyond this are outside every photograph
_THICKEST = 512  # pixels; OpenCV limits the thickness of lines


def draw_faces(
    image_rgb: npt.ArrayLike,
    faces: Iterable[Face],
    *,
    points: bool = True,
    contours: bool = True,
    boxes: bool = True,
    point_rgb: Color = POINT_RGB,
    contour_rgb: Color = CONTOUR_RGB,
    box_rgb: Color = BOX_RGB,
    point_size: float = POINT_SIZE,
    line_width: float = LINE_WIDTH,
) -> Pixels:
    """Draws contours, keypoints and boxes of faces on a copy of a photograph.

    Sizes are shares of each face's size, the longer side of the tight box of its keypoints. Small faces are drawn
    with fractions of a pixel, so that the marks do not hide them.

    Args:
        image_rgb: (H, W, 3) uint8, the photograph in whose pixels the faces are given.
        faces: Faces as `Predictor` returns them.
        points: Draw the keypoints; those that are hidden (`Face.visible`) as rings, because their place is a guess.
        contours: Draw the edges of the scheme, such as the skeleton of a COCO file, or lines along jaw, eyebrows, eyes,
            nose and lips, for schemes that have them (`contour_edges`).
        boxes: Draw the tight box of each face's keypoints; for a scheme of one point, ``face.detection_box``.
        point_rgb: Colour of the keypoints, 0 to 255.
        contour_rgb: Colour of the contours.
        box_rgb: Colour of the boxes.
        point_size: Diameter of a keypoint, as a share of the face's size, above 0 and at most 0.1.
        line_width: Width of contours and boxes, as a share of the face's size, above 0 and at most 0.1.

    Returns:
        (H, W, 3) uint8, a new array.

    Raises:
        KpdetectError: A size is out of its range.

    Example:
        ```python
        image = read_image("photo.jpg")
        write_image("faces.png", draw_faces(image, Predictor()(image), boxes=False))
        ```
    """
    for name, share in (("point_size", point_size), ("line_width", line_width)):
        if not 0 < share <= LARGEST_MARK:
            raise KpdetectError(f"draw_faces: {name}: expected a share above 0 and at most {LARGEST_MARK}, got {share}")
    canvas = np.array(as_rgb(image_rgb))
    for face in faces:
        single = face.schema.num_keypoints == 1 and face.detection_box is not None
        box = np.asarray(face.detection_box) if single else face.box
        if not np.isfinite(face.keypoints).all() or not np.isfinite(box).all():
            continue
        side = float((box[2:] - box[:2]).max())
        sheet = _Sheet(canvas, box, max(side, 1.0))
        if contours:
            lines = face.keypoints[np.array(contour_edges(face.schema), int).reshape(-1, 2)]
            sheet.paint(sheet.lines(lines, line_width), contour_rgb, _CONTOUR_OPACITY)
        if boxes:
            x0, y0, x1, y1 = box
            outline = np.array([[(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]], np.float32)
            sheet.paint(sheet.lines(outline, max(line_width, _THINNEST_BOX / sheet.side)), box_rgb)
        if points:
            seen = np.ones(len(face.keypoints), bool) if face.visible is None else face.visible
            disc_size = point_size
            if point_size * side >= _SMALLEST_RIMMED:
                sheet.paint(sheet.discs(face.keypoints[seen], point_size), RIM_RGB, _RIM_OPACITY)
                disc_size *= 1 - _RIM_SHARE
            sheet.paint(sheet.discs(face.keypoints[seen], disc_size), point_rgb)
            guessed = face.keypoints[~seen]
            holes = np.minimum(sheet.discs(guessed, _HOLE_SHARE * point_size), sheet.discs(guessed, point_size))
            sheet.paint(sheet.discs(guessed, point_size) - holes, point_rgb)
    return canvas


class _Sheet:
    """The part of a canvas around one face; shapes are drawn enlarged and reduced, so that small ones stay thin.

    Args:
        canvas: (H, W, 3), painted in place.
        box_xyxy: (4,), what the drawing covers; a margin is added.
        side: The face's size in pixels.
    """

    def __init__(self, canvas: Pixels, box_xyxy: Floats, side: float) -> None:
        self.side = side
        extent_xy = np.array(canvas.shape[1::-1])
        margin = LARGEST_MARK * side + 2
        self.low = np.clip(np.floor(np.float64(box_xyxy[:2]) - margin), 0, extent_xy).astype(int)
        high = np.clip(np.ceil(np.float64(box_xyxy[2:]) + margin), 0, extent_xy).astype(int)
        self.part = canvas[self.low[1] : high[1], self.low[0] : high[0]]
        self.finer = int(np.clip(np.ceil(_FINE_SIDE / side), 1, _FINEST))

    def lines(self, polylines: Floats, width: float) -> Pixels:
        """The coverage (h, w), 0 to 255, of polylines (N, n, 2) that are `width` face sizes wide."""
        mask, thickness = self._blank(), self._pixels(width)
        if mask.size and len(polylines):
            shapes = [self._fixed(line) for line in polylines]
            cv2.polylines(mask, shapes, False, (255,), max(1, round(thickness)), cv2.LINE_AA, _SHIFT)
        return self._reduced(mask)

    def discs(self, centers: Floats, diameter: float) -> Pixels:
        """The coverage (h, w), 0 to 255, of discs at (K, 2) that are `diameter` face sizes wide."""
        mask = self._blank()
        radius = max(self._pixels(diameter) / 2 - _SMOOTHED_EDGE, _SMOOTHED_EDGE)
        if mask.size:
            for x, y in self._fixed(centers).tolist():
                cv2.circle(mask, (x, y), round(radius * (1 << _SHIFT)), (255,), -1, cv2.LINE_AA, _SHIFT)
        return self._reduced(mask)

    def paint(self, coverage: Pixels, color: Color, opacity: float = 1.0) -> None:
        """Blends a colour where the coverage is, in place."""
        rows, columns = np.nonzero(coverage)  # few pixels: blending all of a large face takes ten times as long
        alpha = coverage[rows, columns, None] * np.float32(opacity / 255)
        blended = self.part[rows, columns] * (1 - alpha) + np.array(color, np.float32) * alpha
        self.part[rows, columns] = np.rint(blended).astype(np.uint8)

    def _blank(self) -> Pixels:
        height, width = self.part.shape[:2]
        return np.zeros((height * self.finer, width * self.finer), np.uint8)

    def _reduced(self, mask: Pixels) -> Pixels:
        size_xy = (self.part.shape[1], self.part.shape[0])
        if self.finer == 1 or not mask.size:
            return mask
        return np.asarray(cv2.resize(mask, size_xy, interpolation=cv2.INTER_AREA), np.uint8)

    def _pixels(self, share: float) -> float:
        return float(min(share * self.side * self.finer, _THICKEST))

    def _fixed(self, points: Floats) -> npt.NDArray[np.int32]:
        """Points as OpenCV's fixed-point numbers on the enlarged mask."""
        places = (np.clip(np.float64(points), -_FAR, _FAR) - self.low + 0.5) * self.finer - 0.5
        return np.asarray(np.rint(places * (1 << _SHIFT)), np.int32)
