"""Owns filters: sunglasses, a hat, a moustache, or a user's own picture, laid on faces by their named points.

```python
from kpdetect.filters import apply_filters
image = apply_filters(image, predictor(image), ["sunglasses", "hat"])
```
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Matrix
from kpdetect.core.images import Pixels, as_rgb, cv2
from kpdetect.detection import Face
from kpdetect.filters.fitting import of_level, project
from kpdetect.filters.picture import SHIPPED, Filter, load_filter

__all__ = ["SHIPPED", "Filter", "apply_filters", "load_filter"]


def apply_filters(image_rgb: npt.ArrayLike, faces: Iterable[Face], filters: Sequence[str | Filter]) -> Pixels:
    """Lays pictures on the faces of a photograph: turned, sized and slanted as each head is, clipped at the border.

    Smaller faces come first, since they are farther away; on a face, the filters lie over each other as they are
    named. A face whose points lie all in one place, or are not finite, is left as it is.

    Args:
        image_rgb: (H, W, 3) uint8, the photograph that the faces' pixels count in.
        faces: What `Predictor` gave; none leaves the photograph as it is.
        filters: Names (``sunglasses``, ``hat``, ``moustache``), JSON files of your own (see `load_filter`), or what
            `load_filter` and `Filter.of` gave, which is faster for video.

    Returns:
        (H, W, 3) uint8, a copy.

    Raises:
        KpdetectError: There is no such filter, or a face's scheme lacks its points.
    """
    canvas = np.array(as_rgb(image_rgb), order="C")
    loaded = [entry if isinstance(entry, Filter) else load_filter(entry) for entry in filters]
    for face in sorted(faces, key=lambda face: float(np.prod(face.box[2:] - face.box[:2]))):
        for one in loaded:
            matrix = one.matrix(face.keypoints, face.schema)
            if matrix is not None:
                _lay(canvas, one.levels, matrix)
    return canvas


def _lay(canvas: Pixels, levels: Sequence[Pixels], matrix: Matrix) -> None:
    """Warps and blends a picture into the part of the canvas that it covers, in place."""
    level = _level(levels, matrix)
    height, width = levels[level].shape[:2]
    to_photo = of_level(matrix, level)
    corners = project(to_photo, [[-1, -1], [width, -1], [-1, height], [width, height]])
    low = np.clip(np.floor(corners.min(axis=0)), 0, canvas.shape[1::-1]).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, canvas.shape[1::-1]).astype(int)
    if (high <= low).any():
        return
    to_part = to_photo.copy()
    to_part[:2] -= low[:, None] * to_photo[2]  # a shift by whole pixels
    size_xy = (int(high[0] - low[0]), int(high[1] - low[1]))
    if np.array_equal(to_part[2], (0, 0, 1)):  # twice as fast
        warped = cv2.warpAffine(levels[level], to_part[:2], size_xy, flags=cv2.INTER_LINEAR)
    else:
        warped = cv2.warpPerspective(levels[level], to_part, size_xy, flags=cv2.INTER_LINEAR)
    _blend(canvas[low[1] : high[1], low[0] : high[0]], np.asarray(warped, np.uint8))


def _level(levels: Sequence[Pixels], matrix: Matrix) -> int:
    """The halved picture that is nearest to the size on the photograph, so that fine lines do not flicker."""
    x, y = levels[0].shape[1] / 2, levels[0].shape[0] / 2
    around = project(matrix, [[x - 1, y], [x + 1, y], [x, y - 1], [x, y + 1]])
    across, down = around[1] - around[0], around[3] - around[2]
    pixels_per_pixel = abs(float(across[0] * down[1] - across[1] * down[0])) / 4
    halvings = round(-0.5 * np.log2(max(pixels_per_pixel, 1e-12)))
    return int(np.clip(halvings, 0, len(levels) - 1))


def _blend(part: Pixels, warped_rgba: Pixels) -> None:
    """Part times what the picture lets through, plus the picture, whose colours are multiplied by its alpha."""
    through = cv2.cvtColor(cv2.bitwise_not(warped_rgba[..., 3]), cv2.COLOR_GRAY2RGB)
    colors = cv2.cvtColor(warped_rgba, cv2.COLOR_RGBA2RGB)
    part[...] = cv2.add(cv2.multiply(part, through, scale=1 / 255), colors)
