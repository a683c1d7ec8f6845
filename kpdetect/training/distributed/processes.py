"""Owns what a training needs of the processes that share it: which one this is, and what they agree on."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect.core.errors import KpdetectError
from kpdetect.core.keras_backend import JAX, running_backend
from kpdetect.data.pipeline import Share
from kpdetect.recipes import TrainOptions


@dataclass(frozen=True)
class Place:
    """Which of the processes that train together this one is.

    Attributes:
        number: From 0.
        count: How many there are.
        address: Where the first one listens, as HOST:PORT; empty for one that trains alone.
    """

    number: int = 0
    count: int = 1
    address: str = ""

    @property
    def first(self) -> bool:
        """Whether it is the one that listens, writes the run folder and tells of the training."""
        return self.number == 0

    @property
    def share(self) -> Share:
        """Which rows of each batch it makes."""
        return Share(self.number, self.count)

    def __str__(self) -> str:
        return f"process {self.number} of {self.count}"


ALONE = Place()


class Processes:
    """The processes that train together; as it stands, a process that trains alone and agrees with itself.

    Args:
        place: Which of them this is.
    """

    def __init__(self, place: Place = ALONE) -> None:
        self.place = place

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """Waits for the others, and makes sure that they train with the same settings.

        Args:
            settings: What JSON can say, by name.

        Raises:
            KpdetectError: They do not; what differs is named.
        """

    def shared_file(self, file: Path | None) -> Path | None:
        """A file of the first process: in the others a copy, for they may not see its disk; None where it has none."""
        return file

    def agreed(self, stopped: Callable[[], int], steps_done: Callable[[], int]) -> Callable[[], int]:
        """Makes of the signal that came to one process one that all of them act on after the same step.

        Args:
            stopped: Tells which signal came to this process; 0 for none.
            steps_done: How many steps of the whole training are done when it is asked.
        """
        return stopped


@contextlib.contextmanager
def joined(options: TrainOptions) -> Iterator[Processes]:
    """Meets the processes that the options name, and parts from them when the block ends.

    Within the block all but the first are quiet; and should one of them be gone, the others end.

    Raises:
        KpdetectError: The options do not go together, the processes do not meet, or one of them is gone.
    """
    place = place_of(options)
    if place.count == 1:
        yield Processes(place)
        return
    from kpdetect.training.distributed.together import trained_together  # JAX is an extra

    with contextlib.ExitStack() as stack:
        together = stack.enter_context(trained_together(place))
        if not place.first:
            silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stderr(silence))
            stack.enter_context(contextlib.redirect_stdout(silence))
        yield together


def place_of(options: TrainOptions) -> Place:
    """Which process the options make of this one.

    Raises:
        KpdetectError: They do not go together, or Keras does not run on JAX.
    """
    count, number, address = options.num_processes, options.process_id, options.coordinator
    if count is None and number is None and address is None:
        return Place()
    if count is None or number is None or address is None:
        raise KpdetectError(
            "--coordinator, --num-processes and --process-id go together: where process 0 listens, how many processes "
            f"there are, and which one this is; received {address}, {count} and {number}"
        )
    if not 0 <= number < count:
        raise KpdetectError(f"--process-id: expected 0 to {count - 1} for --num-processes {count}, received {number}")
    if running_backend() != JAX:
        raise KpdetectError(
            f"--coordinator: several processes train on JAX alone, and Keras runs on {running_backend()}: "
            "add --backend jax"
        )
    return Place(number, count, address)
