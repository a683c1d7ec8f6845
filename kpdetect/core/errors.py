"""Exceptions for errors that the user can fix. Commands print them as one line and exit with a non-zero status."""

import difflib
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from pathlib import Path


class KpdetectError(ValueError):
    """Base class of the errors that a user can fix.

    The message says what is wrong, where, what was expected and received, and how to fix it.

    >>> raise KpdetectError("faces.csv:3: expected 4 coordinates, received 3")
    Traceback (most recent call last):
    kpdetect.core.errors.KpdetectError: faces.csv:3: expected 4 coordinates, received 3
    """


class DataError(KpdetectError):
    """All problems found in a set of labelled faces.

    >>> DataError(["faces.csv:3: expected 4 coordinates, received 3"]).problems
    ('faces.csv:3: expected 4 coordinates, received 3',)

    Args:
        problems: One line per problem, each with its file and line: ``faces.csv:412: expected …, received …``.

    Attributes:
        problems: All of them; the message shows the first `SHOWN` and counts the rest.
    """

    SHOWN = 20  # enough to see a pattern

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = list(self.problems[: self.SHOWN])
        if len(self.problems) > self.SHOWN:
            shown.append(f"… and {len(self.problems) - self.SHOWN} more problems")
        if len(self.problems) > 1:
            shown.append(f"{len(self.problems)} problems in all; --skip-bad-rows leaves out those rows")
        super().__init__("\n".join(shown))


class MissingExtra(KpdetectError):
    """An optional package is not installed; the message has the pip command for this clone or installation.

    >>> str(MissingExtra("TensorFlow", "train", "training")).startswith("training needs TensorFlow: pip install ")
    True

    Args:
        package: Name of the missing package.
        extra: The extra of kpdetect that installs it, such as ``train``.
        needed_for: What the user tried to do.
    """

    def __init__(self, package: str, extra: str, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs {package}: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Returns the pip command that adds an extra to this kpdetect.

    Args:
        extra: Name of the extra, such as ``train``.

    Returns:
        A command with the path of the clone that kpdetect runs from, or with the address it was installed from.

    Example:
        >>> install_command("train").startswith("pip install ")
        True
    """
    clone = Path(__file__).resolve().parents[2]
    if (clone / "pyproject.toml").is_file() and (clone / "setup.py").is_file():
        place = "." if clone == Path.cwd() else str(clone)
        return f'pip install "{place}[{extra}]"'
    try:
        record = json.loads(importlib.metadata.distribution("kpdetect").read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        record = {}
    address = record.get("url")
    if not address:
        return f'pip install "kpdetect[{extra}]"'
    vcs = record.get("vcs_info", {})
    version = f"@{vcs['commit_id']}" if "commit_id" in vcs else ""
    scheme = f"{vcs['vcs']}+" if "vcs" in vcs else ""
    return f'pip install "kpdetect[{extra}] @ {scheme}{address}{version}"'


class Interrupted(KeyboardInterrupt):
    """A command was stopped by a signal after it saved its state.

    Args:
        message: What was saved and how to continue.
        signal_number: 2 for SIGINT (Ctrl-C), 15 for SIGTERM.

    Attributes:
        status: Exit status of the command, ``128 + signal_number`` as in a shell.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.status = 128 + signal_number


def unknown_name(kind: str, name: str, known: Iterable[str]) -> KpdetectError:
    """Returns an error for an unknown name that suggests the most similar known name.

    >>> str(unknown_name("recipe", "compct", ["compact", "naimish"]))
    "no recipe 'compct': did you mean 'compact'? There are: compact, naimish"

    Args:
        kind: What the name stands for, such as ``recipe``.
        name: The unknown name.
        known: All valid names; the message lists them in alphabetical order.
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return KpdetectError(f"no {kind} '{name}': {hint}There are: {', '.join(names)}")
