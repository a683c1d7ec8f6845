"""Patterns that find names, numbers and files in a message, in any order and with any words between them."""

import re


def mentions(*parts: str) -> str:
    r"""A pattern, for ``match=``, that matches texts with every part.

    A part is plain text. At its ends a word or number must end too, so that ``1`` is not found in ``12``, ``1.5`` or
    ``v1``; in ``12x1`` both numbers are.

    >>> bool(re.search(mentions("faces.csv:412", "136", "134"), "faces.csv:412: expected 136 values, received 134"))
    True
    >>> bool(re.search(mentions("faces.csv:41", "136"), "faces.csv:412: expected 136 values, received 134"))
    False
    """
    if not all(parts) or not parts:
        raise ValueError(f"expected one part or more, none of them empty, received {parts}")
    return r"(?s)\A" + "".join(f"(?=.*{_whole(part)})" for part in parts)


def lines_with(text: str, *parts: str) -> list[str]:
    r"""The lines of a text with every part (see `mentions`).

    >>> lines_with("train 21 faces\nvalidate 3 faces", "3")
    ['validate 3 faces']
    """
    return [line for line in text.splitlines() if re.search(mentions(*parts), line)]


def _whole(part: str) -> str:
    before, after = "", ""
    if re.match(r"\d", part):
        before = r"(?:(?<![\w.])|(?<=\dx))"
    elif re.match(r"\w", part):
        before = r"(?<!\w)"
    if re.search(r"\d\Z", part):
        after = r"(?:(?!\w|\.\d)|(?=x\d))"
    elif re.search(r"\w\Z", part):
        after = r"(?!\w)"
    return before + re.escape(part) + after
