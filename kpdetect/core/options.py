"""Command lines: options declared as fields of a frozen dataclass, and user errors printed as one line."""

import argparse
import dataclasses
import inspect
import logging
import os
import shlex
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from kpdetect.core.atomic_write import DISK_FULL
from kpdetect.core.errors import Interrupted, KpdetectError
from kpdetect.core.log import show_messages
from kpdetect.core.text import printable

_LOG = logging.getLogger(__name__)

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

    Example:
        ``epochs: int = option(30, "number of epochs")`` becomes ``--epochs EPOCHS``.

    Args:
        default: The default value; ``dataclasses.MISSING`` makes the option required.
        help_text: Description for ``--help``, which appends the default.
        choices: The accepted values; empty accepts any.
        metavar: Name of the value in ``--help``.
        positional: Take the value by position and not by ``--name``. A field of type ``tuple[str, ...]`` takes several.
        words: For ``tuple[str, ...]``: ``--name`` takes several words, so that a value may contain commas.
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
    """Parses a command line into an options dataclass, and prints kpdetect's log messages from now on.

    The docstring of the dataclass is the command's description. Fields may be ``str``, ``int``, ``float``, ``bool``
    (a flag), one of these ``| None``, or ``tuple[str, ...]`` (comma-separated; several words if it is positional or
    declared with ``words``).

    Args:
        cls: A frozen dataclass whose fields were made by `option`.
        argv: The words after the command's name; None reads ``sys.argv``.
        command: The command's name, such as ``train``.
        example: One or more complete command lines for the end of ``--help``.

    Returns:
        An instance of `cls`. Invalid arguments end the process with status 2, as `argparse` does.
    """
    show_messages()
    parser = argparse.ArgumentParser(
        prog=f"kpdetect {command}",
        description=inspect.getdoc(cls),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        _add_argument(parser, field, hints[field.name])
    values = vars(parser.parse_args(argv))
    # argparse collects several words in a list; a frozen dataclass should contain a tuple.
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def command_line(options: Any, command: str) -> str:
    """Returns a command line that `parse_options` parses to these options. Defaults are left out.

    Args:
        options: An instance of an options dataclass whose fields were made by `option`.
        command: The command's name, such as ``train``.
    """
    words = ["kpdetect", command]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value != field.default:
            words += _option_words(field, value)
    return shlex.join(words)


def run_command(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    A `KpdetectError`, or an error of the system about a file, is printed to stderr as one line without a traceback.

    >>> run_command(lambda argv: 0, [])
    0

    Args:
        main: The command, from its words to its status.
        argv: The words after the command's name; None reads ``sys.argv``.

    Returns:
        The status of `main`; 2 for a `KpdetectError` or an error about a file, 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        return main(argv)
    except KpdetectError as error:
        print(f"kpdetect: {_printable_lines(error)}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in DISK_FULL and error.filename is None:
            raise
        place = "" if error.filename is None else f"{printable(str(error.filename))}: "
        advice = "cannot be written: {}. Free space and try again" if error.errno in DISK_FULL else "{}"
        print(f"kpdetect: {place}{advice.format(error.strerror)}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"kpdetect: {_printable_lines(stop)}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("kpdetect: interrupted", file=sys.stderr)
        return 130


def _printable_lines(error: BaseException) -> str:
    """A message whose lines are safe to print, whatever file names they contain."""
    return "\n".join(printable(line) for line in str(error).split("\n"))


@contextmanager
def quietly(step: str = "") -> Iterator[None]:
    """Logs `step`, if there is one, and suppresses what C++ libraries write to stderr in the block.

    If the block fails with anything but a `KpdetectError`, the suppressed output is printed.

    Example:
        ``with quietly("starting TensorFlow"): import tensorflow``
    """
    if step:
        _LOG.info(f"{step} …")
    sys.stderr.flush()
    stderr_copy = os.dup(2)
    with tempfile.TemporaryFile() as suppressed:
        os.dup2(suppressed.fileno(), 2)
        try:
            yield
        except KpdetectError:  # its message is complete
            raise
        except Exception:
            suppressed.seek(0)
            os.write(stderr_copy, suppressed.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr_copy, 2)
            os.close(stderr_copy)


def _add_argument(parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]", hint: Any) -> None:
    """Adds the `argparse` argument of one field."""
    meta = field.metadata
    base, several = _value_type(hint)
    settings: dict[str, Any] = {"help": _help_text(field, base)}
    if meta["choices"]:
        settings["choices"] = meta["choices"]
    if meta["metavar"]:
        settings["metavar"] = meta["metavar"]
    required = field.default is dataclasses.MISSING
    default = None if required else field.default
    flag = "--" + field.name.replace("_", "-")
    if meta["positional"]:
        if several or not required:
            settings["nargs"] = "?" if not several else "+" if required else "*"
        parser.add_argument(field.name, type=base, default=default, **settings)
    elif meta["words"]:
        parser.add_argument(flag, nargs="+", default=default, required=required, **settings)
    elif base is bool:
        settings.pop("metavar", None)
        parser.add_argument(flag, default=default, action=argparse.BooleanOptionalAction, **settings)
    else:
        convert = _comma_separated if several else base
        parser.add_argument(flag, type=convert, default=default, required=required, **settings)


def _help_text(field: "dataclasses.Field[Any]", base: type) -> str:
    text: str = field.metadata["help"].replace("%", "%%")  # argparse formats help texts
    default = field.default
    if default is dataclasses.MISSING or default is None or default in ("", ()) or base is bool:
        return text
    shown = ",".join(default) if isinstance(default, tuple) else default
    return f"{text} (default: {shown})"


def _option_words(field: "dataclasses.Field[Any]", value: Any) -> list[str]:
    """Returns the words of one option on a command line."""
    name = field.name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if not isinstance(value, tuple):
        several = [str(value)]
    else:
        several = list(value) if field.metadata["positional"] or field.metadata["words"] else [",".join(value)]
    return several if field.metadata["positional"] else [f"--{name}", *several]


def _value_type(hint: Any) -> tuple[type, bool]:
    """Returns the type of one value, and whether the field takes several."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return _value_type(inner[0])
    if origin is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
