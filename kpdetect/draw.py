"""Owns pictures: faces marked on a photograph (OpenCV), and curves and sheets for reports (Matplotlib)."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kpdetect import metrics
from kpdetect.atomic import atomic_file
from kpdetect.errors import KpdetectError, MissingExtra
from kpdetect.faces import Face
from kpdetect.geometry import Floats
from kpdetect.images import Pixels, as_rgb, cv2

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]

BOX_RGB = (255, 200, 0)
POINT_RGB = (0, 255, 120)
RIM_RGB = (0, 0, 0)  # about each point, so that it shows on light skin as on dark
SMALLEST_RADIUS = 0.6  # pixels; on faces so small, points with rims would hide the face
SMALLEST_RIMMED = 1.2

SHEET_COLUMNS = 5
TRUTH_COLOR, PREDICTED_COLOR = "#30e060", "#ff40c0"  # green and magenta: told apart by most colour-blind eyes too

_SHIFT = 4  # OpenCV draws at sixteenths of a pixel
_FAR = 1e6  # OpenCV's coordinates are 32-bit integers; what lies further out shows nothing anyway


def draw_faces(image_rgb: npt.ArrayLike, faces: Iterable[Face]) -> Pixels:
    """Marks faces on a copy of a photograph: their boxes and points, in lines that fit each face's size.

    Args:
        image_rgb: (H, W, 3) uint8, the photograph that the faces' pixels count in.
        faces: What `Predictor` gave; none leaves the photograph as it is.

    Returns:
        (H, W, 3) uint8.
    """
    canvas = np.array(as_rgb(image_rgb))
    for face in faces:
        side = float((face.box[2:] - face.box[:2]).max())
        x0, y0, x1, y1 = (_fixed(value) for value in face.box)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), BOX_RGB, max(1, round(side / 120)), cv2.LINE_AA, _SHIFT)
        _draw_points(canvas, face.keypoints, max(SMALLEST_RADIUS, side / 110))
    return canvas


def learning_curves(history: Mapping[str, Sequence[float]], path: PathLike) -> None:
    """Draws training and validation values per epoch, a panel for each: loss, error, learning rate.

    Validation may lie below training: dropout and augmentation make training harder, and its value is the mean over
    an epoch in which the model still improved.

    Args:
        history: As Keras gives it: ``loss``, ``val_loss``, ``nme``, …; one value per epoch, NaN where there is none.
        path: Where to; the suffix tells the format.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    if not panels:
        raise KpdetectError(f"{path}: learning curves: expected at least one value per epoch, received none")
    figure, axes = _figure(1, len(panels), (4.5, 3.5))
    for axis, panel in zip(axes, panels, strict=True):
        for name, label in ((panel, "training"), (f"val_{panel}", "validation")):
            if name in history:
                epochs = np.arange(1, len(history[name]) + 1)
                axis.plot(epochs, history[name], label=label, marker="." if len(epochs) < 30 else "")
        axis.set(title=panel, xlabel="epoch")
        if _spans_decades(history, panel):
            axis.set_yscale("log")
        if f"val_{panel}" in history:
            axis.legend()
    _save(figure, path)


def prediction_sheet(
    crops: npt.ArrayLike, truth_px: npt.ArrayLike, predicted_px: npt.ArrayLike, errors: npt.ArrayLike, path: PathLike
) -> None:
    """Draws predictions (magenta) beside the truth (green) on the crops they were made from.

    Args:
        crops: (N, H, W, C) uint8, grey or RGB.
        truth_px: (N, K, 2) in pixels of the crop; NaN is not drawn.
        predicted_px: (N, K, 2) in pixels of the crop.
        errors: (N,) fractions of the normaliser, written above each crop in per cent.
        path: Where to; the suffix tells the format.

    Raises:
        MissingExtra: Matplotlib is not installed.
        KpdetectError: There is no crop, or the numbers differ.
    """
    pictures, truth, predicted = np.asarray(crops), np.asarray(truth_px), np.asarray(predicted_px)
    percents = 100 * np.asarray(errors, np.float64)
    counts = {len(pictures), len(truth), len(predicted), len(percents)}
    if len(counts) > 1 or counts == {0}:
        raise KpdetectError(f"{path}: expected crops with truth, prediction and error each, received {sorted(counts)}")
    columns = min(SHEET_COLUMNS, len(pictures))
    figure, axes = _figure(math.ceil(len(pictures) / columns), columns, (2.4, 2.6))
    for axis in axes:
        axis.axis("off")
    for axis, picture, true, guess, percent in zip(axes, pictures, truth, predicted, percents, strict=False):
        axis.imshow(as_rgb(picture))
        axis.scatter(true[:, 0], true[:, 1], s=5, color=TRUTH_COLOR, linewidths=0)
        axis.scatter(guess[:, 0], guess[:, 1], s=5, color=PREDICTED_COLOR, linewidths=0)
        height, width = picture.shape[:2]
        axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), title=f"{percent:.1f} %")
    figure.supxlabel("green: truth, magenta: prediction", fontsize="small")
    _save(figure, path)


def cumulative_error_curves(curves: Mapping[str, npt.ArrayLike], path: PathLike) -> None:
    """Draws which share of the faces has at most a given error, from 0 to 8 %.

    Args:
        curves: The errors of each face, (N,) fractions of the normaliser, by the name of what was measured.
        path: Where to; the suffix tells the format.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    figure, (axis,) = _figure(1, 1, (5.5, 4.0))
    for name, errors in curves.items():
        thresholds, fractions = metrics.cumulative_error_curve(errors)
        axis.plot(100 * thresholds, fractions, label=f"{name}: AUC {metrics.summary(errors).auc8:.3f}")
    axis.set(xlabel="error, % of the normaliser", ylabel="share of faces with at most this error")
    axis.set(xlim=(0, 100 * metrics.LIMIT), ylim=(0, 1))
    axis.legend(loc="lower right")
    _save(figure, path)


def box_jitter_curve(curves: Mapping[str, Sequence[tuple[float, float]]], path: PathLike) -> None:
    """Draws the error as a function of how far the face box is off.

    Args:
        curves: By the kind of jitter (``shift``, ``scale``): pairs of how far off, as a fraction of the box, and the
            mean error, as a fraction of the normaliser.
        path: Where to; the suffix tells the format.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    figure, (axis,) = _figure(1, 1, (5.5, 4.0))
    for kind, pairs in curves.items():
        offsets, errors = zip(*pairs, strict=True)
        axis.plot(100 * np.array(offsets), 100 * np.array(errors), marker="o", label=kind)
    axis.set(xlabel="how far the box is off, % of the box", ylabel="mean error, % of the normaliser")
    axis.set_ylim(bottom=0)
    axis.legend()
    _save(figure, path)


def _fixed(value: float) -> int:
    """A coordinate as OpenCV's fixed-point number."""
    return round(float(np.clip(value, -_FAR, _FAR)) * (1 << _SHIFT))


def _draw_points(canvas: Pixels, keypoints: Floats, radius: float) -> None:
    discs = [(1.45 * radius, RIM_RGB)] * (radius >= SMALLEST_RIMMED) + [(radius, POINT_RGB)]
    for width, color in discs:
        for x, y in keypoints:
            cv2.circle(canvas, (_fixed(x), _fixed(y)), _fixed(width), color, -1, cv2.LINE_AA, _SHIFT)


def _spans_decades(history: Mapping[str, Sequence[float]], panel: str) -> bool:
    """Whether a panel's values are positive and reach over a factor of 30, so that a straight scale would hide most."""
    values = np.array([value for name in (panel, f"val_{panel}") for value in history.get(name, ())], np.float64)
    values = values[np.isfinite(values)]
    return bool(len(values)) and bool(values.min() > 0) and bool(values.max() > 30 * values.min())


def _figure(rows: int, columns: int, panel_inches: tuple[float, float]) -> tuple["Figure", list["Axes"]]:
    """A figure of its own: pyplot would keep it in a global list, and might look for a screen."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", "train", "drawing curves and sheets") from error
    figure = Figure(figsize=(columns * panel_inches[0], rows * panel_inches[1]), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def _save(figure: "Figure", path: PathLike) -> None:
    with atomic_file(path) as temporary:
        try:
            figure.savefig(temporary)
        except ValueError as error:  # a suffix that names no format
            raise KpdetectError(f"{path}: {str(error).splitlines()[0]}") from error
