"""Owns what every command shares: options declared once as a frozen dataclass, and errors as one line."""

import argparse
import dataclasses
import inspect
import os
import shlex
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from kpdetect.core.errors import Interrupted, KpdetectError

Options = TypeVar("Options")


def option(
    default: Any,
    help_text: str,
    choices: Sequence[str] = (),
    metavar: str = "",
    positional: bool = False,
    words: bool = False,
) -> Any:
    """Declares a field of a command's options dataclass.

    Args:
        default: The default; ``dataclasses.MISSING`` makes the option required.
        help_text: What it means; the page of ``--help`` adds the default.
        choices: The words that are accepted.
        metavar: How the value is called in ``--help``.
        positional: TransferredLayers by place and not by ``--name``. A field of type ``tuple[str, ...]`` takes several.
        words: For ``tuple[str, ...]``: ``--name`` takes several words, so that each may hold commas.
    """
    metadata = {
        "help": help_text,
        "choices": tuple(choices),
        "metavar": metavar,
        "positional": positional,
        "words": words,
    }
    return dataclasses.field(default=default, metadata=metadata)


def parse_options(cls: type[Options], argv: Sequence[str] | None, command: str, example: str) -> Options:
    """Reads a command line into an options dataclass.

    Its docstring is the command's description. Fields may be ``str``, ``int``, ``float``, ``bool`` (a flag),
    one of these ``| None``, or ``tuple[str, ...]`` (comma-separated; by place, or with ``words``: several words).

    Args:
        cls: A frozen dataclass whose fields were made by `option`.
        argv: The words after the command's name; None takes the process's.
        command: The command's name, such as ``train``.
        example: One or more lines that run, shown at the end of ``--help``.
    """
    parser = argparse.ArgumentParser(
        prog=f"kpdetect {command}",
        description=inspect.getdoc(cls),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        _add(parser, field, hints[field.name])
    values = vars(parser.parse_args(argv))
    # argparse gathers several words in a list, which a frozen dataclass should not hold.
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def command_line(options: Any, command: str) -> str:
    """The command that gives these options: what `parse_options` reads back to the same, without the defaults.

    Args:
        options: An options dataclass, its fields made by `option`.
        command: The command's name, such as ``train``.
    """
    words = ["kpdetect", command]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            words += _words(field, value)
    return shlex.join(words)


def run_command(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Runs a command: a user's mistake becomes one line on stderr and status 2, Ctrl-C 130, SIGTERM once saved 143."""
    try:
        return main(argv)
    except KpdetectError as error:
        print(f"kpdetect: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"kpdetect: {stop}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("kpdetect: interrupted", file=sys.stderr)
        return 130


@contextmanager
def quietly(step: str) -> Iterator[None]:
    """Says what is being done, and holds back what C++ libraries print meanwhile; if it fails, all of it is shown."""
    print(f"kpdetect: {step}", file=sys.stderr, flush=True)
    visible = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except KpdetectError:  # a user's mistake is told in its own line
            raise
        except Exception:
            held.seek(0)
            os.write(visible, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(visible, 2)
            os.close(visible)


def _add(parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]", hint: Any) -> None:
    meta = field.metadata
    base, several = _value_type(hint)
    settings: dict[str, Any] = {"help": _help(field, base)}
    if meta["choices"]:
        settings["choices"] = meta["choices"]
    if meta["metavar"]:
        settings["metavar"] = meta["metavar"]
    required = field.default is dataclasses.MISSING
    default = None if required else field.default
    flag = "--" + field.name.replace("_", "-")
    if meta["positional"]:
        if several or not required:
            settings["nargs"] = {(True, True): "+", (True, False): "*", (False, False): "?"}[several, required]
        parser.add_argument(field.name, type=base, default=default, **settings)
    elif meta["words"]:
        parser.add_argument(flag, nargs="+", default=default, required=required, **settings)
    elif base is bool:
        settings.pop("metavar", None)
        parser.add_argument(flag, default=default, action=argparse.BooleanOptionalAction, **settings)
    else:
        convert = _comma_separated if several else base
        parser.add_argument(flag, type=convert, default=default, required=required, **settings)


def _help(field: "dataclasses.Field[Any]", base: type) -> str:
    text: str = field.metadata["help"].replace("%", "%%")  # argparse formats help texts
    default = field.default
    if default is dataclasses.MISSING or default is None or default in ("", ()) or base is bool:
        return text
    shown = ",".join(default) if isinstance(default, tuple) else default
    return f"{text} (default: {shown})"


def _words(field: "dataclasses.Field[Any]", value: Any) -> list[str]:
    """One option as it is written."""
    name = field.name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if not isinstance(value, tuple):
        several = [str(value)]
    else:
        several = list(value) if field.metadata["positional"] or field.metadata["words"] else [",".join(value)]
    return several if field.metadata["positional"] else [f"--{name}", *several]


def _value_type(hint: Any) -> tuple[type, bool]:
    """The type of one value, and whether the field takes several."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return _value_type(inner[0])
    if origin is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
