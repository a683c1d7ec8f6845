"""Owns curves: what was learned per epoch, how errors spread over faces, and what a box that is off costs."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.visualization.figures import PathLike, new_figure, save_figure, write_captions

BELOW_TRAINING = (
    "validation lies below training: dropout and augmentation make training harder, and its value is the mean over an "
    "epoch in which the model still improved; validation is measured after it, without either"
)


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
    figure, axes = new_figure(1, len(panels), (4.5, 3.5))
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
    write_captions(figure, "", BELOW_TRAINING if _validation_below(history) else "")
    save_figure(figure, path)


def cumulative_error_curves(
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], path: PathLike, mark: float | None = None
) -> None:
    """Draws the share of faces whose error is at most a threshold.

    Args:
        curves: Thresholds (M,) as fractions of the normaliser and shares (M,) in [0, 1], by the label of the curve;
            such as `kpdetect.evaluation.metrics.cumulative_error_curve` returns.
        path: The picture; its suffix sets the format.
        mark: A threshold to mark by a vertical line, such as the one of the failure rate.

    Raises:
        KpdetectError: There is no curve.
        MissingExtra: Matplotlib is not installed.
    """
    if not curves:
        raise KpdetectError(f"{path}: cumulative error curves: expected at least one curve, received none")
    figure, (axis,) = new_figure(1, 1, (5.5, 4.0))
    for label, (thresholds, shares) in curves.items():
        axis.plot(100 * np.asarray(thresholds), np.asarray(shares), label=label)
    if mark is not None:
        axis.axvline(100 * mark, color="0.7", linewidth=0.8, zorder=0)
    axis.set(xlabel="error, % of the normaliser", ylabel="share of faces with at most this error")
    axis.set(ylim=(0, 1.02))
    axis.set_xlim(left=0)
    axis.margins(x=0)
    axis.legend(loc="lower right")
    save_figure(figure, path)


def box_jitter_curve(curves: Mapping[str, Sequence[tuple[float, float]]], path: PathLike) -> None:
    """Draws the error as a function of how far the face box is off.

    Args:
        curves: By the kind of jitter (``shift``, ``scale``): pairs of how far off, as a fraction of the box, and the
            mean error, as a fraction of the normaliser.
        path: Where to; the suffix tells the format.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    figure, (axis,) = new_figure(1, 1, (5.5, 4.0))
    for kind, pairs in curves.items():
        offsets, errors = zip(*pairs, strict=True)
        axis.plot(100 * np.array(offsets), 100 * np.array(errors), marker="o", label=kind)
    axis.set(xlabel="how far the box is off, % of the box", ylabel="mean error, % of the normaliser")
    axis.set_ylim(bottom=0)
    axis.legend()
    save_figure(figure, path)


def _validation_below(history: Mapping[str, Sequence[float]]) -> bool:
    """Whether the last epoch's validation loss is the lower one, which makes people wonder."""
    training, validation = list(history.get("loss", ())), list(history.get("val_loss", ()))
    return bool(training and validation) and validation[-1] < training[-1]


def _spans_decades(history: Mapping[str, Sequence[float]], panel: str) -> bool:
    """Whether a panel's values are positive and reach over a factor of 30, so that a straight scale would hide most."""
    values = np.array([value for name in (panel, f"val_{panel}") for value in history.get(name, ())], np.float64)
    values = values[np.isfinite(values)]
    return bool(len(values)) and bool(values.min() > 0) and bool(values.max() > 30 * values.min())
