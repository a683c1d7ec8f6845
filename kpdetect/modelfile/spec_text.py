"""Owns the sentences of ``spec.json``, by which somebody without our code can use a model."""

from kpdetect.core.geometry import CropRule


def describe_input(channels: int, dtype: str) -> str:
    """What a model's input is."""
    order = "R, G, B" if channels == 3 else "one channel, 0.299 R + 0.587 G + 0.114 B"
    other = "uint8" if dtype == "float32" else "float32"
    return (
        f"A batch of crops, (batch, height, width, channels), {order}; raw pixels 0-255 as {dtype}. "
        f"The model's first layer scales them; kpdetect's own runtime takes {other} as well."
    )


def describe_crop(crop: CropRule) -> str:
    """How a face box becomes the crop, and where its pixels lie."""
    height, width = crop.size_hw
    box = "tight box of the scheme's points in" if crop.around == "face" else "whole of"
    return (
        "Coordinates are in pixels, 0-based, the pixel's centre on the integer. The box (x0, y0, x1, y1) is the "
        f"{box} the photograph as it is seen (EXIF turned). The crop is upright and "
        f"centred on the box, and its side is {crop.margin:g} times the box's: one crop pixel covers "
        f"s = {crop.margin:g} * max((x1 - x0) / {width}, (y1 - y0) / {height}) photograph pixels, and crop pixel "
        f"(u, v) shows the photograph at x = (x0 + x1) / 2 + (u - {width / 2 - 0.5:g}) * s, "
        f"y = (y0 + y1) / 2 + (v - {height / 2 - 0.5:g}) * s. Bilinear; antialiased when it shrinks; black outside "
        "the photograph."
    )


def describe_output(crop: CropRule) -> str:
    """What the points are, in the crop and in the photograph."""
    height, width = crop.size_hw
    return (
        "Points (x, y) relative to the crop, float32, in the order of schema.point_names: crop pixel "
        f"u = x * {width} - 0.5, v = y * {height} - 0.5, with the pixel's centre on the integer. 0 and 1 are the "
        "crop's edges; a point outside the crop may lie beyond them. In the photograph, with s and the box as under "
        f"crop: X = (x0 + x1) / 2 + (x - 0.5) * {width} * s, Y = (y0 + y1) / 2 + (y - 0.5) * {height} * s. "
        "left and right in point names are the pictured person's own."
    )


UNCERTAINTY_TEXT = (
    "How far off each point is expected to be: the mean distance from the truth, relative to the crop's side, "
    "float32, in the order of the points."
)

FACE_SCORE_TEXT = (
    "1 / (1 + exp(slope * (ln m - middle))), with m the mean of a crop's uncertainties: near 1 for a face, near 0 for "
    "a crop without one."
)
