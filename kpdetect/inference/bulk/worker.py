"""Owns one part's way through the model: decoded, marked in batches, written; what is bad is noted and gone past."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels, cv2
from kpdetect.inference.bulk.folder import LabelFolder
from kpdetect.inference.bulk.sources import Encoded, Part
from kpdetect.inference.bulk.tables import Bad, Counts, Labelled, errors_table, faces_table
from kpdetect.inference.predictor import Predictor

FAULTS = (KpdetectError, cv2.error)
"""What stands for a photograph that is bad; anything else is a fault of ours, which ends the run."""


@dataclass(frozen=True)
class Look:
    """How faces are looked for: what changes the labels.

    Attributes:
        model: See `Predictor`; None for the model that ships.
        detector: See `Predictor`.
        mirror: See `Predictor`.
        min_score: See `Predictor`.
        max_megapixels: Photographs of more are bad.
    """

    model: str | None
    detector: str | None
    mirror: bool
    min_score: float
    max_megapixels: float

    def predictor(self) -> Predictor:
        """A predictor that looks so.

        Raises:
            KpdetectError: An option is wrong, or a file is none.
        """
        return Predictor(self.model, self.detector, mirror=self.mirror, min_score=self.min_score)


@dataclass(frozen=True)
class Job:
    """What each worker is to know.

    Attributes:
        look: How faces are looked for.
        folder: Where the labels go.
        batch_size: How many photographs are marked at once.
    """

    look: Look
    folder: LabelFolder
    batch_size: int


@dataclass(frozen=True)
class Outcome:
    """How a part ended.

    Attributes:
        number: Which part.
        counts: What it came to; None where it failed.
        problem: Why it failed.
    """

    number: int
    counts: Counts | None
    problem: str = ""


LabelParts = Callable[[Sequence[tuple[int, Part]], Job, int], Iterator[Outcome]]
"""Numbers and parts, what each worker is to know, and how many workers, to the outcomes as they come."""


class Labeller:
    """Labels parts; the model is loaded once.

    Args:
        job: How, and where to.

    Raises:
        KpdetectError: The model or the detector cannot be loaded.
    """

    def __init__(self, job: Job) -> None:
        self._predictor = job.look.predictor()
        self._max_pixels = int(job.look.max_megapixels * 1e6)
        self._job = job

    def label(self, number: int, part: Part) -> Outcome:
        """Labels a part and writes its tables.

        A part whose Parquet table is damaged, or whose tables cannot be written, has failed.
        """
        try:
            return Outcome(number, self._written(number, part))
        except KpdetectError as error:
            return Outcome(number, None, str(error))

    def _written(self, number: int, part: Part) -> Counts:
        labelled: list[Labelled] = []
        bad: list[Bad] = []
        photographs = part.photographs()
        while batch := list(islice(photographs, self._job.batch_size)):
            labelled += self._marked(self._decoded(batch, bad), bad)
        counts = Counts(len(labelled) + len(bad), sum(len(one.faces) for one in labelled), len(bad))
        faces = faces_table(labelled, self._predictor.model.spec.schema)
        self._job.folder.write_part(number, faces, errors_table(bad), counts)
        return counts

    def _decoded(self, batch: Sequence[Encoded], bad: list[Bad]) -> list[tuple[str, Pixels]]:
        """The photographs that can be decoded; the others go to `bad`."""
        good = []
        for photograph in batch:
            try:
                good.append((photograph.name, photograph.read(max_pixels=self._max_pixels)))
            except FAULTS as error:
                bad.append(Bad(photograph.name, str(error)))
        return good

    def _marked(self, good: Sequence[tuple[str, Pixels]], bad: list[Bad]) -> list[Labelled]:
        """The photographs with their faces; those that cannot be marked go to `bad`."""
        try:
            found = self._predictor.batch([pixels for _, pixels in good])
        except FAULTS as error:
            if len(good) > 1:  # which of them it is shows one by one
                return [labelled for one in good for labelled in self._marked([one], bad)]
            bad.append(Bad(good[0][0], str(error)))
            return []
        return [Labelled(name, _size_hw(pixels), faces) for (name, pixels), faces in zip(good, found, strict=True)]


def _size_hw(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]
