"""Extension of mkdocstrings: doctests in docstrings become blocks of code on the site."""

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"(?:^>>> .*\n?)(?:^(?!$).*\n?)*", re.MULTILINE)
"""A line with a prompt, and all lines up to the next empty one, at the margin of the docstring."""


class FencedDoctests(griffe.Extension):
    """Fences doctests outside of a section; those in an ``Examples`` section are code already."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Changes the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    return f"```pycon\n{match.group().rstrip()}\n```\n"
