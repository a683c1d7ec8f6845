"""Owns the data part of a command line: ``youtube-faces:DIR``, ``ibug:PLACE``, ``csv:FILE``, …, joined by commas."""

from collections.abc import Callable

from kpdetect.core.errors import DataError, KpdetectError, unknown_name
from kpdetect.data import synthetic
from kpdetect.data.annotations import Annotations, concatenate
from kpdetect.data.readers.asf import read_imm
from kpdetect.data.readers.ibug import read_ibug
from kpdetect.data.readers.tabular import read_csv, read_youtube_faces

SYNTHETIC_COUNT = 1000  # faces drawn where no number is given: seconds to draw, and enough to try anything on


def load(
    spec: str, skip_bad_rows: bool = False, relabel: Callable[[Annotations], Annotations] | None = None
) -> Annotations:
    """Reads the labelled faces that a SPEC names, as one set.

    Args:
        spec: As `load_sets` takes it.
        skip_bad_rows: As for `load_sets`.
        relabel: What to do with each set before they are joined, such as `kpdetect.data.label_alignment.align`.

    Raises:
        DataError: Rows are bad; all of them are named.
        KpdetectError: There is no such kind, folder or file, or the sets have different points.
    """
    sets = load_sets(spec, skip_bad_rows)
    return concatenate(sets if relabel is None else [relabel(part) for part in sets])


def load_sets(spec: str, skip_bad_rows: bool = False) -> list[Annotations]:
    """Reads the sets of labelled faces that a SPEC names.

    Args:
        spec: ``youtube-faces:DIR``, ``youtube-faces-published-test:DIR`` (it leaks), ``ibug:DIR_OR_XML``,
            ``imm:DIR``, ``imm-train:DIR`` (persons 1-32), ``imm-val:DIR`` (persons 33-40), ``csv:FILE`` or
            ``synthetic[:N[:SEED]]``; several are joined by commas.
        skip_bad_rows: Leave bad rows out and count them in `Annotations.skipped`, instead of raising.

    Raises:
        DataError: Rows are bad; all of them are named.
        KpdetectError: There is no such kind, folder or file.
    """
    parts = [part.strip() for part in spec.split(",") if part.strip()]
    if not parts:
        raise KpdetectError(f"data: expected KIND:PLACE, of kind {', '.join(sorted(READERS))}; received '{spec}'")
    sets: list[Annotations] = []
    problems: list[str] = []
    for part in parts:
        try:
            sets.append(_load_one(part, skip_bad_rows))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return sets


def _load_one(spec: str, skip_bad_rows: bool) -> Annotations:
    kind, _, place = spec.partition(":")
    if kind not in READERS:
        raise unknown_name("kind of data", kind, READERS)
    return READERS[kind](place, skip_bad_rows)


def _youtube_faces(place: str, skip_bad_rows: bool) -> Annotations:
    return read_youtube_faces(_given(place, "youtube-faces:DIR"), "training", skip_bad_rows)


def _youtube_faces_published_test(place: str, skip_bad_rows: bool) -> Annotations:
    return read_youtube_faces(_given(place, "youtube-faces-published-test:DIR"), "published-test", skip_bad_rows)


def _ibug(place: str, skip_bad_rows: bool) -> Annotations:
    return read_ibug(_given(place, "ibug:DIR_OR_XML"), skip_bad_rows)


def _imm(place: str, skip_bad_rows: bool) -> Annotations:
    return read_imm(_given(place, "imm:DIR"), "all", skip_bad_rows)


def _imm_train(place: str, skip_bad_rows: bool) -> Annotations:
    return read_imm(_given(place, "imm-train:DIR"), "train", skip_bad_rows)


def _imm_val(place: str, skip_bad_rows: bool) -> Annotations:
    return read_imm(_given(place, "imm-val:DIR"), "val", skip_bad_rows)


def _csv(place: str, skip_bad_rows: bool) -> Annotations:
    return read_csv(_given(place, "csv:FILE"), skip_bad_rows)


def _synthetic(place: str, skip_bad_rows: bool) -> Annotations:
    count, _, seed = place.partition(":")
    try:
        numbers = int(count or SYNTHETIC_COUNT), int(seed or 0)
    except ValueError:
        raise KpdetectError(
            f"data: expected synthetic[:N[:SEED]] in whole numbers, received 'synthetic:{place}'"
        ) from None
    if numbers[0] < 1 or numbers[1] < 0:
        raise KpdetectError(
            f"data: expected at least one synthetic face and a seed from 0, received 'synthetic:{place}'"
        )
    return synthetic.annotations(numbers[0], seed=numbers[1])


def _given(place: str, form: str) -> str:
    if not place:
        raise KpdetectError(f"data: expected {form}, received nothing after the kind")
    return place


READERS: dict[str, Callable[[str, bool], Annotations]] = {
    "youtube-faces": _youtube_faces,
    "youtube-faces-published-test": _youtube_faces_published_test,
    "ibug": _ibug,
    "imm": _imm,
    "imm-train": _imm_train,
    "imm-val": _imm_val,
    "csv": _csv,
    "synthetic": _synthetic,
}
"""What reads each kind of SPEC: ``(what stands after the colon, skip_bad_rows)`` to `Annotations`."""
