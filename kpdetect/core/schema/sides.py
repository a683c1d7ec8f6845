"""Finds the left-right pairs of points from their names, which define the flip permutation.

A side is ``left``/``right`` anywhere in a name, or ``l``/``r`` as a word of its own, in any case: ``left_eye``,
``EyeRight``, ``mouth_L``, ``l-brow-1``, ``eyeR``. ``l``/``r`` as the first or last letter of a name (``leye``,
``reye``) count only if both names exist.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_OTHER = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class SidePairs:
    """The left-right pairs of a set of points.

    Attributes:
        left_right: Names of the points that a mirror image exchanges, as (left, right).
        middle: Names without a side, which stay.
        problem: Why the names define no flip; empty if they do.
    """

    left_right: tuple[tuple[str, str], ...] = ()
    middle: tuple[str, ...] = ()
    problem: str = ""


def side_pairs(point_names: Sequence[str]) -> SidePairs:
    """Pairs the points of the left side with those of the right side by their names.

    >>> side_pairs(["left_eye", "right_eye", "nose", "mouth_L", "mouth_R"]).left_right
    (('left_eye', 'right_eye'), ('mouth_L', 'mouth_R'))
    >>> side_pairs(["left_eye", "right_eye", "mouth_l"]).problem
    'mouth_l has no partner on the right side'

    Args:
        point_names: Unique names.
    """
    names = list(point_names)
    parts = {name: _side_and_rest(name) for name in names}
    parts |= _first_or_last_letters([name for name, part in parts.items() if part is None])
    if len(names) > 1 and not any(parts.values()):
        return SidePairs(middle=tuple(names), problem="no name has a side (left/right, l/r)")
    by_part: dict[tuple[str, str], list[str]] = {}
    for name, part in parts.items():
        if part is not None:
            by_part.setdefault(part, []).append(name)
    pairs, problems = [], []
    for (side, rest), found in by_part.items():
        partners = by_part.get((_OTHER[side], rest), [])
        if len(found) > 1:
            problems.append(f"{' and '.join(found)} differ only in how they mark the {side} side")
        elif not partners:
            problems.append(f"{found[0]} has no partner on the {_OTHER[side]} side")
        elif side == "left" and len(partners) == 1:
            pairs.append((found[0], partners[0]))
    middle = tuple(name for name, part in parts.items() if part is None)
    return SidePairs(tuple(pairs), middle, "; ".join(problems))


def _side_and_rest(name: str) -> tuple[str, str] | None:
    """Returns the side of a name and what its partner has in common with it; None for a name without a side.

    In a name with several sides, such as the image's left corner of the right eye, all are exchanged.
    """
    spaced = _HUMP.sub(" ", name)
    words = [word.lower() for word in re.findall(r"left|right|[^\W_]+?(?=left|right|[\W_]|$)", spaced, re.IGNORECASE)]
    sides = [_SIDES[word] for word in words if word in _SIDES]
    if not sides or (len(words) == 1 and words[0] in "lr"):
        return None
    same = {"left": "=", "right": "≠"} if sides[0] == "left" else {"left": "≠", "right": "="}
    marked = [same[_SIDES[word]] if word in _SIDES else word for word in words]
    if len(sides) == 1:
        marked.remove("=")  # so that left_eye pairs with eye_right
    return sides[0], " ".join(marked)


def _first_or_last_letters(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns side and rest of those names without a side that differ only in a first or last letter l and r."""
    lower = {name.lower(): name for name in names}
    found: dict[str, tuple[str, str]] = {}
    for low, name in lower.items():
        for left, right, rest in ((low, f"r{low[1:]}", f"·{low[1:]}"), (low, f"{low[:-1]}r", f"{low[:-1]}·")):
            is_left = len(low) > 2 and (low[0] == "l" if rest.startswith("·") else low[-1] == "l")
            if is_left and right in lower and left not in found:
                found[name], found[lower[right]] = ("left", rest), ("right", rest)
    return found
