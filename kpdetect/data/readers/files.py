"""Reads the files of other tools safely: JSON, YAML and XML with errors that name the file, and images beside them."""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.parsers import expat

from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.data.readers.rows import LARGEST_COORDINATE, BadRow

MAX_YAML_BYTES = 1 << 20  # a description of a data set has a few kilobytes


def read_json(file: str, what: str) -> Any:
    """Returns the document in a JSON file.

    Args:
        file: The file.
        what: What it should contain, such as ``COCO keypoints``, for error messages.

    Raises:
        KpdetectError: The file does not exist or is not JSON; the text names the line.
    """
    if not os.path.isfile(file):
        found = "a folder" if os.path.isdir(file) else "nothing"
        raise KpdetectError(f"{file}: expected a JSON file of {what}, found {found}")
    try:
        with open(file, encoding="utf-8-sig") as stream:
            return json.load(stream)
    except json.JSONDecodeError as error:
        raise KpdetectError(f"{file}:{error.lineno}: expected JSON of {what}: {error.msg}") from error
    except (ValueError, RecursionError, OSError) as error:  # no UTF-8, a number of thousands of digits, nesting
        raise KpdetectError(f"{file}: expected JSON of {what}: {str(error)[:200]}") from error


def read_yaml(file: str, what: str) -> Any:
    """Returns the document in a YAML file; only plain values are constructed.

    Raises:
        KpdetectError: The file does not exist, is too large or is not YAML.
        MissingExtra: PyYAML is not installed.
    """
    if not os.path.isfile(file):
        raise KpdetectError(f"{file}: expected a YAML file of {what}, found nothing")
    if os.path.getsize(file) > MAX_YAML_BYTES:
        raise KpdetectError(f"{file}: expected a YAML file of {what} of at most 1 MB")
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("PyYAML", "train", f"reading {what}") from error
    try:
        with open(file, encoding="utf-8-sig") as stream:
            return yaml.safe_load(stream)
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise KpdetectError(f"{file}: expected YAML of {what}: {' '.join(str(error).split())[:300]}") from error


def parse_xml(
    file: str,
    what: str,
    on_start: Callable[[str, dict[str, str], str], None],
    on_end: Callable[[str], None],
    on_text: Callable[[str], None] | None = None,
) -> None:
    """Parses an XML file and calls functions for its elements, as `xml.parsers.expat` does.

    Untrusted XML is safe to read: a document with a DOCTYPE is refused at that point. Only a DOCTYPE can declare
    entities, so none can expand exponentially ("billion laughs") or name a file or an address.

    Args:
        file: The file.
        what: What it should contain, for error messages.
        on_start: Called with the tag, the attributes and ``FILE:LINE`` of each element.
        on_end: Called with the tag at the end of each element.
        on_text: Called with the text between elements.

    Raises:
        KpdetectError: The file does not exist, is not well-formed XML or has a DOCTYPE; the text names the line.
    """
    if not os.path.isfile(file):
        raise KpdetectError(f"{file}: expected an XML file of {what}, found nothing")
    parser = expat.ParserCreate()

    def where() -> str:
        return f"{file}:{parser.CurrentLineNumber}"

    def refuse(*_declaration: object) -> None:
        raise KpdetectError(
            f"{where()}: expected {what}, received a DOCTYPE, which can declare entities that expand without "
            "limit or read other files; delete it if you trust the file"
        )

    def start(tag: str, attributes: dict[str, str]) -> None:
        on_start(tag, attributes, where())

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = on_end
    if on_text is not None:
        parser.CharacterDataHandler = on_text
    try:
        with open(file, "rb") as stream:
            parser.ParseFile(stream)
    except KpdetectError:
        raise
    except expat.ExpatError as error:
        problem = expat.ErrorString(error.code)
        raise KpdetectError(f"{file}:{error.lineno}: expected well-formed XML: {problem}") from error
    except (LookupError, ValueError) as error:  # an encoding that Python does not know or cannot use for XML
        raise KpdetectError(f"{file}:1: expected XML in UTF-8 or ISO-8859-1: {error}") from error
    except OSError as error:
        raise KpdetectError(f"{file}: expected a readable file: {error.strerror}") from error


_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(?=.)")


def find_image(name: Any, folders: Sequence[str]) -> str:
    """Returns the image of a name that a label file states, in the first folder that contains it.

    An image that lies elsewhere is found by its file name, also without the prefix of an upload to Label Studio.

    Args:
        name: The stated path, relative or absolute; backslashes are read as slashes.
        folders: The folders to look in.

    Raises:
        BadRow: None of them contains it.
    """
    if not isinstance(name, str) or not name:
        raise BadRow(f"expected the path of an image, received {str(name)[:40]!r}")
    base = os.path.basename(name.replace("\\", "/"))
    places = [name, name.replace("\\", "/"), base, _UPLOAD_PREFIX.sub("", base, count=1)]
    for place in dict.fromkeys(places):
        for folder in folders:
            path = os.path.normpath(os.path.join(folder, place))
            if "\0" not in path and os.path.isfile(path):
                return path
    raise BadRow(f"expected the image {os.path.join(folders[0], name)[:300]}, found nothing there")


def finite(value: Any, name: str) -> float:
    """Returns a JSON number.

    Raises:
        BadRow: It is no finite number, or exceeds `LARGEST_COORDINATE`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadRow(f"expected a number as {name}, received {str(value)[:40]!r}")
    if not math.isfinite(value) or abs(value) > LARGEST_COORDINATE:
        raise BadRow(f"expected a finite number as {name}, received {str(value)[:40]}")
    return float(value)


def members(document: Any, key: str, where: str) -> list[Mapping[str, Any]]:
    """Returns the objects in a list of a JSON document.

    Raises:
        KpdetectError: There is no such list of objects.
    """
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise KpdetectError(f"{where}: expected a list of objects '{key}', received {type(found).__name__}")
    return found
