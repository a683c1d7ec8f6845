"""Filters: sunglasses, a hat, a moustache, or a user's own picture, placed on faces by their named keypoints.

```python
from kpdetect.filters import apply_filters
image = apply_filters(image, predictor(image), ["sunglasses", "hat"])
```
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Matrix
from kpdetect.core.images import GREY_OF_RGB, Pixels, as_rgb, cv2
from kpdetect.detection import Face
from kpdetect.filters.fitting import of_level, project
from kpdetect.filters.picture import SHIPPED, Arm, Filter, Inside, load_filter

__all__ = ["SHIPPED", "Arm", "Filter", "Inside", "apply_filters", "load_filter"]

_GREY_STEP = 8  # every eighth pixel in each direction decides whether a photograph is grey
_GREY_TOLERANCE = 2  # grey levels between channels


def apply_filters(image_rgb: npt.ArrayLike, faces: Iterable[Face], filters: Sequence[str | Filter]) -> Pixels:
    """Draws filters on the faces of a photograph.

    Smaller faces are drawn first, because they are farther away; on one face, the filters are drawn in the given order.
    On a grey photograph the filters are grey. A face whose points are not finite or all in one place is skipped.

    Args:
        image_rgb: (H, W, 3) uint8, the photograph in whose pixels the faces are given.
        faces: Faces as `Predictor` returns them.
        filters: Names (``sunglasses``, ``hat``, ``moustache``), JSON files of your own (see `load_filter`), or results
            of `load_filter` and `Filter.of`, which save reading the files for each frame of a video.

    Returns:
        (H, W, 3) uint8, a new array.

    Raises:
        KpdetectError: There is no such filter, or the scheme of a face has too few of its points.

    Example:
        ```python
        image = read_image("photo.jpg")
        write_image("party.jpg", apply_filters(image, Predictor()(image), ["sunglasses", "hat"]))
        ```
    """
    canvas = np.array(as_rgb(image_rgb), order="C")
    loaded = [entry if isinstance(entry, Filter) else load_filter(entry) for entry in filters]
    grey = bool(loaded) and _is_grey(canvas)
    for face in sorted(faces, key=lambda face: float(np.prod(face.box[2:] - face.box[:2]))):
        for one in loaded:
            matrix = one.matrix(face.keypoints, face.schema)
            if matrix is not None:
                _draw(canvas, one, matrix, face, grey)
    return canvas


def _is_grey(image_rgb: Pixels) -> bool:
    red, green, blue = image_rgb[::_GREY_STEP, ::_GREY_STEP].astype(np.int16).transpose(2, 0, 1)
    differences = np.maximum(abs(red - green), abs(green - blue))
    return bool(differences.size) and int(differences.max()) <= _GREY_TOLERANCE


def _draw(canvas: Pixels, one: Filter, matrix: Matrix, face: Face, grey: bool) -> None:
    """Draws the arms of a filter, then its picture, in place."""
    for arm in one.arms:
        to_photo = _arm_matrix(arm, one, matrix, face)
        if to_photo is not None:
            level = _level(arm.levels, to_photo)
            _warp_and_blend(canvas, arm.levels[level], of_level(to_photo, level), grey)
    level = _level(one.levels, matrix)
    picture = one.reshaped(matrix, face.keypoints, face.schema, level)
    _warp_and_blend(canvas, picture, of_level(matrix, level), grey)


def _arm_matrix(arm: Arm, one: Filter, matrix: Matrix, face: Face) -> Matrix | None:
    """From pixels of an arm's picture to pixels of the photograph; None for an arm that is hidden or has no end."""
    if arm.end not in face.schema.point_names:
        return None
    end = np.asarray(face.point(arm.end), np.float64)
    in_picture = project(np.asarray(np.linalg.inv(matrix), np.float64), [end])[0]
    outward = np.sign(arm.hinge[0] - one.size_hw[1] / 2)
    if not np.isfinite(end).all() or (in_picture[0] - arm.hinge[0]) * outward <= 0:
        return None
    height, width = arm.size_hw
    hinge, thickness = project(matrix, [arm.hinge, (arm.hinge[0], arm.hinge[1] + arm.width)]).astype(np.float64)
    along = (end - hinge) / (width - 1)
    middle = (height - 1) / 2
    down = (thickness - hinge) / height
    to_photo = np.eye(3)
    to_photo[:2, 0], to_photo[:2, 1] = along, down
    to_photo[:2, 2] = hinge - middle * down
    return to_photo


def _warp_and_blend(canvas: Pixels, picture: Pixels, to_photo: Matrix, grey: bool) -> None:
    """Warps a picture and blends it into the part of the canvas that it covers, in place."""
    height, width = picture.shape[:2]
    corners = project(to_photo, [[-1, -1], [width, -1], [-1, height], [width, height]])
    low = np.clip(np.floor(corners.min(axis=0)), 0, canvas.shape[1::-1]).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, canvas.shape[1::-1]).astype(int)
    if (high <= low).any():
        return
    to_part = to_photo.copy()
    to_part[:2] -= low[:, None] * to_photo[2]  # a shift by whole pixels
    size_xy = (int(high[0] - low[0]), int(high[1] - low[1]))
    if np.array_equal(to_part[2], (0, 0, 1)):  # twice as fast
        warped = cv2.warpAffine(picture, to_part[:2], size_xy, flags=cv2.INTER_LINEAR)
    else:
        warped = cv2.warpPerspective(picture, to_part, size_xy, flags=cv2.INTER_LINEAR)
    _blend(canvas[low[1] : high[1], low[0] : high[0]], np.asarray(warped, np.uint8), grey)


def _level(levels: Sequence[Pixels], matrix: Matrix) -> int:
    """The level whose size is nearest to the size on the photograph; finer ones would flicker."""
    x, y = levels[0].shape[1] / 2, levels[0].shape[0] / 2
    around = project(matrix, [[x - 1, y], [x + 1, y], [x, y - 1], [x, y + 1]])
    across, down = around[1] - around[0], around[3] - around[2]
    pixels_per_pixel = abs(float(across[0] * down[1] - across[1] * down[0])) / 4
    halvings = round(-0.5 * np.log2(max(pixels_per_pixel, 1e-12)))
    return int(np.clip(halvings, 0, len(levels) - 1))


def _blend(part: Pixels, warped_rgba: Pixels, grey: bool) -> None:
    """Blends a picture whose colours are multiplied by its alpha over a part of the canvas, in place."""
    through = cv2.cvtColor(cv2.bitwise_not(warped_rgba[..., 3]), cv2.COLOR_GRAY2RGB)
    colors = np.asarray(cv2.cvtColor(warped_rgba, cv2.COLOR_RGBA2RGB), np.uint8)
    if grey:
        colors = np.repeat(np.rint(colors @ np.array(GREY_OF_RGB)).astype(np.uint8)[..., None], 3, axis=2)
    part[...] = cv2.add(cv2.multiply(part, through, scale=1 / 255), colors)
