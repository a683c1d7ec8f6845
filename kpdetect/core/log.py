"""The messages of kpdetect: loggers below ``kpdetect``, and the handler with which its commands print them.

Modules log with ``logging.getLogger(__name__)``. A program that uses kpdetect decides what happens to the messages; by
default Python prints warnings to stderr. Commands call `show_messages`.
"""

import logging
import sys

from kpdetect.core.text import printable

NAME = "kpdetect"
PROGRESS = "kpdetect.core.progress"


class StderrHandler(logging.Handler):
    """Prints messages, with ``kpdetect:`` before them, to the stderr of the moment, which tests and tools replace.

    Example:
        ``logging.getLogger("kpdetect").addHandler(StderrHandler())``
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message; file names in it are safe to print."""
        try:
            mark = f"{NAME}: warning: " if record.levelno >= logging.WARNING else f"{NAME}: "
            if record.name == PROGRESS:  # its lines begin with what is done
                mark = ""
            text = "\n".join(printable(line) for line in self.format(record).split("\n"))
            print(f"{mark}{text}", file=sys.stderr, flush=True)
        except Exception:  # as in logging's own handlers: a message never ends a program
            self.handleError(record)


def enable_loggers() -> None:
    """Enables the loggers of kpdetect that a library disabled with ``logging.config.fileConfig``.

    Example:
        >>> enable_loggers()
    """
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and (name == NAME or name.startswith(f"{NAME}.")):
            logger.disabled = False


def show_messages(level: int = logging.INFO) -> None:
    """Prints kpdetect's messages to stderr, as its commands do. Further calls only change the level.

    Args:
        level: The lowest level that is shown, such as ``logging.WARNING``.

    Example:
        >>> show_messages()
    """
    enable_loggers()
    logger = logging.getLogger(NAME)
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        logger.addHandler(StderrHandler())
    logger.propagate = False  # libraries such as TensorFlow add a handler to the root logger, which would repeat them
    logger.setLevel(level)
