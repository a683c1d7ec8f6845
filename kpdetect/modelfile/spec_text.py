"""The descriptions in ``spec.json``, with which a model can be used without this package."""

from kpdetect.core.geometry import CropRule


def describe_input(channels: int, dtype: str) -> str:
    """Describes the input."""
    order = "R, G, B" if channels == 3 else "one channel, 0.299 R + 0.587 G + 0.114 B"
    other = "uint8" if dtype == "float32" else "float32"
    return (
        f"Batch of crops (batch, height, width, channels): {order}; raw pixels 0-255 as {dtype}. "
        f"The model's first layer rescales them. kpdetect's runtime also accepts {other}."
    )


def describe_crop(crop: CropRule) -> str:
    """Describes how a face box becomes a crop, and the position of its pixels."""
    height, width = crop.size_hw
    box = "tight box of the scheme's points" if crop.around == "face" else "box of the whole photograph"
    return (
        "Coordinates are pixels of the photograph after its EXIF rotation: 0-based, with the pixel centre on the "
        f"integer. The box (x0, y0, x1, y1) is the {box}. The crop is upright and centred on the box; its side is "
        f"{crop.margin:g} times the box's: one crop pixel covers "
        f"s = {crop.margin:g} * max((x1 - x0) / {width}, (y1 - y0) / {height}) photograph pixels, and crop pixel "
        f"(u, v) is at x = (x0 + x1) / 2 + (u - {width / 2 - 0.5:g}) * s, "
        f"y = (y0 + y1) / 2 + (v - {height / 2 - 0.5:g}) * s. Interpolation is bilinear, with antialiasing when the "
        "crop is smaller than the box; outside the photograph the crop is black."
    )


def describe_output(crop: CropRule) -> str:
    """Describes the points, relative to the crop and in the photograph."""
    height, width = crop.size_hw
    return (
        "Points (x, y) relative to the crop, float32, in the order of schema.point_names: crop pixel "
        f"u = x * {width} - 0.5, v = y * {height} - 0.5, with the pixel centre on the integer. 0 and 1 are the "
        "crop's edges; points outside the crop may have values beyond them. In the photograph, with s and the box as "
        f"under crop: X = (x0 + x1) / 2 + (x - 0.5) * {width} * s, Y = (y0 + y1) / 2 + (y - 0.5) * {height} * s. "
        "left and right in point names are those of the pictured person."
    )


UNCERTAINTY_TEXT = (
    "Expected error of each point: the mean distance from the true point, relative to the crop's longer side, float32, "
    "in the order of the points."
)

SCORE_TEXT = (
    "Probability that the crop contains a face, float32: from 0.5 on it is taken for one. Faces that are covered, in "
    "profile or turned have high scores too."
)

VISIBILITY_TEXT = (
    "Probability of each point that it is seen, and not hidden by a mask, a hand, hair, another object or the head "
    "itself, float32, in the order of the points; from 0.5 on a point is taken for seen."
)

FACE_SCORE_TEXT = (
    "1 / (1 + exp(slope * (ln m - middle))), where m is the mean uncertainty of a crop: near 1 for a face, near 0 for "
    "a crop without a face."
)
