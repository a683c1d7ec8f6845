"""The command ``label``: gives the missing parts to workers and prints a summary."""

import hashlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kpdetect import __version__
from kpdetect.core.errors import KpdetectError
from kpdetect.core.text import printable
from kpdetect.inference.bulk.folder import ERRORS_FOLDER, FACES_FOLDER, LabelFolder
from kpdetect.inference.bulk.options import LabelOptions
from kpdetect.inference.bulk.sources import Columns, Part, find_parts, fingerprint
from kpdetect.inference.bulk.tables import Counts
from kpdetect.inference.bulk.worker import LabelJob, LabelParts, PartResult, PredictorOptions
from kpdetect.modelfile.bundle import file_record, shipped_model
from kpdetect.modelfile.registry import resolve
from kpdetect.modelfile.runtime import load

_LOG = logging.getLogger(__name__)

FAILED_IN_A_ROW = 3
"""The run ends after this many failed parts in a row: they have a common cause, such as a full disk."""

Engine = Callable[[int, str | None], AbstractContextManager[LabelParts]]
"""A function from the number of workers and a cluster's address: `kpdetect.inference.bulk.workers.started`."""


def label(options: LabelOptions, engine: Engine) -> int:
    """Labels the missing parts and prints a summary.

    Args:
        options: The options of the command.
        engine: Starts the workers.

    Returns:
        The exit status: 2 if a part failed or every photograph is bad, otherwise 0.

    Raises:
        KpdetectError: A place, the model, the detector or the folder is wrong, or `FAILED_IN_A_ROW` parts failed.
    """
    folder = LabelFolder(Path(options.out).absolute())
    predictor_options = predictor_options_of(options)
    if options.untrusted and predictor_options.model is not None:
        load(predictor_options.model, untrusted=True)  # once; the workers load the same file
    # Its errors are reported before a worker starts. This machine may lack the GPUs of a cluster.
    replace(predictor_options, device=None if options.address else options.device).predictor()
    parts = find_parts(options.places, options.part, Columns(options.column, options.name_column), folder.path)
    folder.open(settings_of(parts, predictor_options, options.part))
    done = folder.done()
    missing = [(number, part) for number, part in enumerate(parts) if number not in done]
    before, now, failed, begun = sum(done.values(), Counts()), Counts(), 0, time.perf_counter()
    if missing:
        with engine(min(options.workers, len(missing)), options.address) as label_parts:
            begun = time.perf_counter()  # without the start of the workers
            results = label_parts(missing, LabelJob(predictor_options, folder, options.batch), options.workers)
            now, failed = sum_results(results, before.photographs, sum(map(len, parts)))
    print(printable(summary(before, now, time.perf_counter() - begun, folder)))
    if failed:
        _LOG.warning(f"{failed} of {len(parts)} parts failed; run the same command again to retry them")
    total = before + now
    return 2 if failed or total.errors == total.photographs else 0


def predictor_options_of(options: LabelOptions) -> PredictorOptions:
    """The options of the predictor, with absolute paths, since workers may start in other folders."""
    model = None if options.model is None else os.path.abspath(resolve(options.model))
    detector = None if options.detector is None else os.path.abspath(options.detector)
    return PredictorOptions(model, detector, options.mirror, options.min_score, options.max_megapixels, options.device)


def settings_of(parts: Sequence[Part], options: PredictorOptions, part_size: int) -> dict[str, Any]:
    """Everything that the labels depend on; not the workers, their device, nor the number of photographs in a batch."""
    photographs = {"photographs": sum(map(len, parts)), "list_sha256": fingerprint(parts), "part": part_size}
    model = shipped_model() if options.model is None else Path(options.model)
    files = {
        "model_sha256": sha256_of(model),
        "detector_sha256": None if options.detector is None else sha256_of(Path(options.detector)),
    }
    others = {name: value for name, value in asdict(options).items() if name not in ("model", "detector", "device")}
    return {"kpdetect": __version__, **photographs, **files, **others}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of all files of a folder."""
    if path.is_file():
        return file_record(path)["sha256"]
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {file_record(file)['sha256']}\n".encode())
    return digest.hexdigest()


def sum_results(results: Iterable[PartResult], labelled: int, photographs: int) -> tuple[Counts, int]:
    """Adds up results as they come, with a progress bar; failures are printed at once.

    Args:
        results: The results of the missing parts.
        labelled: The number of photographs of the finished parts.
        photographs: The number of all photographs.

    Returns:
        The counts of the labelled parts, and the number of failed parts.

    Raises:
        KpdetectError: `FAILED_IN_A_ROW` parts failed one after another, or one failed for a full disk.
    """
    now, failed, in_a_row = Counts(), 0, 0
    with tqdm(total=photographs, initial=labelled, desc="labelling", unit="photo", file=sys.stderr) as bar:
        for result in results:
            if result.counts is not None:
                now, in_a_row = now + result.counts, 0
                bar.update(result.counts.photographs)
                bar.set_postfix(faces=now.faces, bad=now.errors)
                continue
            failed, in_a_row = failed + 1, in_a_row + 1
            if result.disk_full:
                raise KpdetectError(f"{result.problem}. Finished parts are kept: run the same command again to resume")
            bar.write(f"kpdetect: part {result.number} failed: {printable(result.problem)}", file=sys.stderr)
            if in_a_row == FAILED_IN_A_ROW:
                raise KpdetectError(
                    f"{in_a_row} parts failed one after another, the last because of: {result.problem}; finished parts "
                    "are kept: run the same command again to resume"
                )
    return now, failed


def summary(before: Counts, now: Counts, seconds: float, folder: LabelFolder) -> str:
    """The last line of a run."""
    total = before + now
    speed = f", {now.photographs / seconds:.1f} photographs/s" if now.photographs else ""
    earlier = f" ({before.photographs} of them before)" if before.photographs else ""
    return (
        f"{total.photographs} photographs{earlier}, {total.faces} faces in {folder.path / FACES_FOLDER}, "
        f"{total.errors} bad in {folder.path / ERRORS_FOLDER}{speed}"
    )
