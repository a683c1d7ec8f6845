"""The place of a process among those that train together, and what a training needs from the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpdetect.data.pipeline import Share


@dataclass(frozen=True)
class Place:
    """The place of a process among those that train together.

    Attributes:
        number: Number of this process, from 0; the rank.
        count: Number of processes.

    Example:
        >>> str(Place(1, 2))
        'process 1 of 2'
    """

    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is process 0, which writes the run folder and prints."""
        return self.number == 0

    @property
    def share(self) -> "Share":
        """The rows of each batch that this process computes."""
        from kpdetect.data.pipeline import Share  # TensorFlow, which the command does without

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

    def run_started(self) -> None:
        """Process 0 has written the settings of the run: if the workers are restarted, they resume it."""

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
        """A function that returns a signal in all processes after the same step.

        Args:
            stopped: Returns the signal that this process received; 0 for none.
            steps_done: Returns the number of finished steps of the whole training.
        """
        return stopped
