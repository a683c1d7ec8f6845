"""Owns the work of the command ``predict``: marks photographs or a data set, and writes what it found."""

import functools
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import MAX_PIXELS, Pixels, read_image, write_image
from kpdetect.core.options import option
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Face
from kpdetect.inference.competition import competition_csv
from kpdetect.inference.inputs import Photograph, Work, work_of_data, work_of_images
from kpdetect.inference.outputs import Marked, as_json, as_json_lines, faces_csv
from kpdetect.inference.overlay import Draw, check_drawing, drawing
from kpdetect.measures import check_chips, check_measurable, face_chip, measure

FindFaces = Callable[[Pixels, Floats | None], list[Face]]
"""A photograph (H, W, 3) and its face boxes (N, 4), or None to look for faces, to the faces; such as a `Predictor`."""


JSON_LINES = ".jsonl"


@dataclass(frozen=True)
class PredictOptions:
    """Prediction the faces of photographs, or of a data set: boxes and points, as text, JSON, CSV or drawn."""

    images: tuple[str, ...] = option((), "photographs, or folders of them (not their subfolders)", positional=True)
    data: str | None = option(
        None, "mark a data set instead, in its own face boxes: ibug:XML, csv:FILE, …", metavar="SPEC"
    )
    model: str | None = option(None, "bundle, SavedModel, .tflite, .onnx or .keras; by default the shipped one")
    json: str | None = option(
        None, "write boxes and points, - for stdout; one photograph a line where FILE ends in .jsonl", metavar="FILE"
    )
    csv: str | None = option(None, "write one face a row, in the layout that --data csv:FILE reads", metavar="FILE")
    draw: str | None = option(None, "write the marked photographs; a file for a single one", metavar="FILE_OR_FOLDER")
    filter: tuple[str, ...] = option(
        (),
        "with --draw: put these on the faces instead of points: sunglasses, hat, moustache, or a JSON file of your own",
        metavar="NAME[,NAME]",
    )
    draw_points: bool = option(False, "with --filter: draw boxes and points as well, over the filters")
    measures: bool = option(False, "with --json: add head pose, eye and mouth openness and smile of each face")
    crop_faces: str | None = option(
        None, "write each face as an aligned picture of 112 x 112 pixels, PHOTO_1.png and so on", metavar="FOLDER"
    )
    competition_csv: str | None = option(
        None, "with --data: write Id,Predicted, one coordinate a row, face by face", metavar="FILE"
    )
    detector: str | None = option(
        None, "find faces with: haar, for OpenCV's cascades, or YuNet's ONNX file", metavar="haar|FILE"
    )
    mirror: bool = option(False, "look at every face in a mirror too: twice the time, a little more accurate")
    min_score: float = option(
        0.5,
        "leave out what the detector found and the model scores lower, from 0 to 1; 0 leaves out nothing",
        metavar="X",
    )
    max_megapixels: float = option(
        MAX_PIXELS / 1e6, "photographs of more are refused before they are decoded, by what their header says"
    )
    skip_bad_rows: bool = option(False, "with --data: go on without rows that are wrong")
    threads: int = option(1, "threads of the model's runtime; one is enough for single faces")


def gather(options: PredictOptions) -> Work:
    """What there is to mark, before any model is loaded.

    Raises:
        KpdetectError: The options contradict each other, or name nothing.
        DataError: Rows of the data set are bad.
    """
    if options.images and options.data is not None:
        raise KpdetectError("expected photographs or --data SPEC, received both; mark them one after the other")
    if options.competition_csv is not None and options.data is None:
        raise KpdetectError("--competition-csv needs --data SPEC, the set whose faces and boxes it numbers")
    if options.detector is not None and options.data is not None:
        raise KpdetectError("--detector goes with photographs; --data marks the boxes that its set has")
    if options.measures and options.json is None:
        raise KpdetectError("--measures needs --json FILE, which they go to; - for stdout")
    check_drawing(options.filter, options.draw_points, options.draw)
    if options.data is None:
        if not options.images:
            raise KpdetectError("expected photographs, or --data SPEC with a data set; received neither")
        read = functools.partial(read_image, max_pixels=int(options.max_megapixels * 1e6))
        return work_of_images(options.images, options.draw, options.crop_faces, read)
    work = work_of_data(options.data, options.skip_bad_rows, options.draw, options.crop_faces)
    if options.competition_csv is not None and work.skipped:
        raise KpdetectError(
            f"--competition-csv: reading {options.data} left out {work.skipped} of its rows, so that all later numbers "
            "would be wrong; put the rows right"
        )
    return work


def predict_photographs(find_faces: FindFaces, schema: KeypointSchema, work: Work, options: PredictOptions) -> int:
    """Prediction every photograph and writes what the options ask for.

    Args:
        find_faces: See `FindFaces`.
        schema: The scheme of its points.
        work: What `gather` gave.
        options: Where to write.

    Returns:
        The exit status: 2 where a photograph could not be marked.

    Raises:
        KpdetectError: No photograph could be marked, or not all faces of the competition's CSV.
    """
    check_scheme(schema, work, options)
    if options.measures:
        check_measurable(schema)
    if options.crop_faces is not None:
        check_chips(schema)
    draw = drawing(options.filter, options.draw_points, schema)
    json_file = None if options.json == "-" else options.json
    # Files are opened before the work, so that a folder one may not write to shows at once. The competition's is the
    # outer one: it is written whole or not at all, and where it is not, the others stay.
    with _opened(options.competition_csv) as csv_target:
        with _opened(json_file) as json_target, _opened(options.csv) as table_target:
            mark_one = functools.partial(_mark_one, find_faces, draw, options.measures)
            marked = _mark_all(mark_one, work.photographs, sys.stderr if options.json == "-" else sys.stdout)
            text = (as_json_lines if str(json_file).endswith(JSON_LINES) else as_json)(marked, schema)
            if json_target is not None:
                json_target.write_text(text, encoding="utf-8")
            elif options.json == "-":
                print(text, end="")
            if table_target is not None and options.csv is not None:
                table_target.write_text(faces_csv(marked, schema, Path(options.csv).parent), encoding="utf-8")
        if csv_target is not None:
            csv_target.write_text(competition_csv(keypoints_of_rows(marked, work, schema)), encoding="utf-8")
    return 0 if len(marked) == len(work.photographs) else 2


def check_scheme(schema: KeypointSchema, work: Work, options: PredictOptions) -> None:
    """Says where a data set's boxes are those of other points than the model's, which then lie differently in crops.

    A model of some of the set's points is fine: `Annotations.select` keeps the boxes that it was trained with.

    Raises:
        KpdetectError: They differ, and the competition's CSV is asked for: it would have other rows.
    """
    if work.schema is None or work.schema.point_names == schema.point_names:
        return
    difference = (
        f"the boxes of {options.data} are those of {work.schema.num_keypoints} points of scheme '{work.schema.name}', "
        f"but the model marks {schema.num_keypoints} of scheme '{schema.name}'"
    )
    if options.competition_csv is not None:
        raise KpdetectError(f"--competition-csv: {difference}; name a model of the set's scheme")
    if not set(schema.point_names) <= set(work.schema.point_names):
        print(f"warning: {difference}: its crops may be cut too wide or too tight", file=sys.stderr)


def keypoints_of_rows(marked: Sequence[Marked], work: Work, schema: KeypointSchema) -> Floats:
    """The points of every row of the data set, in its order: (N, K, 2), NaN where a face could not be marked."""
    keypoints = np.full((work.num_rows, schema.num_keypoints, 2), np.nan, np.float32)
    for one in marked:
        for row, face in zip(one.photograph.rows, one.faces, strict=True):
            keypoints[row] = face.keypoints
    return keypoints


def _opened(path: str | None) -> AbstractContextManager[Path | None]:
    return nullcontext() if path is None else atomic_file(path)


def _mark_all(mark_one: Callable[[Photograph], Marked], photographs: Sequence[Photograph], out: TextIO) -> list[Marked]:
    """Prediction every photograph; a bad one is reported and the others go on.

    Raises:
        KpdetectError: Not one photograph could be marked.
    """
    from tqdm import tqdm  # here, since whoever imports the library needs no progress bar

    several = len(photographs) > 1
    marked, problems = [], []
    for photograph in tqdm(photographs, unit="photo", file=sys.stderr, disable=None if several else True):
        try:
            marked.append(mark_one(photograph))
            tqdm.write(marked[-1].line(), file=out)
        except KpdetectError as error:
            problems.append(_named(photograph.path, error))
            if several:
                tqdm.write(f"kpdetect: {problems[-1]}", file=sys.stderr)
    if not marked:
        raise KpdetectError(f"none of the {len(photographs)} photographs could be marked" if several else problems[0])
    return marked


def _mark_one(find_faces: FindFaces, draw: Draw, measured: bool, photograph: Photograph) -> Marked:
    pixels = photograph.read(photograph.path)
    faces = find_faces(pixels, photograph.boxes)
    if photograph.target is not None:
        write_image(photograph.target, draw(pixels, faces))
    for number, face in enumerate(faces, 1):
        chip_target = photograph.chip_target(number)
        if chip_target is not None:
            write_image(chip_target, face_chip(pixels, face))
    measures = [measure(face) for face in faces] if measured else None
    return Marked(photograph, (pixels.shape[0], pixels.shape[1]), faces, measures)


def _named(path: str, error: KpdetectError) -> str:
    """An error's line, which names the file."""
    return str(error) if path in str(error) else f"{path}: {error}"
