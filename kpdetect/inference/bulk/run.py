"""Owns a labelling from its options to its last line: what is missing goes to workers, what fails is told."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kpdetect import __version__
from kpdetect.core.errors import KpdetectError
from kpdetect.inference.bulk.folder import ERRORS_FOLDER, FACES_FOLDER, LabelFolder
from kpdetect.inference.bulk.options import LabelOptions
from kpdetect.inference.bulk.sources import Columns, Part, find_parts, fingerprint
from kpdetect.inference.bulk.tables import Counts
from kpdetect.inference.bulk.worker import Job, LabelParts, Look, Outcome
from kpdetect.modelfile.bundle import file_record, shipped_model
from kpdetect.modelfile.registry import resolve

FAILED_IN_A_ROW = 3
"""So many parts that fail one after another have a cause in common, such as a full disk: the run ends."""


Engine = Callable[[int, str | None], AbstractContextManager[LabelParts]]
"""Starts so many workers, on this machine or at an address: `kpdetect.inference.bulk.workers.started`."""


def label(options: LabelOptions, engine: Engine) -> int:
    """Labels what is not labelled yet, and prints a line on all of it.

    Args:
        options: What, how, and where to.
        engine: What runs the workers.

    Returns:
        The exit status: 2 where parts are missing, or where every photograph is bad.

    Raises:
        KpdetectError: A place, the model, the detector or the folder is not right, or part after part fails.
    """
    folder = LabelFolder(Path(options.out).absolute())
    parts = find_parts(options.places, options.part, Columns(options.column, options.name_column), folder.path)
    look = look_of(options)
    look.predictor()  # what is wrong with it shows here, before any worker starts
    folder.open(settings_of(parts, look, options.part))
    done = folder.done()
    missing = [(number, part) for number, part in enumerate(parts) if number not in done]
    before, now, failed, begun = sum(done.values(), Counts()), Counts(), 0, time.perf_counter()
    if missing:
        with engine(min(options.workers, len(missing)), options.address) as label_parts:
            begun = time.perf_counter()  # of the work, so that images a second are those of a long run
            outcomes = label_parts(missing, Job(look, folder, options.batch), options.workers)
            now, failed = gather(outcomes, before.photographs, sum(map(len, parts)))
    print(summary(before, now, time.perf_counter() - begun, folder))
    if failed:
        print(f"kpdetect: {failed} of {len(parts)} parts failed; the same command tries them again", file=sys.stderr)
    total = before + now
    return 2 if failed or total.errors == total.photographs else 0


def look_of(options: LabelOptions) -> Look:
    """How faces are looked for, with paths that hold wherever a worker starts."""
    model = None if options.model is None else os.path.abspath(resolve(options.model))
    detector = None if options.detector is None else os.path.abspath(options.detector)
    return Look(model, detector, options.mirror, options.min_score, options.max_megapixels)


def settings_of(parts: Sequence[Part], look: Look, part_size: int) -> dict[str, Any]:
    """All that the labels depend on; neither the number of workers nor that of photographs in a batch."""
    photographs = {"photographs": sum(map(len, parts)), "list_sha256": fingerprint(parts), "part": part_size}
    model = shipped_model() if look.model is None else Path(look.model)
    files = {
        "model_sha256": sha256_of(model),
        "detector_sha256": None if look.detector is None else sha256_of(Path(look.detector)),
    }
    looked = {name: value for name, value in asdict(look).items() if name not in ("model", "detector")}
    return {"kpdetect": __version__, **photographs, **files, **looked}


def sha256_of(path: Path) -> str:
    """Of a file, or of all files of a folder and their names."""
    if path.is_file():
        return file_record(path)["sha256"]
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()} {file_record(file)['sha256']}\n".encode())
    return digest.hexdigest()


def gather(outcomes: Iterable[Outcome], labelled: int, photographs: int) -> tuple[Counts, int]:
    """Adds up outcomes as they come, with a progress bar; failures are told at once.

    Args:
        outcomes: Of the parts that were missing.
        labelled: How many photographs were labelled before.
        photographs: How many there are.

    Returns:
        The counts of what was labelled, and how many parts failed.

    Raises:
        KpdetectError: `FAILED_IN_A_ROW` parts did.
    """
    now, failed, in_a_row = Counts(), 0, 0
    with tqdm(total=photographs, initial=labelled, desc="labelling", unit="photo", file=sys.stderr) as bar:
        for outcome in outcomes:
            if outcome.counts is not None:
                now, in_a_row = now + outcome.counts, 0
                bar.update(outcome.counts.photographs)
                bar.set_postfix(faces=now.faces, bad=now.errors)
                continue
            failed, in_a_row = failed + 1, in_a_row + 1
            bar.write(f"kpdetect: part {outcome.number} failed: {outcome.problem}", file=sys.stderr)
            if in_a_row == FAILED_IN_A_ROW:
                raise KpdetectError(
                    f"{in_a_row} parts failed one after another, the last for: {outcome.problem}; what is labelled "
                    "stays, and the same command goes on"
                )
    return now, failed


def summary(before: Counts, now: Counts, seconds: float, folder: LabelFolder) -> str:
    """The line that a run ends with."""
    total = before + now
    speed = f", {now.photographs / seconds:.1f} photographs/s" if now.photographs else ""
    earlier = f" ({before.photographs} of them before)" if before.photographs else ""
    return (
        f"{total.photographs} photographs{earlier}, {total.faces} faces in {folder.path / FACES_FOLDER}, "
        f"{total.errors} bad in {folder.path / ERRORS_FOLDER}{speed}"
    )
