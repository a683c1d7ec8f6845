"""Owns the exceptions that stand for a user's mistake: commands print them as one line and end non-zero."""

import difflib
from collections.abc import Iterable, Sequence


class KpdetectError(ValueError):
    """Something the user can put right; its text says what, where, expected, received and the way out."""


class DataError(KpdetectError):
    """Problems found in labelled data, all of them at once.

    Args:
        problems: One line per problem, each with file and row: ``faces.csv:412: expected …, received …``.
    """

    SHOWN = 20  # enough to see a pattern; the count tells the rest

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = list(self.problems[: self.SHOWN])
        if len(self.problems) > self.SHOWN:
            shown.append(f"… and {len(self.problems) - self.SHOWN} more problems")
        if len(self.problems) > 1:
            shown.append(f"{len(self.problems)} problems in all; --skip-bad-rows goes on without those rows")
        super().__init__("\n".join(shown))


class MissingExtra(KpdetectError):
    """An optional package is not installed.

    Args:
        package: The package that could not be imported, such as ``tensorflow``.
        extra: The extra of kpdetect that brings it, such as ``train``.
        needed_for: What the user was trying to do.
    """

    def __init__(self, package: str, extra: str, needed_for: str) -> None:
        super().__init__(f'{needed_for} needs {package}: pip install "kpdetect[{extra}]"')


class Interrupted(KeyboardInterrupt):
    """A command was asked to stop, and has saved what it had.

    Args:
        message: How far it came and how it goes on.
        signal_number: Who asked: 2 for Ctrl-C, 15 for SIGTERM.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.status = 128 + signal_number  # as a shell tells it


def unknown_name(kind: str, name: str, known: Iterable[str]) -> KpdetectError:
    """An error for a name that does not exist, which names the nearest one that does.

    >>> str(unknown_name("recipe", "compct", ["compact", "naimish"]))
    "no recipe 'compct': did you mean 'compact'? There are: compact, naimish"
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return KpdetectError(f"no {kind} '{name}': {hint}There are: {', '.join(names)}")
