"""Plots of curves: training per epoch, errors over faces, and errors over displaced face boxes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.visualization.figures import PathLike, new_figure, save_figure, write_captions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BELOW_TRAINING = (
    "Validation is below training because dropout and augmentation apply in training only, and because the training "
    "value is the mean over an epoch in which the model still improved."
)
PERCENT_PANELS = frozenset({"nme"})
"""Values that are fractions and are plotted in per cent."""

LOG_SCALE_RATIO = 30  # largest over smallest value from which an axis is logarithmic
MARKED_EPOCHS = 30  # with fewer epochs than this, each value has a marker


def learning_curves(history: Mapping[str, Sequence[float]], path: PathLike) -> None:
    """Plots training and validation values per epoch, one panel per quantity.

    Validation may be below training: dropout and augmentation apply in training only, and the training value is the
    mean over an epoch in which the model still improved. The caption explains this if it happens.

    Args:
        history: Values per epoch as `keras.callbacks.History` has them: ``loss``, ``val_loss``, ``nme``, …; NaN where
            an epoch has no value. ``nme`` is a fraction and is plotted in per cent.
        path: The file to write; its suffix sets the format.

    Raises:
        KpdetectError: There are no values, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        learning_curves({"loss": [2.0, 1.5], "val_loss": [2.1, 1.7]}, "learning_curves.png")
        ```
    """
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    if not panels:
        raise KpdetectError(f"{path}: learning curves: expected at least one value per epoch, received none")
    figure, axes = new_figure(1, len(panels), (4.5, 3.5))
    from matplotlib.ticker import MaxNLocator

    for axis, panel in zip(axes, panels, strict=True):
        factor = 100 if panel in PERCENT_PANELS else 1
        for name, label, color in ((panel, "training", "C0"), (f"val_{panel}", "validation", "C1")):
            if name in history:
                epochs = np.arange(1, len(history[name]) + 1)
                marker = "." if len(epochs) < MARKED_EPOCHS else ""
                axis.plot(epochs, factor * np.asarray(history[name], float), color=color, label=label, marker=marker)
        axis.set(title=f"{panel.upper()}, %" if panel in PERCENT_PANELS else panel, xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if _spans_decades(history, panel):
            axis.set_yscale("log")
    if any(name.startswith("val_") for name in history):
        _legend_above(figure)
    write_captions(figure, "", BELOW_TRAINING if _validation_below(history) else "")
    save_figure(figure, path)


def cumulative_error_curves(
    curves: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], path: PathLike, mark: float | None = None
) -> None:
    """Plots the share of faces whose error is at most a threshold.

    Args:
        curves: Thresholds (M,) as fractions of the normaliser and shares (M,) in [0, 1], by the label of the curve;
            such as `kpdetect.evaluation.metrics.cumulative_error_curve` returns.
        path: The file to write; its suffix sets the format.
        mark: A threshold to mark with a vertical line, such as that of the failure rate.

    Raises:
        KpdetectError: There is no curve, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        cumulative_error_curves({"validation": ([0, 0.03, 0.08], [0, 0.6, 1])}, "error_curve.png", mark=0.08)
        ```
    """
    if not curves:
        raise KpdetectError(f"{path}: cumulative error curves: expected at least one curve, received none")
    figure, (axis,) = new_figure(1, 1, (5.5, 4.0))
    for label, (thresholds, shares) in curves.items():
        axis.plot(100 * np.asarray(thresholds), np.asarray(shares), label=label)
    if mark is not None:
        axis.axvline(100 * mark, color="0.6", linewidth=0.8, linestyle="--", zorder=0, label=f"{100 * mark:g} %")
    axis.set(xlabel="error, % of the normaliser", ylabel="share of faces with at most this error", ylim=(0, 1.02))
    axis.set_xlim(left=0)
    axis.margins(x=0)
    _legend_above(figure)
    save_figure(figure, path)


def box_jitter_curve(curves: Mapping[str, Sequence[tuple[float, float]]], path: PathLike) -> None:
    """Plots the mean error over the displacement of the face box.

    Args:
        curves: By the kind of displacement (``shift``, ``scale``): pairs of the displacement, as a fraction of the
            box, and the mean error, as a fraction of the normaliser.
        path: The file to write; its suffix sets the format.

    Raises:
        KpdetectError: The file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        box_jitter_curve({"shift": [(0.0, 0.05), (0.1, 0.07)]}, "box_jitter.png")
        ```
    """
    figure, (axis,) = new_figure(1, 1, (5.5, 4.0))
    largest = max((error for pairs in curves.values() for _, error in pairs), default=0.0)
    for kind, pairs in curves.items():
        offsets, errors = zip(*pairs, strict=True)
        axis.plot(100 * np.array(offsets), 100 * np.array(errors), marker="o", label=kind)
    axis.set(xlabel="displacement of the box, % of the box", ylabel="mean error, % of the normaliser")
    axis.set_ylim(0, 108 * largest or 1)
    _legend_above(figure)
    save_figure(figure, path)


def _legend_above(figure: "Figure") -> None:
    """One legend for all panels, outside of them."""
    entries = {
        label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside upper right", ncols=len(entries), frameon=False
        )


def _validation_below(history: Mapping[str, Sequence[float]]) -> bool:
    """Whether validation loss is below training loss in the last epoch."""
    training, validation = list(history.get("loss", ())), list(history.get("val_loss", ()))
    return bool(training and validation) and validation[-1] < training[-1]


def _spans_decades(history: Mapping[str, Sequence[float]], panel: str) -> bool:
    """Whether all values of a panel are positive and so different that a linear axis would hide the small ones."""
    values = np.array([value for name in (panel, f"val_{panel}") for value in history.get(name, ())], np.float64)
    values = values[np.isfinite(values)]
    return bool(len(values)) and bool(values.min() > 0) and bool(values.max() > LOG_SCALE_RATIO * values.min())
