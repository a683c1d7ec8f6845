"""Matplotlib figures: created without a screen or global state, and written atomically."""

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.images import as_rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]

DOTS_PER_INCH = 120
CAPTION_LETTERS = 13  # letters of a caption per inch


def new_figure(
    rows: int, columns: int, panel_inches: tuple[float, float], width_ratios: tuple[float, ...] | None = None
) -> tuple["Figure", list["Axes"]]:
    """Creates a figure without pyplot, which would keep it in a global list and might look for a screen.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        panel_inches: (width, height) of each panel.
        width_ratios: Relative widths of the columns; equal by default.

    Returns:
        The figure, and its rows * columns panels, row by row.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    _need_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (columns * panel_inches[0], rows * panel_inches[1])
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(rows, columns, squeeze=False, gridspec_kw={"width_ratios": width_ratios})
    return figure, list(axes.ravel())


def save_figure(figure: "Figure", path: PathLike) -> None:
    """Writes a figure in the format of the path's suffix.

    Raises:
        KpdetectError: The suffix is not that of a known format, or the folder cannot be written to.
    """
    with atomic_file(path) as temporary:
        try:
            figure.savefig(temporary)
        except ValueError as error:  # an unknown suffix
            raise KpdetectError(f"{path}: {str(error).splitlines()[0]}") from error


def check_target(path: PathLike) -> None:
    """Checks that a picture can be written to a path, before the work that it takes.

    Raises:
        MissingExtra: Matplotlib is not installed.
        KpdetectError: The suffix is not that of a known format, or the path is a folder.

    Example:
        ``check_target("curves.png")`` raises nothing.
    """
    _need_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = sorted(FigureCanvasAgg.filetypes)
    suffix = Path(path).suffix
    if suffix.removeprefix(".").lower() not in known:
        raise KpdetectError(f"{path}: expected a suffix of {', '.join(known)}, received '{suffix}'")
    if Path(path).is_dir():
        raise KpdetectError(f"{path}: expected a file to write, received a folder")


def show_picture(axis: "Axes", picture: npt.ArrayLike) -> None:
    """Shows a picture without ticks, in its own pixel coordinates: centres on integers, y down, fixed limits.

    Args:
        axis: The panel.
        picture: (H, W) or (H, W, C) uint8, grey or RGB.
    """
    pixels = as_rgb(picture)
    height, width = pixels.shape[:2]
    axis.imshow(pixels)
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axis.axis("off")


def write_captions(figure: "Figure", above: str, below: str = "") -> None:
    """Writes captions above and below the panels, in lines that fit the width of the figure."""
    letters = max(20, int(CAPTION_LETTERS * figure.get_figwidth()))
    above, below = ("\n".join(textwrap.fill(line, letters) for line in text.split("\n")) for text in (above, below))
    if above:
        figure.suptitle(above, fontsize="small")
    if below:
        figure.supxlabel(below, fontsize="small")


def hide_unused(axes: list["Axes"], used: int) -> None:
    """Leaves the panels after the first `used` ones empty."""
    for axis in axes[used:]:
        axis.axis("off")


def _need_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401 - checks that it is installed
    except ImportError as error:
        raise MissingExtra("matplotlib", "train", "drawing curves and sheets") from error
