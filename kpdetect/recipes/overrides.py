"""Parses settings such as ``augmentation.scale=0.3`` and sets them in nested dataclasses."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from kpdetect.core.errors import KpdetectError, unknown_name

Struct = TypeVar("Struct")

WORDS = {"true": True, "false": False, "none": None}


def split_word(word: str) -> tuple[str, str]:
    """Splits ``NAME=VALUE``; hyphens in the name become underscores.

    >>> split_word("learning-rate=1e-3")
    ('learning_rate', '1e-3')

    Raises:
        KpdetectError: The word has another form.
    """
    name, equals, value = word.partition("=")
    if not (name and equals and value):
        raise KpdetectError(f"expected NAME=VALUE, such as augmentation.scale=0.3, received '{word}'")
    return name.strip().replace("-", "_"), value.strip()


def changed(struct: Struct, path: str, text: str) -> Struct:
    """A copy of a frozen dataclass with one field changed.

    Args:
        struct: An instance; its fields may be dataclasses and mappings.
        path: The field's name, with a dot for nested fields: ``augmentation.scale``.
        text: The value as text; see `read_value`. Values of mappings are parsed by their form.

    Raises:
        KpdetectError: The field does not exist (the message suggests the nearest name), or the value has another type.

    Example:
        >>> from kpdetect.recipes.recipe import Augmentation
        >>> changed(Augmentation(), "scale", "0.3").scale
        0.3
    """
    head, _, rest = path.partition(".")
    hints = typing.get_type_hints(type(struct))
    if head not in hints:
        raise unknown_name(f"setting of the {type(struct).__name__.lower()}", head, hints)
    current: Any = getattr(struct, head)
    value: Any
    if isinstance(current, Mapping) and rest:
        value = {**current, rest: read_value(path, text, Any)}
    elif dataclasses.is_dataclass(current) and rest:
        value = changed(current, rest, text)
    elif rest or isinstance(current, Mapping) or dataclasses.is_dataclass(current):
        raise KpdetectError(f"{path}={text}: {_inside(head, current)}")
    else:
        value = read_value(path, text, hints[head])
    return dataclasses.replace(struct, **{head: value})  # type: ignore[type-var]  # it has fields, so it is one


def read_value(name: str, text: str, hint: Any) -> Any:
    """Parses a value as the declared type of its field.

    Accepts ``true``, ``false`` and ``none`` for types that have them, and sequences separated by colons.

    >>> read_value("blocks", "1:2:4", tuple[int, ...])
    (1, 2, 4)

    Raises:
        KpdetectError: The value has another type, or is not finite.
    """
    arms = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for arm in arms:
        try:
            return _read_as(text, arm)
        except ValueError:
            continue
    expected = " or ".join("none" if arm is type(None) else getattr(arm, "__name__", str(arm)) for arm in arms)
    raise KpdetectError(f"{name}: expected {expected}, received '{text}'")


def plain_text(text: str) -> str:
    """The canonical text of a value, so that equal values have equal texts.

    >>> plain_text("1e-3"), plain_text("+16"), plain_text("wing")
    ('0.001', '16', 'wing')
    """
    value = _guess(text)
    return text if isinstance(value, str | bool | tuple) or value is None else str(value)


def _read_as(text: str, kind: Any) -> Any:
    """Parses a text as one type; raises ValueError if it is of another form."""
    origin = typing.get_origin(kind) or kind
    if kind is Any:
        return _guess(text)
    if origin in (bool, type(None)):
        word = WORDS.get(text.lower(), text)
        if not isinstance(word, origin):
            raise ValueError(text)
        return word
    if origin is str:
        return text
    if origin in (int, float):
        return _finite(origin(text))
    if origin is tuple and typing.get_args(kind)[:1] == (str,):
        return tuple(part for part in text.split(":") if part)
    parts = tuple(_guess(part) for part in text.split(":"))
    if any(isinstance(part, str) for part in parts):
        raise ValueError(text)
    return parts


def _guess(text: str) -> Any:
    """Parses a text by its form: sequence, true, false, none, number, or else text."""
    if ":" in text and not isinstance(_guess(text.split(":")[0]), str):
        return tuple(_guess(part) for part in text.split(":"))
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return _finite(kind(text))
        except ValueError:
            continue
    return text


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(number)
    return number


def _inside(name: str, held: Any) -> str:
    if dataclasses.is_dataclass(held):
        return f"'{name}' has several settings: " + ", ".join(
            f"{name}.{field.name}" for field in dataclasses.fields(held)
        )
    if isinstance(held, Mapping):
        return f"'{name}' has the options of the architecture: use {name}.NAME"
    return f"'{name}' is a single value without nested settings"
