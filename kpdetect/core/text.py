"""Text that is safe to print: file names with control characters or bytes that are not UTF-8."""

import unicodedata

_ESCAPED_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")  # control characters, undecoded bytes, line and paragraph separators
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    r"""Escapes what a terminal would act on, or an encoder would refuse.

    Control characters, changes of the writing direction, and bytes of a file name that are not UTF-8 (which Python
    decodes with ``surrogateescape``) become ``\x1b``, ``\u202e`` and the like. All other text is returned unchanged.

    Args:
        text: A file name, or one line of a message.

    Example:
        >>> print(printable("a\x1b[2Jb"), printable(b"caf\xe9.jpg".decode("utf-8", "surrogateescape")))
        a\x1b[2Jb caf\xe9.jpg
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def is_utf8(name: str) -> bool:
    r"""Whether a file name is UTF-8, so that it can be written to a text file or a table.

    Example:
        >>> is_utf8("café.jpg"), is_utf8("caf\udce9.jpg")
        (True, False)
    """
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _escaped(character: str) -> str:
    if character not in _DIRECTIONS and unicodedata.category(character) not in _ESCAPED_CATEGORIES:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"
