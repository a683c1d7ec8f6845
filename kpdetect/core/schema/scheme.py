"""Owns `KeypointSchema`: names, groups, the left-right swap, what normalises an error, and schemes of chosen points.

*Left* and *right* are the pictured person's own: ``right_eye`` stands at the left of an unmirrored picture.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError

OUTER_EYE_CORNERS = frozenset({"right_eye_outer", "left_eye_outer"})
"""The two points whose distance is the field's "inter-ocular", by the names that every face scheme here gives them."""

_SIDE = re.compile(r"left|right")


@dataclass(frozen=True)
class KeypointSchema:
    """A keypoint scheme.

    Attributes:
        name: The scheme's name, such as ``ibug68``.
        point_names: One unique name per point; K of them.
        groups: Parts by name, as indices (``right_eye``, ``jaw``, …). Parts may overlap.
        regions: The coarse parts that error tables are made by; disjoint.
        flip_permutation: ``flipped[i] = mirrored[flip_permutation[i]]``, or None where it is not known,
            and then nothing may mirror these points.
        normalizer_points: The two points whose distance normalises the error (outer eye corners for faces);
            None normalises by the tight box of the points, and a single point by the crop's width.

    Raises:
        KpdetectError: The parts do not fit together.
    """

    name: str
    point_names: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    flip_permutation: tuple[int, ...] | None = None
    normalizer_points: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for attribute in ("groups", "regions"):
            frozen = MappingProxyType({k: tuple(v) for k, v in getattr(self, attribute).items()})
            object.__setattr__(self, attribute, frozen)
        self._check()

    def _check(self) -> None:
        count = self.num_keypoints
        if count == 0 or len(set(self.point_names)) != count:
            raise KpdetectError(f"scheme '{self.name}': expected unique point names, at least one: {self.point_names}")
        swap = self.flip_permutation
        if swap is not None and (sorted(swap) != list(range(count)) or any(swap[swap[i]] != i for i in range(count))):
            raise KpdetectError(f"scheme '{self.name}': flipping twice must give every point back; received {swap}")
        used = [i for part in (*self.groups.values(), *self.regions.values()) for i in part]
        used += list(self.normalizer_points or ())
        if used and not 0 <= min(used) <= max(used) < count:
            raise KpdetectError(f"scheme '{self.name}': a group names a point outside 0..{count - 1}")

    @property
    def num_keypoints(self) -> int:
        """K, the number of points."""
        return len(self.point_names)

    @property
    def normalizer_name(self) -> str:
        """What an error of this scheme is divided by: ``inter-ocular``, ``box`` or ``crop-width``."""
        if self.normalizer_points is not None:
            names = {self.point_names[index] for index in self.normalizer_points}
            return "inter-ocular" if names == OUTER_EYE_CORNERS else "two-points"
        return "box" if self.num_keypoints > 1 else "crop-width"

    def index(self, point_name: str) -> int:
        """The index of a point by its name.

        Raises:
            KpdetectError: There is no such point.
        """
        if point_name not in self.point_names:
            raise KpdetectError(f"scheme '{self.name}' has no point '{point_name}'")
        return self.point_names.index(point_name)

    def subset(self, chosen_names: Sequence[str]) -> "KeypointSchema":
        """The scheme of some of the points, in the order given; all of them in their own order are this scheme.

        The swap stays where no point loses its partner, and the normaliser where both its points stay. Groups and
        regions keep those of their points that were chosen, and go where none was.

        Args:
            chosen_names: Unique names of points of this scheme, at least one.

        Raises:
            KpdetectError: A name is unknown or there twice, or there is none.
        """
        if tuple(chosen_names) == self.point_names:
            return self
        chosen = [self.index(name) for name in chosen_names]
        place = {old: new for new, old in enumerate(chosen)}  # only those that stay
        swap = self.flip_permutation
        pair = _renumbered(self.normalizer_points, place)
        return KeypointSchema(
            name=f"{self.name}({chosen_names[0] if len(chosen) == 1 else f'{len(chosen)} points'})",
            point_names=tuple(chosen_names),
            groups=_parts_of(self.groups, place),
            regions=_parts_of(self.regions, place),
            flip_permutation=_renumbered(swap and [swap[old] for old in chosen], place),
            normalizer_points=None if pair is None else (pair[0], pair[1]),
        )

    def normalizers(self, keypoints: npt.ArrayLike, crop_width: float | None = None) -> npt.NDArray[np.float32]:
        """What divides each face's error.

        Args:
            keypoints: True points, (N, K, 2), in any unit that is the same in x and y.
            crop_width: The crop's width in that unit; needed by a scheme of one point.

        Returns:
            (N,) float32, in the unit of `keypoints`.

        Raises:
            KpdetectError: A scheme of one point came without a crop width.
        """
        points = np.asarray(keypoints, np.float32)
        if self.normalizer_points is not None:
            first, second = self.normalizer_points
            return np.asarray(np.linalg.norm(points[:, first] - points[:, second], axis=-1), np.float32)
        if self.num_keypoints > 1:
            extent = points.max(axis=1) - points.min(axis=1)
            return np.asarray(np.sqrt(extent[:, 0] * extent[:, 1]), np.float32)
        if crop_width is None:
            raise KpdetectError(f"scheme '{self.name}' has one point: its error needs the crop's width")
        return np.full(len(points), crop_width, np.float32)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description; `from_dict` reads it back."""
        return {
            "name": self.name,
            "point_names": list(self.point_names),
            "groups": {name: list(part) for name, part in self.groups.items()},
            "regions": {name: list(part) for name, part in self.regions.items()},
            "flip_permutation": None if self.flip_permutation is None else list(self.flip_permutation),
            "normalizer_points": None if self.normalizer_points is None else list(self.normalizer_points),
        }

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "KeypointSchema":
        """Reads what `to_dict` wrote."""
        swap, pair = description.get("flip_permutation"), description.get("normalizer_points")
        return cls(
            name=description["name"],
            point_names=tuple(description["point_names"]),
            groups=description.get("groups", {}),
            regions=description.get("regions", {}),
            flip_permutation=None if swap is None else tuple(swap),
            normalizer_points=None if pair is None else (pair[0], pair[1]),
        )


def _renumbered(indices: Sequence[int] | None, place: Mapping[int, int]) -> tuple[int, ...] | None:
    """New indices for old ones; None where one of them is gone."""
    if indices is None or any(old not in place for old in indices):
        return None
    return tuple(place[old] for old in indices)


def _parts_of(parts: Mapping[str, tuple[int, ...]], place: Mapping[int, int]) -> dict[str, tuple[int, ...]]:
    """Groups of points by their new indices; `place` is old index to new, of the points that stay."""
    kept = {name: tuple(place[old] for old in part if old in place) for name, part in parts.items()}
    return {name: part for name, part in kept.items() if part}


def flip_permutation_from_names(point_names: Sequence[str]) -> tuple[int, ...] | None:
    """The left-right swap that the names tell: ``left_eye`` changes place with ``right_eye``.

    A name without a side lies on the middle line and stays. Names that tell no side at all tell no swap (None),
    unless there is a single point.

    >>> flip_permutation_from_names(["left_eye", "right_eye", "nose"])
    (1, 0, 2)
    >>> flip_permutation_from_names(["p0", "p1"]) is None
    True

    Raises:
        KpdetectError: A point has no partner.
    """
    names = list(point_names)
    if len(names) > 1 and not any(_SIDE.search(name) for name in names):
        return None
    partners = [_SIDE.sub(lambda side: "right" if side[0] == "left" else "left", name) for name in names]
    alone = [name for name, partner in zip(names, partners, strict=True) if partner not in names]
    if alone:
        raise KpdetectError(f"points without a left-right partner: {', '.join(alone)}")
    return tuple(names.index(partner) for partner in partners)


def user_schema(point_names: Sequence[str], name: str = "user") -> KeypointSchema:
    """A scheme of the user's own points; the swap follows from ``left`` and ``right`` in the names.

    Args:
        point_names: K unique names, in the order of the columns.
        name: The scheme's name.
    """
    try:
        swap = flip_permutation_from_names(point_names)
    except KpdetectError:
        swap = None  # one-sided names are the user's right; such points are never mirrored
    return KeypointSchema(name, tuple(point_names), flip_permutation=swap)
