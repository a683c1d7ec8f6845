"""`KeypointSchema`: the names, groups, flip permutation and error normaliser of a set of keypoints.

*Left* and *right* are the person's own: ``right_eye`` is at the left of an unmirrored image.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema.sides import side_pairs

OUTER_EYE_CORNERS = frozenset({"right_eye_outer", "left_eye_outer"})
"""The two points whose distance is called "inter-ocular" in the literature, by their names in all face schemas here."""


class FrozenDict(dict[str, tuple[int, ...]]):
    """A dict that cannot be changed. Unlike `types.MappingProxyType`, it can be pickled, copied and hashed."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a schema's groups and regions cannot be changed; use dataclasses.replace")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type["FrozenDict"], tuple[dict[str, tuple[int, ...]]]]:
        return FrozenDict, (dict(self),)


@dataclass(frozen=True, repr=False)
class KeypointSchema:
    """The definition of a set of keypoints.

    >>> KeypointSchema("eyes", ("left_eye", "right_eye"), flip_permutation=(1, 0))
    KeypointSchema('eyes', 2 points: left_eye, right_eye)

    Attributes:
        name: Name of the schema, such as ``ibug68``.
        point_names: K unique names.
        groups: Named parts as indices (``right_eye``, ``jaw``, …). They may overlap.
        regions: Named coarse parts for tables of errors. They are disjoint.
        flip_permutation: K indices with ``flipped[i] = mirrored[flip_permutation[i]]``; its own inverse. None if it is
            unknown, in which case the points must not be mirrored.
        normalizer_points: Two points whose distance divides errors (the outer eye corners of a face). If None, errors
            are divided by the size of the points' tight box, or by the crop's width if there is one point.
        edges: Pairs of points that drawings connect by a line, as indices; empty if only the groups are known.

    Raises:
        KpdetectError: The names are not unique, an index is out of range, or the permutation is not its own inverse.
    """

    name: str
    point_names: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    flip_permutation: tuple[int, ...] | None = None
    normalizer_points: tuple[int, int] | None = None
    edges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for attribute in ("groups", "regions"):
            frozen = FrozenDict({name: tuple(part) for name, part in getattr(self, attribute).items()})
            object.__setattr__(self, attribute, frozen)
        count = self.num_keypoints
        if count == 0 or len(set(self.point_names)) != count:
            raise KpdetectError(f"scheme '{self.name}': expected unique point names, at least one: {self.point_names}")
        flip = self.flip_permutation
        if flip is not None and (sorted(flip) != list(range(count)) or any(flip[flip[i]] != i for i in range(count))):
            raise KpdetectError(f"scheme '{self.name}': flipping twice must be the identity; received {flip}")
        used = [i for part in (*self.groups.values(), *self.regions.values()) for i in part]
        used += [*(self.normalizer_points or ()), *(index for edge in self.edges for index in edge)]
        if used and not 0 <= min(used) <= max(used) < count:
            raise KpdetectError(f"scheme '{self.name}': a group or an edge has a point outside 0..{count - 1}")

    def __repr__(self) -> str:
        names = self.point_names if self.num_keypoints <= 4 else (*self.point_names[:3], "…", self.point_names[-1])
        plural = "s" * (self.num_keypoints > 1)
        return f"KeypointSchema('{self.name}', {self.num_keypoints} point{plural}: {', '.join(names)})"

    @property
    def num_keypoints(self) -> int:
        """K, the number of points."""
        return len(self.point_names)

    @property
    def normalizer_name(self) -> str:
        """What divides errors: ``inter-ocular``, ``two-points``, ``box`` or ``crop-width``."""
        if self.normalizer_points is not None:
            names = {self.point_names[index] for index in self.normalizer_points}
            return "inter-ocular" if names == OUTER_EYE_CORNERS else "two-points"
        return "box" if self.num_keypoints > 1 else "crop-width"

    def index(self, point_name: str) -> int:
        """Returns the index of a point.

        >>> user_schema(["left_eye", "nose_tip"]).index("nose_tip")
        1

        Raises:
            KpdetectError: The schema has no such point. The message suggests similar names.
        """
        if point_name in self.point_names:
            return self.point_names.index(point_name)
        if point_name in self.groups:
            points = ", ".join(self.point_names[index] for index in self.groups[point_name])
            hint = f"it is a group of points: {points}"
        else:
            near = difflib.get_close_matches(point_name, self.point_names, n=3, cutoff=0.5)
            containing = [name for name in self.point_names if point_name and point_name in name]
            near = list(dict.fromkeys([*near, *containing]))[:4]
            hint = f"did you mean {', '.join(near)}?" if near else f"its points are {', '.join(self.point_names)}"
        raise KpdetectError(f"scheme '{self.name}' has no point '{point_name}': {hint}")

    def subset(self, chosen_names: Sequence[str]) -> "KeypointSchema":
        """Returns the schema of some of the points, in the order given.

        The flip permutation is kept if each chosen point's partner is chosen, and the normaliser if both its points
        are. Groups and regions keep their chosen points; empty ones are dropped. All points in their own order return
        this schema itself.

        >>> user_schema(["left_eye", "right_eye", "nose"]).subset(["right_eye", "left_eye"]).flip_permutation
        (1, 0)

        Args:
            chosen_names: Unique names of points of this schema, at least one.

        Raises:
            KpdetectError: A name is unknown or repeated, or there is none.
        """
        if tuple(chosen_names) == self.point_names:
            return self
        chosen = [self.index(name) for name in chosen_names]
        new_index = {old: new for new, old in enumerate(chosen)}
        flip, pair = self.flip_permutation, self.normalizer_points
        keeps_flip = flip is not None and all(flip[old] in new_index for old in chosen)
        keeps_pair = pair is not None and all(old in new_index for old in pair)

        def kept(parts: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
            chosen_parts = {name: tuple(new_index[i] for i in part if i in new_index) for name, part in parts.items()}
            return {name: part for name, part in chosen_parts.items() if part}

        return KeypointSchema(
            name=f"{self.name}({chosen_names[0] if len(chosen) == 1 else f'{len(chosen)} points'})",
            point_names=tuple(chosen_names),
            groups=kept(self.groups),
            regions=kept(self.regions),
            flip_permutation=tuple(new_index[flip[old]] for old in chosen) if flip and keeps_flip else None,
            normalizer_points=(new_index[pair[0]], new_index[pair[1]]) if pair and keeps_pair else None,
            edges=tuple((new_index[i], new_index[j]) for i, j in self.edges if i in new_index and j in new_index),
        )

    def normalizers(self, keypoints: npt.ArrayLike, crop_width: float | None = None) -> npt.NDArray[np.float32]:
        """Returns the length that divides the errors of each face.

        >>> user_schema(["a", "b"]).normalizers([[[0, 0], [4, 9]]])
        array([6.], dtype=float32)

        Args:
            keypoints: (N, K, 2), the true points, in any unit that is the same in x and y.
            crop_width: Width of the crop in that unit; required for a schema of one point.

        Returns:
            (N,) float32, in the unit of `keypoints`.

        Raises:
            KpdetectError: The schema has one point and there is no crop width.
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
        """Returns a JSON-serialisable description, which `from_dict` reads."""
        description = {
            "name": self.name,
            "point_names": list(self.point_names),
            "groups": {name: list(part) for name, part in self.groups.items()},
            "regions": {name: list(part) for name, part in self.regions.items()},
            "flip_permutation": None if self.flip_permutation is None else list(self.flip_permutation),
            "normalizer_points": None if self.normalizer_points is None else list(self.normalizer_points),
        }
        return {**description, "edges": [list(edge) for edge in self.edges]} if self.edges else description

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "KeypointSchema":
        """Returns the schema that `to_dict` described."""
        flip, pair = description.get("flip_permutation"), description.get("normalizer_points")
        return cls(
            name=description["name"],
            point_names=tuple(description["point_names"]),
            groups=description.get("groups", {}),
            regions=description.get("regions", {}),
            flip_permutation=None if flip is None else tuple(flip),
            normalizer_points=None if pair is None else (pair[0], pair[1]),
            edges=tuple((first, second) for first, second in description.get("edges", ())),
        )


def flip_permutation_from_names(point_names: Sequence[str]) -> tuple[int, ...] | None:
    """Derives the flip permutation from names: ``left_eye`` and ``right_eye`` are exchanged.

    `kpdetect.core.schema.sides` describes the marks of a side. A name without a side is on the middle line and maps to
    itself. If no name has a side, the permutation is unknown (None), except for a single point.

    >>> flip_permutation_from_names(["left_eye", "right_eye", "nose"])
    (1, 0, 2)
    >>> flip_permutation_from_names(["eye_L", "eye_R"])
    (1, 0)
    >>> flip_permutation_from_names(["p0", "p1"]) is None
    True

    Raises:
        KpdetectError: A point of one side has no partner on the other, or several.
    """
    names, pairs = list(point_names), side_pairs(point_names)
    if pairs.problem:
        if len(pairs.middle) == len(names):
            return None
        raise KpdetectError(f"points without a left-right partner: {pairs.problem}")
    partner = {name: name for name in names}
    for left, right in pairs.left_right:
        partner[left], partner[right] = right, left
    return tuple(names.index(partner[name]) for name in names)


def user_schema(
    point_names: Sequence[str], name: str = "user", edges: Sequence[tuple[int, int]] = ()
) -> KeypointSchema:
    """Returns a schema of user-defined points; its flip permutation is derived from the sides in the names.

    >>> user_schema(["left_eye", "right_eye"]).flip_permutation
    (1, 0)

    Args:
        point_names: K unique names.
        name: Name of the schema.
        edges: Pairs of points that drawings connect.
    """
    try:
        flip = flip_permutation_from_names(point_names)
    except KpdetectError:
        flip = None  # points of one side only are allowed; they cannot be mirrored
    return KeypointSchema(name, tuple(point_names), flip_permutation=flip, edges=tuple(edges))


def describe_flip(schema: KeypointSchema) -> str:
    """Describes in one line how a mirror image exchanges the points, or why there is none.

    >>> describe_flip(user_schema(["left_eye", "right_eye", "nose"]))
    'mirror images exchange left_eye/right_eye; on the middle line: nose'
    >>> describe_flip(user_schema(["left_eye", "right_eye", "mouth_l"]))
    'no mirror images: mouth_l has no partner on the right side'
    """
    names, flip = schema.point_names, schema.flip_permutation
    if flip is None:
        reason = side_pairs(names).problem or "the left-right pairs of the points are unknown"
        return f"no mirror images: {reason}"
    pairs = ", ".join(f"{names[i]}/{names[j]}" for i, j in enumerate(flip) if i < j)
    middle = ", ".join(names[i] for i, j in enumerate(flip) if i == j)
    parts = [f"mirror images exchange {pairs}"] * bool(pairs) + [f"on the middle line: {middle}"] * bool(middle)
    return "; ".join(parts)
