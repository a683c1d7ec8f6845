"""`Filter`: a picture with transparency, its anchors on named keypoints, and the files it is read from."""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.geometry import Matrix
from kpdetect.core.images import Pixels, cv2
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face
from kpdetect.filters.fitting import WARPS, fit_affine, too_slanted
from kpdetect.filters.reshaping import narrowed, projected_outline, shortened
from kpdetect.measures.points import missing_points
from kpdetect.measures.pose import MEAN_FACE, head_axes

SHIPPED = ("sunglasses", "hat", "moustache")
"""The filters in the package; `tools.filter_drawings` draws them."""

GREATEST_SIDE = 4096  # pixels
_OUTER = 0.12  # share of the width at each side
_LEVELS = 6  # halved copies: a picture of 512 pixels is then sharp, and free of aliasing, on a face of 10
_EXAMPLE = '{"picture": "crown.png", "anchors": {"left_eye_outer": [310, 420], "right_eye_outer": [190, 420]}}'
_FIELDS = frozenset({"picture", "warp", "anchors", "depth", "arms", "inside", "shorten"})


@dataclass(frozen=True, eq=False)
class Arm:
    """A picture that reaches from a place of a filter to a point of the face, such as the arm of glasses.

    Attributes:
        levels: As for `Filter`. The left end of the picture's middle row is placed on the hinge, the right end on the
            point of the face.
        size_hw: (height, width) of the picture in pixels; the levels are padded.
        hinge: The pixel (x, y) of the filter's picture.
        end: The name of the point of the face. An arm whose point is hidden behind the filter is not drawn.
        width: The height of the arm's picture in pixels of the filter's picture.

    Example:
        ``load_filter("sunglasses").arms`` has two.
    """

    levels: tuple[Pixels, ...]
    size_hw: tuple[int, int]
    hinge: tuple[float, float]
    end: str
    width: float


@dataclass(frozen=True)
class Inside:
    """Keeps a filter within a contour of the face: each half is narrowed so that it does not reach beyond.

    Attributes:
        group: The group of points that form the contour, such as ``jaw``.
        middle: The column of the picture that divides it into halves.

    Example:
        ``load_filter("moustache").inside.group`` is the contour of the jaw.
    """

    group: str
    middle: float


@dataclass(frozen=True, eq=False)
class Filter:
    """A picture that is placed on faces by their keypoints.

    Attributes:
        name: Its name in messages.
        levels: The picture as (h, w, 4) uint8 RGBA, colours multiplied by alpha, and halved copies of it.
        anchors: The pixel (x, y) of the picture that belongs on each named point of a face, and its weight.
        warp: A name of `WARPS`.
        depth: How far the picture is behind the plane of its anchors, in distances between the outer eye corners; a
            hat turns about the middle of the head and not about the face.
        arms: Pictures below this one that reach to other points.
        inside: A contour that the picture does not reach beyond.
        shorten: Rows (first, last) of the picture that are removed, as far as needed, where the photograph ends above.

    Example:
        ```python
        crown = load_filter("crown.json")
        write_image("crowned.jpg", apply_filters(image, predictor(image), [crown]))
        ```
    """

    name: str
    levels: tuple[Pixels, ...]
    anchors: Mapping[str, tuple[float, float, float]]
    warp: str
    depth: float = 0.0
    arms: tuple[Arm, ...] = ()
    inside: Inside | None = None
    shorten: tuple[float, float] | None = None

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
            name: Its name in messages.
            picture_rgba: (H, W, 4) uint8, RGB and alpha, not multiplied with each other; alpha 0 is transparent.
            anchors: Names of points, such as ``nose_tip``, to (x, y) or (x, y, weight) in pixels of the picture,
                centres on integers; they may be outside of the picture. Points that a face lacks are ignored.
            warp: ``similarity`` (rotates, scales and moves; at least 2 points), ``affine`` (also foreshortens, as a
                flat object on a head that turns; 3) or ``perspective`` (also enlarges the near side; 4).

        Raises:
            KpdetectError: The picture, an anchor or the warp is not as described.

        Example:
            ```python
            red = np.full((40, 40, 4), (255, 0, 0, 255), np.uint8)
            nose = Filter.of("red nose", red, {"nose_tip": (20, 20), "nose_bridge_1": (20, -60)})
            ```
        """
        if warp not in WARPS:
            raise unknown_name(f"warp (of filter '{name}')", str(warp), WARPS)
        checked = {point: _anchor(name, point, place) for point, place in anchors.items()}
        needed = WARPS[warp][1]
        if len(checked) < needed:
            raise KpdetectError(
                f"filter '{name}': expected at least {needed} anchors for a {warp} warp, received {len(checked)}"
            )
        return cls(name, picture_levels(_checked_picture(name, picture_rgba)), checked, warp)

    def check_scheme(self, schema: KeypointSchema) -> list[str]:
        """The names of the anchors that a scheme has.

        Raises:
            KpdetectError: There are too few of them.
        """
        needed = WARPS[self.warp][1]
        names = [name for name in self.anchors if name in schema.point_names]
        if len(names) < needed:
            raise KpdetectError(
                f"filter '{self.name}': expected {needed} or more of the points {', '.join(self.anchors)}; "
                f"scheme '{schema.name}' has {len(names)} of them; choose a model with such a scheme"
            )
        return names

    def matrix(self, keypoints: npt.ArrayLike, schema: KeypointSchema) -> Matrix | None:
        """The place of the picture on a face.

        Args:
            keypoints: (K, 2), in pixels of the photograph.
            schema: Their scheme.

        Returns:
            (3, 3), from pixels of the picture to pixels of the photograph; None if the points are not finite or too
            close together.

        Raises:
            KpdetectError: The scheme has too few of the filter's anchors.
        """
        names = self.check_scheme(schema)
        points = np.asarray(keypoints, np.float64)
        places = np.array([self.anchors[name] for name in names], np.float64)
        target = points[[schema.index(name) for name in names]]
        if not np.isfinite(target).all():
            return None
        matrix = WARPS[self.warp][0](places[:, :2], target, places[:, 2])
        if matrix is not None and too_slanted(matrix, self.size_hw):
            matrix = fit_affine(places[:, :2], target, places[:, 2])
        if matrix is not None and self.depth:
            matrix = self._moved_back(matrix, points, schema)
        return matrix

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) of the picture in pixels."""
        return (self.levels[0].shape[0], self.levels[0].shape[1])

    @functools.cached_property
    def drawn(self) -> tuple[float, float, float, float]:
        """The box (x0, y0, x1, y1) of the picture that is not transparent, in pixels."""
        opaque = self.levels[0][..., 3] > 0
        rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
        if not len(rows):
            return (0.0, 0.0, 0.0, 0.0)
        return (float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1]))

    @functools.cached_property
    def outer_rows(self) -> tuple[float, float]:
        """The first and last row of the picture that is drawn in its outer columns."""
        x0, y0, x1, y1 = self.drawn
        reach = _OUTER * (x1 - x0)
        opaque = self.levels[0][..., 3] > 0
        columns = np.arange(opaque.shape[1])
        rows = np.flatnonzero(opaque[:, (columns < x0 + reach) | (columns > x1 - reach)].any(axis=1))
        return (float(rows[0]), float(rows[-1])) if len(rows) else (y0, y1)

    def reshaped(self, matrix: Matrix, keypoints: npt.ArrayLike, schema: KeypointSchema, level: int) -> Pixels:
        """A level of the picture as it is drawn: narrowed to stay inside its contour, shortened below the top border.

        Args:
            matrix: As `matrix` returned it.
            keypoints: (K, 2), in pixels of the photograph.
            schema: Their scheme.
            level: Index into `levels`.

        Returns:
            (h, w, 4) uint8, of the level's size.
        """
        picture = self.levels[level]
        if self.inside is not None and self.inside.group in schema.groups:
            contour = np.asarray(keypoints, np.float64)[list(schema.groups[self.inside.group])]
            if np.isfinite(contour).all():
                x0, _, x1, _ = self.drawn
                outline = projected_outline(matrix, contour)
                picture = narrowed(picture, level, self.inside.middle, outline, (x0, *self.outer_rows, x1))
        if self.shorten is not None:
            picture = shortened(picture, level, self.shorten, matrix, self.drawn)
        return picture

    def _moved_back(self, matrix: Matrix, points: Matrix, schema: KeypointSchema) -> Matrix:
        """Moves the picture along the head's axis, by `depth`; faces without the points for it keep their place."""
        if missing_points(schema, tuple(MEAN_FACE)) or not np.isfinite(points).all():
            return matrix
        try:
            towards_camera = head_axes(Face(np.asarray(points, np.float32), schema))[:, 2]
        except KpdetectError:  # the points of no head
            return matrix
        moved = matrix.copy()
        moved[:2] -= self.depth * towards_camera[:, None] * matrix[2]
        return moved


def load_filter(name_or_path: str | os.PathLike[str]) -> Filter:
    """Loads a filter by its name, or a user's own by its JSON file.

    The file has the fields ``picture``, a PNG with transparency beside it, ``anchors`` and ``warp`` (see `Filter.of`),
    such as ``{"picture": "crown.png", "anchors": {"left_eye_outer": [310, 420], "right_eye_outer": [190, 420]}}``.
    Optional fields are ``depth`` (a number), ``shorten`` (two rows), ``inside`` (``{"group": "jaw", "middle": 255}``)
    and ``arms`` (a list of ``{"picture": "arm.png", "hinge": [x, y], "end": "jaw_right_1", "width": 20}``), as
    `Filter`, `Inside` and `Arm` describe them.

    Args:
        name_or_path: ``sunglasses``, ``hat``, ``moustache``, or a path that ends in ``.json``.

    Raises:
        KpdetectError: There is no such filter, or its files are not as described.

    Example:
        ```python
        hat, crown = load_filter("hat"), load_filter("crown.json")
        ```
    """
    text = os.fspath(name_or_path)
    if text.lower().endswith(".json"):
        return _read_filter(Path(text))
    if text not in SHIPPED:
        error = unknown_name("filter", text, SHIPPED)
        raise KpdetectError(f"{error}; for a filter of your own give its file, such as crown.json")
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
    picture, anchors = _required_fields(path, description)
    picture_rgba = _read_rgba(path.parent / picture)
    try:
        plain = Filter.of(path.stem, picture_rgba, anchors, description.get("warp", "similarity"))
    except KpdetectError as error:
        raise KpdetectError(f"{path}: {error}") from error
    return _with_optional_fields(plain, path, description)


def _required_fields(path: Path, description: Any) -> tuple[str, dict[str, Any]]:
    fits = isinstance(description, dict) and set(description) <= _FIELDS and isinstance(description.get("picture"), str)
    if not fits or not isinstance(description.get("anchors"), dict):
        found = sorted(description) if isinstance(description, dict) else type(description).__name__
        raise KpdetectError(
            f"{path}: expected picture, anchors and optionally {', '.join(sorted(_FIELDS - {'picture', 'anchors'}))}, "
            f"such as {_EXAMPLE}, received {found}"
        )
    return description["picture"], description["anchors"]


def _with_optional_fields(plain: Filter, path: Path, description: Mapping[str, Any]) -> Filter:
    try:
        arms = tuple(_read_arm(path.parent, arm) for arm in description.get("arms", ()))
        inside, shorten = description.get("inside"), description.get("shorten")
        return replace(
            plain,
            depth=float(description.get("depth", 0.0)),
            arms=arms,
            inside=None if inside is None else Inside(str(inside["group"]), float(inside["middle"])),
            shorten=None if shorten is None else _numbers(shorten),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, KpdetectError):
            raise
        raise KpdetectError(
            f"{path}: expected depth as a number, shorten as two rows, inside as group and middle, and arms as a list "
            f"of picture, hinge, end and width; received {type(error).__name__}: {error}"
        ) from error


def _read_arm(folder: Path, description: Mapping[str, Any]) -> Arm:
    picture = _read_rgba(folder / str(description["picture"]))
    return Arm(
        levels=picture_levels(picture),
        size_hw=(picture.shape[0], picture.shape[1]),
        hinge=_numbers(description["hinge"]),
        end=str(description["end"]),
        width=float(description["width"]),
    )


def _numbers(pair: Sequence[float]) -> tuple[float, float]:
    first, second = pair
    return float(first), float(second)


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


def picture_levels(picture_rgba: Pixels) -> tuple[Pixels, ...]:
    """A picture with its colours multiplied by its alpha, and copies of half the size each.

    Without the multiplication, the colours of transparent pixels would show at the edges.

    Args:
        picture_rgba: (H, W, 4) uint8, padded to a multiple of the largest reduction.
    """
    height, width = picture_rgba.shape[:2]
    whole = 2 ** (_LEVELS - 1)  # all halvings are exact
    padded = np.pad(picture_rgba, ((0, -height % whole), (0, -width % whole), (0, 0))).astype(np.float32)
    padded[..., :3] *= padded[..., 3:] / 255
    levels = [padded]
    while len(levels) < _LEVELS:
        size_xy = (levels[-1].shape[1] // 2, levels[-1].shape[0] // 2)
        levels.append(np.asarray(cv2.resize(levels[-1], size_xy, interpolation=cv2.INTER_AREA), np.float32))
    return tuple(np.asarray(np.rint(level), np.uint8) for level in levels)
