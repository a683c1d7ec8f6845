"""Decodes the photographs of a data set in threads, each once, and cuts the crops for evaluation."""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import CropRule, Floats, Matrix, apply_matrix, scaling, to_relative
from kpdetect.core.images import (
    EncodedImage,
    Pixels,
    as_rgb,
    image_size,
    read_bytes,
    shrink_factor,
    warp_crop,
)
from kpdetect.core.processors import available_processors
from kpdetect.core.progress import progress
from kpdetect.data.annotations import Annotations

_LOG = logging.getLogger(__name__)

Visit = Callable[[int, Pixels], None]
"""A function of a row and its photograph, (H, W, 3) uint8 RGB."""

Placement = Callable[[int, tuple[int, int]], tuple[Matrix, tuple[int, int]]]
"""A function of a row and of the (height, width) of its photograph; returns the (3, 3) matrix from the photograph to
the crop, and the (height, width) of the crop."""

Job = tuple[str, list[int]]
"""The path of a photograph and the rows of its faces."""

JOBS_PER_TASK = 8  # so that handing over a task takes little of the time
JOBS_AHEAD = 4 * JOBS_PER_TASK  # per thread, so that no thread waits while the progress bar is drawn


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

    def work(path: str, rows: list[int]) -> dict[int, str]:
        photograph = as_rgb(annotations.read(path))
        return _each(path, rows, lambda row: visit(row, photograph))

    return _for_photographs(annotations, work, label, workers)


def cut_crops(
    annotations: Annotations, place: Placement, crops: Pixels, label: str, workers: int | None = None
) -> dict[int, str]:
    """Cuts a crop of every face into an array, in threads, and shows a progress bar.

    Each photograph is decoded once, and only as far as its crops need: see `EncodedImage.decode`. So the crops are
    those of `evaluation_crops` up to some levels.

    Args:
        annotations: N faces; a photograph may have several.
        place: Where the crop of a row is; called from any thread.
        crops: (N, H, W, C) uint8, zeros, C being 1 or 3. A crop smaller than (H, W) is written to the top left.
        label: The text of the progress bar.
        workers: Threads; as many as processors by default.

    Returns:
        The problems, by row.

    Example::

        crops = np.zeros((len(faces), 112, 112, 1), np.uint8)
        rule = CropRule((112, 112), 1.2)
        cut_crops(faces, lambda row, image_hw: (rule.matrix(faces.boxes[row]), rule.size_hw), crops, "cropping")
    """
    channels = crops.shape[3]

    def work(path: str, rows: list[int]) -> dict[int, str]:
        encoded = EncodedImage(read_bytes(path), path) if annotations.is_image_file(path) else None
        pixels = np.zeros((0, 0, 3), np.uint8) if encoded is not None else as_rgb(annotations.read(path))
        image_hw, reduction = (pixels.shape[0], pixels.shape[1]) if encoded is None else encoded.size_hw, 1
        placed: dict[int, tuple[Matrix, tuple[int, int]]] = {}

        def put(row: int) -> None:
            placed[row] = place(row, image_hw)

        problems = _each(path, rows, put)
        if encoded is not None:
            shrink = min((shrink_factor(matrix) for matrix, _ in placed.values()), default=1.0)
            pixels, reduction = encoded.decode(channels, shrink)
            if reduction == 1 and pixels.shape[:2] != image_hw:  # a header may declare a larger size
                image_hw = (pixels.shape[0], pixels.shape[1])
                problems.update(_each(path, list(placed), put))

        def cut(row: int) -> None:
            matrix, (height, width) = placed[row]
            if reduction > 1:
                matrix = matrix @ scaling(reduction)
            crops[row, :height, :width] = warp_crop(pixels, matrix, (height, width), channels)

        return {**problems, **_each(path, placed, cut)}

    return _for_photographs(annotations, work, label, workers)


def _for_photographs(
    annotations: Annotations, work: Callable[[str, list[int]], dict[int, str]], label: str, workers: int | None
) -> dict[int, str]:
    """Calls `work` with every photograph and the rows of its faces, in threads; returns the problems by row."""
    problems: dict[int, str] = {}
    rows_of: dict[str, list[int]] = {}
    for row, path in enumerate(annotations.paths.tolist()):
        rows_of.setdefault(path, []).append(row)

    def run(job: Job) -> None:
        path, rows = job
        try:
            problems.update(work(path, rows))
        except KpdetectError as error:
            problems.update(dict.fromkeys(rows, _named(path, error)))

    done = _in_threads(run, rows_of.items(), workers or available_processors())
    for _ in progress(done, label, len(rows_of)):
        pass
    return dict(sorted(problems.items()))


def _in_threads(run: Callable[[Job], None], jobs: Iterable[Job], workers: int) -> Iterator[None]:
    """Runs jobs in threads and yields after each. `ThreadPoolExecutor.map` would hold all jobs in memory at once."""

    def task(some: Sequence[Job]) -> int:
        for job in some:
            run(job)
        return len(some)

    waiting: deque[Future[int]] = deque()
    left = iter(jobs)
    with ThreadPoolExecutor(workers) as pool:
        while some := list(itertools.islice(left, JOBS_PER_TASK)):
            waiting.append(pool.submit(task, some))
            if len(waiting) * JOBS_PER_TASK >= JOBS_AHEAD * workers:
                yield from itertools.repeat(None, waiting.popleft().result())
        for future in waiting:
            yield from itertools.repeat(None, future.result())


def _each(path: str, rows: Iterable[int], run: Callable[[int], None]) -> dict[int, str]:
    """Calls a function for each row; returns the problems."""
    problems = {}
    for row in rows:
        try:
            run(row)
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
    """Height and width of the photograph of every row, (N, 2), from the headers of files; 0 if it cannot be read."""
    shapes = np.zeros((len(annotations), 2), np.int64)

    def work(path: str, rows: list[int]) -> dict[int, str]:
        is_file = annotations.is_image_file(path)
        shapes[rows] = (image_size(path) or (0, 0)) if is_file else as_rgb(annotations.read(path)).shape[:2]
        return {}

    _for_photographs(annotations, work, "measuring", workers)
    return shapes
