"""Labels one part: decodes its photographs, predicts them in batches, and writes the tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from kpdetect.core.atomic_write import is_disk_full
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels, cv2
from kpdetect.core.text import is_utf8, printable
from kpdetect.inference.bulk.folder import LabelFolder
from kpdetect.inference.bulk.sources import EncodedPhoto, Part
from kpdetect.inference.bulk.tables import BadPhoto, Counts, LabelResult, errors_table, faces_table
from kpdetect.inference.predictor import Predictor

BAD_PHOTO_ERRORS = (KpdetectError, cv2.error)
"""Errors of a bad photograph, which is listed; any other is a bug, which ends the run."""


@dataclass(frozen=True)
class PredictorOptions:
    """The options that change the labels; see `Predictor`.

    Attributes:
        model: A model's absolute path; None for the packaged model.
        detector: ``haar``, or the absolute path of a detector's file; None for the default detector.
        mirror: Average each face with its mirror image.
        min_score: Detected faces with a lower score are left out.
        max_megapixels: Larger photographs are bad.
        device: Where the model runs: ``cpu``, ``gpu``, or None for the default of its runtime.
    """

    model: str | None
    detector: str | None
    mirror: bool
    min_score: float
    max_megapixels: float
    device: str | None = None

    def predictor(self) -> Predictor:
        """Makes a predictor with these options.

        Raises:
            KpdetectError: An option is wrong, or a file is not a model.
        """
        return Predictor(self.model, self.detector, mirror=self.mirror, min_score=self.min_score, device=self.device)


@dataclass(frozen=True)
class LabelJob:
    """What each worker needs to know.

    Attributes:
        options: How to predict.
        folder: Where the labels go.
        batch_size: The number of photographs that are decoded and predicted at once.
    """

    options: PredictorOptions
    folder: LabelFolder
    batch_size: int


@dataclass(frozen=True)
class PartResult:
    """The result of one part.

    Attributes:
        number: The number of the part, from 0.
        counts: The counts of its photographs and faces; None if the part failed.
        problem: Why it failed.
        disk_full: Whether it failed for a full disk, so that the other parts would fail too.
    """

    number: int
    counts: Counts | None
    problem: str = ""
    disk_full: bool = False


LabelParts = Callable[[Sequence[tuple[int, Part]], LabelJob, int], Iterator[PartResult]]
"""A function from numbered parts, the job and the number of workers to the results, as they come."""


class Labeller:
    """Labels parts with a model that is loaded once.

    Args:
        job: How to predict, and where the labels go.

    Raises:
        KpdetectError: The model or the detector cannot be loaded.
    """

    def __init__(self, job: LabelJob) -> None:
        self._predictor = job.options.predictor()
        self._max_pixels = int(job.options.max_megapixels * 1e6)
        self._job = job

    def label(self, number: int, part: Part) -> PartResult:
        """Labels a part and writes its tables. A part that cannot be read or written has failed."""
        try:
            results: list[LabelResult] = []
            errors: list[BadPhoto] = []
            photographs = part.photographs()
            while batch := list(islice(photographs, self._job.batch_size)):
                results += self._predict(self._decode(batch, errors), errors)
            counts = Counts(len(results) + len(errors), sum(len(one.faces) for one in results), len(errors))
            faces = faces_table(results, self._predictor.model.spec.schema)
            self._job.folder.write_part(number, faces, errors_table(errors), counts)
            return PartResult(number, counts)
        except KpdetectError as error:
            return PartResult(number, None, str(error), is_disk_full(error))

    def _decode(self, batch: Sequence[EncodedPhoto], errors: list[BadPhoto]) -> list[tuple[str, Pixels]]:
        """Names and pixels of the photographs that can be decoded; appends the others to `errors`."""
        decoded = []
        for photo in batch:
            if not is_utf8(photo.name):
                errors.append(BadPhoto(printable(photo.name), "the file name is not UTF-8; rename the file"))
                continue
            try:
                decoded.append((photo.name, photo.read(max_pixels=self._max_pixels)))
            except BAD_PHOTO_ERRORS as error:
                errors.append(BadPhoto(photo.name, printable(str(error))))
        return decoded

    def _predict(self, decoded: Sequence[tuple[str, Pixels]], errors: list[BadPhoto]) -> list[LabelResult]:
        """The faces of the photographs; appends those that cannot be predicted to `errors`."""
        try:
            found = self._predictor.batch([pixels for _, pixels in decoded], workers=1)  # a core
        except BAD_PHOTO_ERRORS as error:
            if len(decoded) > 1:  # one by one, to find out which photograph is bad
                return [result for one in decoded for result in self._predict([one], errors)]
            errors.append(BadPhoto(decoded[0][0], str(error)))
            return []
        return [
            LabelResult(name, (pixels.shape[0], pixels.shape[1]), faces)
            for (name, pixels), faces in zip(decoded, found, strict=True)
        ]
