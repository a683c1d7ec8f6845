"""Owns `Filter`: a picture one can see through, its anchors on a face's named points, and their files."""

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.geometry import Matrix
from kpdetect.core.images import Pixels, cv2
from kpdetect.core.schema import KeypointSchema
from kpdetect.filters.fitting import WARPS, fit_affine, too_slanted

SHIPPED = ("sunglasses", "hat", "moustache")
"""The filters that come with the package; `tools.filter_drawings` draws them."""

GREATEST_SIDE = 4096  # pixels of a picture; more would only be shrunk again, and cost memory
_LEVELS = 6  # halvings that are kept: a picture of 512 pixels is then sharp, and smooth, on a face of 10
_EXAMPLE = '{"picture": "crown.png", "anchors": {"left_eye_outer": [310, 420], "right_eye_outer": [190, 420]}}'


@dataclass(frozen=True, eq=False)
class Filter:
    """A picture that is laid on faces.

    Attributes:
        name: What it is called in messages.
        levels: The picture as (h, w, 4) uint8 RGBA, its colours multiplied by its alpha, and halved again and again.
        anchors: The pixel (x, y) of the picture that each named point of a face is to lie on, and its weight.
        warp: A name of `WARPS`.
    """

    name: str
    levels: tuple[Pixels, ...]
    anchors: Mapping[str, tuple[float, float, float]]
    warp: str

    @classmethod
    def of(
        cls,
        name: str,
        picture_rgba: npt.ArrayLike,
        anchors: Mapping[str, tuple[float, ...]],
        warp: str = "similarity",
    ) -> "Filter":
        """Makes a filter of a picture in memory.

        Args:
            name: What it is called in messages.
            picture_rgba: (H, W, 4) uint8, RGB and alpha (0 lets everything through), not multiplied with each other.
            anchors: Names of a scheme's points, such as ``nose_tip``, to (x, y) or (x, y, weight) in pixels of the
                picture, centres on integers; they may lie outside it. Points that a face's scheme lacks are left out.
            warp: ``similarity`` (at least 2 points: turned, sized, moved), ``affine`` (3: also squeezed, as a flat
                thing on a head that turns) or ``perspective`` (4: the near side also greater than the far one).

        Raises:
            KpdetectError: The picture, an anchor or the warp is none.
        """
        if warp not in WARPS:
            raise unknown_name(f"warp (of filter '{name}')", str(warp), WARPS)
        checked = {point: _anchor(name, point, place) for point, place in anchors.items()}
        needed = WARPS[warp][1]
        if len(checked) < needed:
            raise KpdetectError(
                f"filter '{name}': expected at least {needed} anchors for a {warp} warp, received {len(checked)}"
            )
        return cls(name, _levels(_checked_picture(name, picture_rgba)), checked, warp)

    def check_scheme(self, schema: KeypointSchema) -> list[str]:
        """The names of the points of a scheme that hold this filter.

        Raises:
            KpdetectError: There are too few of them.
        """
        needed = WARPS[self.warp][1]
        names = [name for name in self.anchors if name in schema.point_names]
        if len(names) < needed:
            raise KpdetectError(
                f"filter '{self.name}': expected {needed} or more of the points {', '.join(self.anchors)}; "
                f"scheme '{schema.name}' has {len(names)} of them; name a model of such a scheme"
            )
        return names

    def matrix(self, keypoints: npt.ArrayLike, schema: KeypointSchema) -> Matrix | None:
        """Where the picture lies on a face: (3, 3), pixels of the picture to pixels of the photograph.

        Args:
            keypoints: (K, 2), the face's points in pixels of the photograph.
            schema: Their scheme.

        Returns:
            None where the points are not finite, or lie too close together to hold anything.

        Raises:
            KpdetectError: The scheme has too few of the filter's points.
        """
        names = self.check_scheme(schema)
        fit = WARPS[self.warp][0]
        places = np.array([self.anchors[name] for name in names], np.float64)
        target = np.asarray(keypoints, np.float64)[[schema.index(name) for name in names]]
        if not np.isfinite(target).all():
            return None
        matrix = fit(places[:, :2], target, places[:, 2])
        if matrix is not None and too_slanted(matrix, self.levels[0].shape[:2]):
            return fit_affine(places[:, :2], target, places[:, 2])
        return matrix


def load_filter(name_or_path: str | os.PathLike[str]) -> Filter:
    """A filter by its name, or a user's own by its JSON file.

    The file says ``{"picture": "crown.png", "warp": "similarity", "anchors": {"left_eye_outer": [310, 420], …}}``: a
    PNG with transparency beside it, and where a face's points lie in it; see `Filter.of`.

    Args:
        name_or_path: ``sunglasses``, ``hat``, ``moustache``, or a path that ends in ``.json``.

    Raises:
        KpdetectError: There is no such filter, or its files are bad.
    """
    text = os.fspath(name_or_path)
    if text.lower().endswith(".json"):
        return _read_filter(Path(text))
    if text not in SHIPPED:
        error = unknown_name("filter", text, SHIPPED)
        raise KpdetectError(f"{error}; a filter of your own is named by its file, such as crown.json")
    return _shipped(text)


@functools.lru_cache(maxsize=len(SHIPPED))
def _shipped(name: str) -> Filter:
    with resources.as_file(resources.files("kpdetect.filters").joinpath("pictures")) as folder:
        return _read_filter(folder / f"{name}.json")


def _read_filter(path: Path) -> Filter:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KpdetectError(f"{path}: cannot read the filter: {error.strerror or error}") from error
    except ValueError as error:
        raise KpdetectError(f"{path}: expected JSON such as {_EXAMPLE}, received {error}") from error
    picture, anchors = _fields(path, description)
    try:
        return Filter.of(path.stem, _read_rgba(path.parent / picture), anchors, description.get("warp", "similarity"))
    except KpdetectError as error:
        raise error if str(path.parent / picture) in str(error) else KpdetectError(f"{path}: {error}") from error


def _fields(path: Path, description: Any) -> tuple[str, dict[str, Any]]:
    known = {"picture", "warp", "anchors"}
    fits = isinstance(description, dict) and set(description) <= known and isinstance(description.get("picture"), str)
    if not fits or not isinstance(description.get("anchors"), dict):
        found = sorted(description) if isinstance(description, dict) else type(description).__name__
        raise KpdetectError(f"{path}: expected picture, anchors and perhaps warp, such as {_EXAMPLE}, received {found}")
    return description["picture"], description["anchors"]


def _read_rgba(path: Path) -> Pixels:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except (OSError, cv2.error) as error:
        raise KpdetectError(f"{path}: cannot read the filter's picture: {getattr(error, 'strerror', error)}") from error
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 4:
        found = "no whole image" if image is None else f"{image.dtype} of shape {image.shape}"
        raise KpdetectError(f"{path}: expected a PNG of 8 bits with transparency (RGBA), received {found}")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), np.uint8)


def _anchor(filter_name: str, point: str, place: Any) -> tuple[float, float, float]:
    try:
        numbers = [float(number) for number in place]
    except (TypeError, ValueError):
        numbers = []
    numbers += [1.0] if len(numbers) == 2 else []
    if len(numbers) != 3 or not np.isfinite(numbers).all() or numbers[2] <= 0:
        raise KpdetectError(
            f"filter '{filter_name}', anchor '{point}': expected [x, y] or [x, y, weight above 0] in pixels of the "
            f"picture, received {place!r}"
        )
    return numbers[0], numbers[1], numbers[2]


def _checked_picture(name: str, picture_rgba: npt.ArrayLike) -> Pixels:
    picture = np.asarray(picture_rgba)
    right = picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2:] == (4,) and picture.size > 0
    if not right or max(picture.shape[:2]) > GREATEST_SIDE:
        raise KpdetectError(
            f"filter '{name}': expected a picture of uint8 and shape (H, W, 4), sides up to {GREATEST_SIDE}, "
            f"received {picture.dtype} of shape {picture.shape}"
        )
    return np.asarray(picture, np.uint8)


def _levels(picture_rgba: Pixels) -> tuple[Pixels, ...]:
    """The picture multiplied by its alpha, then halved: means of pixels that show nothing must not darken edges."""
    height, width = picture_rgba.shape[:2]
    whole = 2 ** (_LEVELS - 1)  # every halving is to be exact
    padded = np.pad(picture_rgba, ((0, -height % whole), (0, -width % whole), (0, 0))).astype(np.float32)
    padded[..., :3] *= padded[..., 3:] / 255
    levels = [padded]
    while len(levels) < _LEVELS:
        size_xy = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
        levels.append(np.asarray(cv2.resize(levels[-1], size_xy, interpolation=cv2.INTER_AREA), np.float32))
    return tuple(np.asarray(np.rint(level), np.uint8) for level in levels)
