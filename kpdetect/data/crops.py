"""Decodes the photographs of a data set in threads, each once, and cuts the crops for evaluation."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import CropRule, Floats, Matrix, apply_matrix, to_relative
from kpdetect.core.images import Pixels, as_rgb, warp_crop
from kpdetect.core.progress import progress
from kpdetect.data.annotations import Annotations

_LOG = logging.getLogger(__name__)

Visit = Callable[[int, Pixels], None]
"""A function of a row and its photograph, (H, W, 3) uint8 RGB."""

Job = tuple[str, list[int]]
"""The path of a photograph and the rows of its faces."""

JOBS_AHEAD = 16  # per thread, so that no thread waits while the progress bar is drawn


def evaluation_crops(
    annotations: Annotations, crop: CropRule, channels: int, boxes: Floats | None = None
) -> tuple[Pixels, Floats, Matrix]:
    """Cuts the crops that prediction would use for these faces, and projects the labels into them. Needs no TensorFlow.

    Example::

        crops, keypoints, matrices = evaluation_crops(load("synthetic:10"), CropRule((112, 112), 1.2), channels=1)

    Args:
        annotations: N labelled faces.
        crop: The crop rule of the model.
        channels: 1 for grey, 3 for RGB.
        boxes: (N, 4) boxes (x0, y0, x1, y1) to use instead of those of the annotations.

    Returns:
        crops (N, H, W, C) uint8, keypoints (N, K, 2) relative to the crop, and photograph-to-crop matrices (N, 3, 3).

    Raises:
        DataError: Images cannot be read; all of them are listed.
        KpdetectError: A box has no area.
    """
    matrices = crop.matrix(annotations.boxes if boxes is None else boxes).reshape(-1, 3, 3)
    crops = np.zeros((len(annotations), *crop.size_hw, channels), np.uint8)

    def cut(row: int, photograph: Pixels) -> None:
        crops[row] = warp_crop(photograph, matrices[row], crop.size_hw, channels)

    problems = visit_photographs(annotations, cut, "cropping")
    if problems:
        raise DataError(list(problems.values()))
    return crops, to_relative(apply_matrix(matrices, annotations.keypoints), crop.size_hw), matrices


def visit_photographs(annotations: Annotations, visit: Visit, label: str, workers: int | None = None) -> dict[int, str]:
    """Decodes every photograph once, in threads, and calls `visit` for each of its faces; shows a progress bar.

    Args:
        annotations: The faces; a photograph may have several.
        visit: Called once for each row, from any thread.
        label: The text of the progress bar.
        workers: Threads; as many as processors by default.

    Returns:
        The problems, by row.
    """
    problems: dict[int, str] = {}
    rows_of: dict[str, list[int]] = {}
    for row, path in enumerate(annotations.paths.tolist()):
        rows_of.setdefault(path, []).append(row)

    def work(job: Job) -> None:
        problems.update(_visit_one(annotations, *job, visit))

    done = _in_threads(work, rows_of.items(), workers or os.cpu_count() or 1)
    for _ in progress(done, label, len(rows_of)):
        pass
    return dict(sorted(problems.items()))


def _in_threads(work: Callable[[Job], None], jobs: Iterable[Job], workers: int) -> Iterator[None]:
    """Runs jobs in threads and yields after each. `ThreadPoolExecutor.map` would hold all jobs in memory at once."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) == JOBS_AHEAD * workers:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()


def _visit_one(annotations: Annotations, path: str, rows: list[int], visit: Visit) -> dict[int, str]:
    try:
        photograph = as_rgb(annotations.read(path))
    except KpdetectError as error:
        return dict.fromkeys(rows, _named(path, error))
    problems = {}
    for row in rows:
        try:
            visit(row, photograph)
        except KpdetectError as error:
            problems[row] = _named(path, error)
    return problems


def _named(path: str, error: KpdetectError) -> str:
    """The text of an error, with the path in it."""
    return str(error) if path in str(error) else f"{path}: {error}"


def readable(annotations: Annotations, workers: int | None = None) -> Annotations:
    """The faces whose photographs can be read. Those that cannot are logged.

    Raises:
        DataError: No photograph can be read.
    """
    problems = visit_photographs(annotations, lambda row, photograph: None, "reading", workers)
    return annotations.take(good_rows(annotations, problems)) if problems else annotations


def good_rows(annotations: Annotations, problems: Mapping[int, str]) -> npt.NDArray[np.int64]:
    """The rows without problems. The problems of the others are logged.

    Raises:
        DataError: No row is left.
    """
    texts = list(dict.fromkeys(problems.values()))
    if problems and len(problems) == len(annotations):
        raise DataError(texts)
    if problems:
        lines = [f"'{annotations.name}': skipped {len(problems)} of {len(annotations)} faces:", *texts]
        _LOG.warning("\n  ".join(lines))
    return np.setdiff1d(np.arange(len(annotations)), list(problems)).astype(np.int64)


def shapes_of_photographs(annotations: Annotations, workers: int | None) -> npt.NDArray[np.int64]:
    """Height and width of the photograph of every row, (N, 2); 0 if it cannot be read."""
    shapes = np.zeros((len(annotations), 2), np.int64)

    def note(row: int, photograph: Pixels) -> None:
        shapes[row] = photograph.shape[:2]

    visit_photographs(annotations, note, "measuring", workers)
    return shapes
