"""Child process that prints a message if this process aborts."""

import subprocess
import sys

# Its stdin ends when this process is gone; it prints the last line that it received.
CHILD = "import sys; lines = sys.stdin.read().splitlines(); lines and print(lines[-1], file=sys.stderr)"


class AbortMessage:
    """A child process that prints a message to stderr when this process ends, unless it is cancelled before.

    JAX aborts a process from a C++ thread when the coordinating process is gone, and Python cannot handle that.
    """

    def __init__(self) -> None:
        # In a session of its own: Ctrl-C in a terminal is sent to all processes of the session.
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", CHILD], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def set(self, text: str) -> None:
        """Replaces the message."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{text}\n")
        self._child.stdin.flush()

    def cancel(self) -> None:
        """Ends the child process without a message."""
        self._child.kill()
        self._child.communicate()
