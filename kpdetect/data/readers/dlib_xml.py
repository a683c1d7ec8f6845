"""Parses the XML of dlib's ``imglab``: images, their boxes and the boxes' parts, each with its line.

``<image file=…>`` contains ``<box top=… left=… width=… height=…>``, which contains ``<part name=… x=… y=…>``. The
stylesheet that dlib declares is not loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kpdetect.core.errors import KpdetectError
from kpdetect.data.readers.files import parse_xml


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
    images: list[Image] = []
    text: list[str] = []
    open_tags: list[str] = []

    def start(tag: str, attributes: dict[str, str], where: str) -> None:
        if not open_tags and tag != "dataset":
            raise KpdetectError(f"{where}: expected dlib's XML, which begins with <dataset>, received <{tag}>")
        outer = {"box": "image", "part": "box"}.get(tag)
        if outer is not None and open_tags[-1] != outer:
            raise KpdetectError(f"{where}: expected <{tag}> inside <{outer}>, received it in <{open_tags[-1]}>")
        element = Element(where, attributes)
        if tag == "image":
            images.append(Image(element))
        elif tag == "box":
            images[-1].boxes.append(Box(element))
        elif tag == "part":
            images[-1].boxes[-1].parts.append(element)
        open_tags.append(tag)

    def end(_tag: str) -> None:
        open_tags.pop()

    def characters(piece: str) -> None:
        if open_tags in (["dataset", "name"], ["dataset", "comment"]):
            text.append(piece if open_tags[-1] == "comment" else f"{piece} ")

    parse_xml(file, "dlib's XML", start, end, characters)
    return Document(" ".join("".join(text).split()), images)
