"""Pictures of the first layer of a network: its kernels, and the feature maps of a crop."""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import as_rgb
from kpdetect.visualization.figures import (
    PathLike,
    hide_unused,
    new_figure,
    save_figure,
    show_picture,
    write_captions,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KERNEL_COLUMNS = range(10, 5, -1)  # the first that leaves the fewest panels empty is taken
MAP_COLUMNS = range(6, 3, -1)
SIGNED_COLORS = "RdBu_r"  # blue below zero, white at zero, red above
MAP_PERCENTILES = (0.5, 99.5)  # shown black and white; outliers would make the rest of a map grey


def kernel_sheet(kernels: npt.ArrayLike, title: str, path: PathLike) -> None:
    """Draws the kernels of a first layer: grey ones in blue (negative) and red (positive), RGB ones in colour.

    Args:
        kernels: (height, width, C, N), N kernels of a grey (C = 1) or an RGB picture (C = 3).
        title: The model and the layer.
        path: The file to write; its suffix sets the format.

    Raises:
        KpdetectError: The shape is not as expected, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        kernel_sheet(np.asarray(first_convolution(model).kernel), "compact, first layer", "kernels.png")
        ```
    """
    weights = _checked_kernels(kernels, path)
    count = weights.shape[3]
    columns = _columns(count, KERNEL_COLUMNS)
    figure, axes = new_figure(math.ceil(count / columns), columns, (1.15, 1.3))
    figure.set_figheight(figure.get_figheight() + 1.3)  # for title and scale
    hide_unused(axes, count)
    limit = float(np.abs(weights).max()) or 1.0
    for number in range(count):
        _show_kernel(axes[number], weights[..., number], limit)
        axes[number].set_title(str(number), fontsize="small", pad=2)
    if weights.shape[2] == 1:
        figure.colorbar(axes[0].images[0], ax=axes, location="bottom", aspect=40, shrink=0.5, label="weight")
        note = "a kernel that is red on one side and blue on the other responds to edges"
    else:
        note = f"red, green and blue weights as a colour: grey is 0, black and full colours are ±{limit:.2g}"
    write_captions(figure, title, note)
    save_figure(figure, path)


def feature_maps(crop: npt.ArrayLike, kernels: npt.ArrayLike, maps: npt.ArrayLike, title: str, path: PathLike) -> None:
    """Draws a crop and the feature maps of a first layer, each map with its kernel.

    Args:
        crop: (H, W, C) uint8, the input of the network.
        kernels: (height, width, C, N).
        maps: (h, w, N), the output of the convolution; each map is scaled from black to white.
        title: The model and the layer.
        path: The file to write; its suffix sets the format.

    Raises:
        KpdetectError: The shapes do not agree, or the file cannot be written.
        MissingExtra: Matplotlib is not installed.

    Example:
        ```python
        kernels = np.asarray(first_convolution(model).kernel)
        feature_maps(crop, kernels, feature_maps_of(model, crop), "compact, first layer", "maps.png")
        ```
    """
    weights, answers = _checked_kernels(kernels, path), np.asarray(maps, np.float32)
    count = weights.shape[3]
    if answers.ndim != 3 or answers.shape[2] != count:
        raise KpdetectError(f"{path}: expected maps of shape (height, width, {count}), received {answers.shape}")
    columns = _columns(count + 1, MAP_COLUMNS)
    figure, axes = new_figure(math.ceil((count + 1) / columns), columns, (2.2, 1.8))
    hide_unused(axes, count + 1)
    show_picture(axes[0], np.asarray(crop))
    axes[0].set_title("input", fontsize="small", pad=2)
    limit = float(np.abs(weights).max()) or 1.0
    for number, axis in enumerate(axes[1 : count + 1]):
        _show_map(axis, answers[..., number])
        _show_kernel(axis.inset_axes((-0.3, 0.365, 0.27, 0.27)), weights[..., number], limit)
        axis.set_title(str(number), fontsize="small", pad=2)
    note = "left of each map: its kernel (red: positive, blue: negative); bright: large output"
    write_captions(figure, title, note)
    save_figure(figure, path)


def _checked_kernels(kernels: npt.ArrayLike, path: PathLike) -> Floats:
    weights = np.asarray(kernels, np.float32)
    if weights.ndim != 4 or weights.shape[2] not in (1, 3) or 0 in weights.shape:
        raise KpdetectError(f"{path}: expected kernels of shape (height, width, 1 or 3, N), received {weights.shape}")
    return weights


def _show_kernel(axis: "Axes", kernel: Floats, limit: float) -> None:
    """Shows a kernel (height, width, C) with weights from -limit to limit, in a frame."""
    if kernel.shape[2] == 1:
        axis.imshow(kernel[..., 0], cmap=SIGNED_COLORS, vmin=-limit, vmax=limit)
    else:
        axis.imshow(as_rgb(np.rint(127.5 * (1 + kernel / limit)).astype(np.uint8)))
    axis.set(xticks=[], yticks=[])


def _show_map(axis: "Axes", answer: Floats) -> None:
    low, high = np.percentile(answer, MAP_PERCENTILES)
    axis.imshow(answer, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
    axis.axis("off")


def _columns(count: int, choices: range) -> int:
    """The number of columns that leaves the fewest panels empty; few panels form one row."""
    return count if count <= choices[0] else min(choices, key=lambda columns: -count % columns)
