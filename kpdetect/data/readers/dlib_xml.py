"""Owns dlib's XML layout: photographs, the boxes in them and the boxes' parts, each with its line. It knows no scheme.

The layout is that of dlib's ``imglab``: ``<image file=…>`` holds ``<box top=… left=… width=… height=…>``, which holds
``<part name=… x=… y=…>``.

XML of strangers is read safely: a document with a DOCTYPE is refused before anything in it is read. Entities can be
declared there alone, so that none can expand without end ("billion laughs") and none can name a file or an address. The
stylesheet line that dlib writes is never followed. This is Python's own expat with a handler that says no, and not
defusedxml: expat tells the line of each element, which a message about a bad box needs, and it is no dependency.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from kpdetect.core.errors import KpdetectError


@dataclass(frozen=True)
class Element:
    """An element without its content.

    Attributes:
        where: File and line of its start, as errors name it.
        attributes: Its attributes as they stand.
    """

    where: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Box:
    """A box and the parts in it."""

    element: Element
    parts: list[Element] = field(default_factory=list)


@dataclass(frozen=True)
class Image:
    """A photograph and the boxes in it."""

    element: Element
    boxes: list[Box] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """What a file holds.

    Attributes:
        description: Its name and its comment.
        images: Its photographs in order.
    """

    description: str
    images: list[Image]


def read_document(file: str) -> Document:
    """Reads a file; elements that this layout does not have are passed over.

    Raises:
        KpdetectError: The file is not there, is no such XML, or has a DOCTYPE; the text names the line.
    """
    if not os.path.isfile(file):
        raise KpdetectError(f"{file}: expected an XML file of dlib's layout, found nothing")
    builder = _Builder(file)
    try:
        with open(file, "rb") as stream:
            builder.parser.ParseFile(stream)
    except KpdetectError:
        raise
    except expat.ExpatError as error:
        problem = expat.ErrorString(error.code)
        raise KpdetectError(f"{file}:{error.lineno}: expected well-formed XML: {problem}") from error
    except (LookupError, ValueError) as error:  # an encoding that Python does not know, or cannot use for XML
        raise KpdetectError(f"{file}:1: expected XML in UTF-8 or ISO-8859-1: {error}") from error
    except OSError as error:
        raise KpdetectError(f"{file}: expected a readable file: {error.strerror}") from error
    return Document(" ".join("".join(builder.text).split()), builder.images)


class _Builder:
    """Keeps what expat comes across."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.images: list[Image] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    @property
    def _where(self) -> str:
        return f"{self.file}:{self.parser.CurrentLineNumber}"

    def _refuse(self, *_declaration: object) -> None:
        raise KpdetectError(
            f"{self._where}: expected dlib's XML, received a DOCTYPE; it can declare entities that expand without end "
            "or read other files, so it is refused: delete it if you trust the rest"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.open and tag != "dataset":
            raise KpdetectError(f"{self._where}: expected dlib's XML, which begins with <dataset>, received <{tag}>")
        element = Element(self._where, attributes)
        if tag == "image":
            self.images.append(Image(element))
        elif tag == "box":
            self._check_inside("image", tag)
            self.images[-1].boxes.append(Box(element))
        elif tag == "part":
            self._check_inside("box", tag)
            self.images[-1].boxes[-1].parts.append(element)
        self.open.append(tag)

    def _check_inside(self, outer: str, tag: str) -> None:
        if self.open[-1] != outer:
            raise KpdetectError(f"{self._where}: expected <{tag}> inside <{outer}>, received it in <{self.open[-1]}>")

    def _end(self, _tag: str) -> None:
        self.open.pop()

    def _characters(self, text: str) -> None:
        if self.open in (["dataset", "name"], ["dataset", "comment"]):
            self.text.append(text if self.open[-1] == "comment" else f"{text} ")
