"""Owns what a process leaves to be said should it end without a word, as C++ code lets it."""

import subprocess
import sys

# It hears nothing more when the process is gone, however that ended; the last line holds.
SPEAKER = "import sys; said = sys.stdin.read().splitlines(); said and print(said[-1], file=sys.stderr)"


class LastWords:
    """A child process that tells on stderr what became of this one, unless it is sent away before.

    JAX ends a process from a thread of its own, by a call to abort, when the process that all others hang on is gone.
    Python learns nothing of that.
    """

    def __init__(self) -> None:
        # In a session of its own: Ctrl-C in a terminal is sent to all processes of the session, and it must outlive.
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", SPEAKER], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def leave(self, text: str) -> None:
        """Leaves a line in place of the last one."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{text}\n")
        self._child.stdin.flush()

    def take_back(self) -> None:
        """Nothing is to be said any more."""
        self._child.kill()
        self._child.communicate()
