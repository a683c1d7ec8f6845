"""The picture of a search over settings: the error of each trial by the value of each setting."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.visualization.figures import PathLike, hide_unused, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
MOST_TICKS = 8  # up to this many different numbers are evenly spaced; more are placed on a numeric axis
TRIAL_COLOR, BEST_COLOR, FAILED_COLOR = "#4477aa", "#cc3311", "#888888"


def setting_panels(columns: Mapping[str, Sequence[str]], errors: npt.ArrayLike, caption: str, path: PathLike) -> None:
    """Draws a panel per setting: a dot for each trial, red for the best, a cross at the top for a failed one.

    If a setting has few values, a line joins the lowest error of each.

    Args:
        columns: The values of each setting as text, by the name of the setting; N of them, one per trial.
        errors: (N,), in per cent; NaN for a trial that failed.
        caption: The data and protocol of the errors; written below the panels.
        path: The file to write; its suffix sets the format.

    Raises:
        KpdetectError: There is no trial or no setting, the lengths differ, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        setting_panels({"learning_rate": ["1e-3", "1e-4"]}, [4.1, 5.0], "8 epochs, synthetic:300", "search.png")
        ```
    """
    values = np.asarray(errors, np.float64)
    counts = {len(values), *(len(column) for column in columns.values())}
    if not columns or len(counts) > 1 or counts == {0}:
        raise KpdetectError(f"{path}: expected settings with a value for each trial, received {sorted(counts)}")
    across = min(COLUMNS, len(columns))
    figure, axes = new_figure(-(-len(columns) // across), across, (4.2, 3.4))
    for axis, (name, words) in zip(axes, columns.items(), strict=False):
        _draw_setting(axis, words, values)
        axis.set(xlabel=name)
        _share_scale(axis, values)
    for axis in axes[::across]:
        axis.set_ylabel("validation NME, %")
    hide_unused(axes, len(columns))
    figure.supxlabel(f"{caption}; red: best trial, cross: failed, line: lowest error of each value", fontsize="x-small")
    save_figure(figure, path)


def _draw_setting(axis: "Axes", words: Sequence[str], errors: npt.NDArray[np.float64]) -> None:
    places = _places(axis, words)
    done = np.isfinite(errors)
    axis.scatter(places[done], errors[done], s=28, color=TRIAL_COLOR, alpha=0.75, zorder=3)
    # A failed trial has no error; its cross is at the top edge.
    axis.plot(
        places[~done], np.full((~done).sum(), 0.97), "x", color=FAILED_COLOR, transform=axis.get_xaxis_transform()
    )
    if not done.any():
        return
    at = np.unique(places[done])
    if len(at) <= MOST_TICKS:
        axis.plot(at, [errors[done & (places == place)].min() for place in at], color=TRIAL_COLOR, linewidth=1)
    best = int(np.nanargmin(errors))
    axis.scatter(places[best], errors[best], s=70, color=BEST_COLOR, zorder=4)
    axis.set_title(f"best: {words[best]}, {errors[best]:.2f} %", fontsize="medium")


def _places(axis: "Axes", words: Sequence[str]) -> npt.NDArray[np.float64]:
    """Positions of the values on the axis: evenly spaced and sorted; many numbers on a numeric axis."""
    numbers = [_number(word) for word in words]
    known = [number for number in numbers if number is not None]
    if len(known) == len(words) and len(set(known)) > MOST_TICKS:
        if min(known) > 0 and max(known) >= 10 * min(known):
            axis.set_xscale("log")
        return np.array(known)
    ordered = sorted(set(words), key=lambda word: (_number(word) is None, _number(word) or 0.0, word))
    axis.set_xticks(range(len(ordered)), ordered, rotation=30 if max(map(len, ordered)) > 8 else 0)
    axis.set_xlim(-0.5, len(ordered) - 0.5)
    return np.array([float(ordered.index(word)) for word in words])


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _share_scale(axis: "Axes", errors: npt.NDArray[np.float64]) -> None:
    """Sets the same y axis in every panel, with room for crosses; logarithmic if errors differ by a factor of 5."""
    known = errors[np.isfinite(errors)]
    if not len(known):
        axis.set_yticks([])
        return
    low, high = known.min(), known.max()
    if low > 0 and high > 5 * low:
        axis.set_yscale("log")
        axis.set_ylim(low / 1.3, high * 1.6)
    else:
        room = (high - low) or 0.1 * high or 1.0
        axis.set_ylim(low - 0.1 * room, high + 0.25 * room)
