"""The place of a process among those that train together, and what a training needs from the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect.core.errors import KpdetectError
from kpdetect.core.keras_backend import JAX, running_backend
from kpdetect.data.pipeline import Share
from kpdetect.recipes import TrainOptions


@dataclass(frozen=True)
class Place:
    """The place of a process among those that train together.

    Attributes:
        number: Number of this process, from 0.
        count: Number of processes.
        address: ``HOST:PORT`` where process 0 listens; empty for a single process.

    Example:
        >>> str(Place(1, 2, "127.0.0.1:29500"))
        'process 1 of 2'
    """

    number: int = 0
    count: int = 1
    address: str = ""

    @property
    def first(self) -> bool:
        """Whether this is process 0, which listens, writes the run folder and prints."""
        return self.number == 0

    @property
    def share(self) -> Share:
        """The rows of each batch that this process computes."""
        return Share(self.number, self.count)

    def __str__(self) -> str:
        return f"process {self.number} of {self.count}"


ALONE = Place()


class Processes:
    """The processes that train together; this base class is for a single process.

    Args:
        place: The place of this process.
    """

    def __init__(self, place: Place = ALONE) -> None:
        self.place = place

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """Waits for the other processes and checks that they have the same settings.

        Args:
            settings: JSON-ready values by name.

        Raises:
            KpdetectError: Settings differ; the message names them.
        """

    def shared_file(self, file: Path | None) -> Path | None:
        """The path of a file of process 0. Other processes, which may have another disk, receive a copy.

        Args:
            file: The file; None if process 0 has none.
        """
        return file

    def agreed(self, stopped: Callable[[], int], steps_done: Callable[[], int]) -> Callable[[], int]:
        """A function that returns a signal in all processes after the same step, whichever process received it.

        Args:
            stopped: Returns the signal that this process received; 0 for none.
            steps_done: Returns the number of finished steps of the whole training.
        """
        return stopped


def place_of(options: TrainOptions) -> Place:
    """The place of this process, from ``--coordinator``, ``--num-processes`` and ``--process-id``.

    Raises:
        KpdetectError: Only some of the options are given, one is out of range, or Keras does not run on JAX.
    """
    count, number, address = options.num_processes, options.process_id, options.coordinator
    if count is None and number is None and address is None:
        return Place()
    if count is None or number is None or address is None:
        raise KpdetectError(
            "--coordinator HOST:PORT, --num-processes N and --process-id I must be given together; "
            f"received {address}, {count} and {number}"
        )
    if not 0 <= number < count:
        raise KpdetectError(f"--process-id: expected 0 to {count - 1} for --num-processes {count}, received {number}")
    if running_backend() != JAX:
        raise KpdetectError(
            f"--coordinator: several processes need JAX, and Keras runs on {running_backend()}: add --backend jax"
        )
    return Place(number, count, address)
