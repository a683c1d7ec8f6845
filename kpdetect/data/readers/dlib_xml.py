"""Parses the XML of dlib's ``imglab``: images, their boxes and the boxes' parts, each with its line.

``<image file=…>`` contains ``<box top=… left=… width=… height=…>``, which contains ``<part name=… x=… y=…>``.

Untrusted XML is safe to read: a document with a DOCTYPE is refused at that point. Only a DOCTYPE can declare entities,
so none can expand exponentially ("billion laughs") or name a file or an address. The stylesheet that dlib declares is
not loaded. The parser is Python's own expat with a handler that raises, and not defusedxml, because expat gives the
line of each element for error messages and needs no dependency.
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
        where: ``FILE:LINE`` of its start, for error messages.
        attributes: Its attributes as text.
    """

    where: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Box:
    """A box and its parts."""

    element: Element
    parts: list[Element] = field(default_factory=list)


@dataclass(frozen=True)
class Image:
    """An image and its boxes."""

    element: Element
    boxes: list[Box] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """The content of a file.

    Attributes:
        description: Name and comment of the data set.
        images: The images in order.
    """

    description: str
    images: list[Image]


def read_document(file: str) -> Document:
    """Reads a file. Unknown elements are ignored.

    Raises:
        KpdetectError: The file does not exist, is not dlib's XML, or has a DOCTYPE. The text names the line.
    """
    if not os.path.isfile(file):
        raise KpdetectError(f"{file}: expected an XML file of dlib's imglab, found nothing")
    builder = _Builder(file)
    try:
        with open(file, "rb") as stream:
            builder.parser.ParseFile(stream)
    except KpdetectError:
        raise
    except expat.ExpatError as error:
        problem = expat.ErrorString(error.code)
        raise KpdetectError(f"{file}:{error.lineno}: expected well-formed XML: {problem}") from error
    except (LookupError, ValueError) as error:  # an encoding that Python does not know or cannot use for XML
        raise KpdetectError(f"{file}:1: expected XML in UTF-8 or ISO-8859-1: {error}") from error
    except OSError as error:
        raise KpdetectError(f"{file}: expected a readable file: {error.strerror}") from error
    return Document(" ".join("".join(builder.text).split()), builder.images)


class _Builder:
    """Collects the elements that expat reports."""

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
            f"{self._where}: expected dlib's XML, received a DOCTYPE, which can declare entities that expand without "
            "limit or read other files; delete it if you trust the file"
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
