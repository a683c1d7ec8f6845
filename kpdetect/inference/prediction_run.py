"""The command ``predict``: its options, and the run from photographs to files and printed lines."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kpdetect.core.atomic_write import atomic_file, is_disk_full
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import Floats
from kpdetect.core.images import MAX_PIXELS, read_image, write_image
from kpdetect.core.options import option
from kpdetect.core.processors import in_order
from kpdetect.core.schema import KeypointSchema
from kpdetect.core.text import is_utf8, printable
from kpdetect.inference.competition import competition_csv
from kpdetect.inference.inputs import PhotoTask, TaskList, tasks_from_data, tasks_from_images
from kpdetect.inference.kaggle_submission import kaggle_submission, lookup_file_beside
from kpdetect.inference.outputs import PhotoResult, as_json, as_json_lines, faces_csv
from kpdetect.inference.overlay import Draw, check_drawing_options, make_draw
from kpdetect.inference.predictor import Predictor
from kpdetect.measures import check_chips, check_measurable, face_chip, measure

_LOG = logging.getLogger(__name__)

JSON_LINES = ".jsonl"


@dataclass(frozen=True)
class PredictOptions:
    """Finds faces and their keypoints in photographs, or predicts the faces of a data set.

    Prints one line per photograph, and writes JSON, CSV, drawings and aligned faces. A photograph that cannot be read
    is reported, the others are predicted, and the exit status is 2.
    """

    images: tuple[str, ...] = option(
        (), "photographs, folders of them (without subfolders) or quoted globs ('photos/**/*.jpg')", positional=True
    )
    data: str | None = option(None, "predict a data set in its own face boxes: ibug:XML, csv:FILE, …", metavar="SPEC")
    model: str | None = option(
        None, "a model's name, or a bundle, SavedModel, .tflite, .onnx or .keras file; the packaged model by default"
    )
    json: str | None = option(
        None,
        "write boxes and keypoints; - for stdout; a name ending in .jsonl gets one photograph per line",
        metavar="FILE",
    )
    csv: str | None = option(None, "write one face per row, in the layout of --data csv:FILE", metavar="FILE")
    draw: str | None = option(
        None, "write drawings of the faces: a picture for one photograph, otherwise a folder", metavar="FILE_OR_FOLDER"
    )
    filter: tuple[str, ...] = option(
        (),
        "with --draw: draw filters instead of keypoints: sunglasses, hat, moustache, or your own JSON file",
        metavar="NAME[,NAME]",
    )
    draw_points: bool = option(False, "with --filter: draw boxes and keypoints over the filters")
    measures: bool = option(False, "with --json: add head pose, eye and mouth openness and smile of each face")
    crop_faces: str | None = option(
        None, "write each face as an aligned picture of 112 x 112 pixels: PHOTO_1.png, PHOTO_2.png, …", metavar="FOLDER"
    )
    competition_csv: str | None = option(
        None, "with --data: write Id,Predicted with one coordinate per row, face by face", metavar="FILE"
    )
    kaggle_submission: str | None = option(
        None, "with --data kaggle:FILE: write RowId,Location for IdLookupTable.csv beside that file", metavar="FILE"
    )
    detector: str | None = option(
        None, "the face detector: haar for OpenCV's cascades, or YuNet's ONNX file", metavar="haar|FILE"
    )
    mirror: bool = option(False, "average each face with its mirror image: twice the time, slightly more accurate")
    min_score: float = option(0.5, "leave out detected faces with a lower score, 0 to 1; 0 keeps all", metavar="X")
    max_megapixels: float = option(MAX_PIXELS / 1e6, "refuse larger photographs, by their header, before decoding")
    skip_bad_rows: bool = option(False, "with --data: leave out bad rows")
    threads: int = option(1, "threads of the model's runtime; one is enough for single faces")
    device: str | None = option(None, "where the model runs: cpu, gpu, or gpu:1 for the second GPU", metavar="NAME")
    untrusted: bool = option(
        False, "the model is from a source that is not trusted: try it in a child process first, refuse SavedModels"
    )


def collect_tasks(options: PredictOptions) -> TaskList:
    """Lists what to predict, before a model is loaded.

    Raises:
        KpdetectError: Options contradict each other, or a place has no photograph.
        DataError: Rows of the data set are bad.
    """
    if options.images and options.data is not None:
        raise KpdetectError("expected photographs or --data SPEC, received both; predict them one after the other")
    if options.competition_csv is not None and options.data is None:
        raise KpdetectError("--competition-csv needs --data SPEC, the data set whose faces it numbers")
    if options.kaggle_submission is not None and (options.data is None or not options.data.startswith("kaggle:")):
        raise KpdetectError("--kaggle-submission needs --data kaggle:FILE, the competition's test.csv")
    if options.detector is not None and options.data is not None:
        raise KpdetectError("--detector needs photographs; --data uses the boxes of its data set")
    if options.measures and options.json is None:
        raise KpdetectError("--measures needs --json FILE, which they are written to; - for stdout")
    check_drawing_options(options.filter, options.draw_points, options.draw)
    if options.data is None:
        if not options.images:
            raise KpdetectError("expected photographs, or --data SPEC with a data set; received neither")
        read = functools.partial(read_image, max_pixels=int(options.max_megapixels * 1e6))
        return tasks_from_images(options.images, options.draw, options.crop_faces, read)
    tasks = tasks_from_data(options.data, options.skip_bad_rows, options.draw, options.crop_faces)
    numbered = "--competition-csv" if options.competition_csv is not None else "--kaggle-submission"
    if (options.competition_csv or options.kaggle_submission) is not None and tasks.skipped:
        raise KpdetectError(
            f"{numbered}: {tasks.skipped} bad rows of {options.data} were left out, so that all later numbers "
            "would be wrong; correct the rows"
        )
    return tasks


def predict_photographs(predictor: Predictor, tasks: TaskList, options: PredictOptions) -> int:
    """Predicts every photograph, prints a line for each, and writes the files that the options name.

    Args:
        predictor: Predicts the faces of a photograph.
        tasks: The result of `collect_tasks`.
        options: The options of the command.

    Returns:
        The exit status: 2 if a photograph could not be predicted, otherwise 0.

    Raises:
        KpdetectError: No photograph could be predicted, a file cannot be written, or a face of the competition's CSV
            is missing.
    """
    schema = predictor.model.spec.schema
    check_schema(schema, tasks, options)
    if options.measures:
        check_measurable(schema)
    if options.crop_faces is not None:
        check_chips(schema)
    draw = make_draw(options.filter, options.draw_points, schema)
    for note in tasks.notes:
        _LOG.warning(note)
    json_file = None if options.json == "-" else options.json
    # Files are opened before the prediction, so that an unwritable folder is reported at once. The competition's CSV is
    # the outermost: if it cannot be written because a face is missing, the others are written all the same.
    with _opened(options.competition_csv) as competition_target:
        with _opened(json_file) as json_target, _opened(options.csv) as csv_target:
            results = _predict_all(predictor, tasks.tasks, draw, options)
            text = (as_json_lines if str(json_file).endswith(JSON_LINES) else as_json)(results, schema)
            if json_target is not None:
                json_target.write_text(text, encoding="utf-8")
            elif options.json == "-":
                print(text, end="")
            if csv_target is not None and options.csv is not None:
                csv_target.write_text(faces_csv(results, schema, Path(options.csv).parent), encoding="utf-8")
                warn_of_names(results, options.csv)
        if options.kaggle_submission is not None and options.data is not None:
            lookup_file = lookup_file_beside(options.data.removeprefix("kaggle:"))
            text = kaggle_submission(keypoints_of_rows(results, tasks, schema), schema, lookup_file)
            with atomic_file(options.kaggle_submission) as target:
                target.write_text(text, encoding="utf-8")
        if competition_target is not None:
            text = competition_csv(keypoints_of_rows(results, tasks, schema))
            competition_target.write_text(text, encoding="utf-8")
    return 0 if len(results) == len(tasks.tasks) else 2


def check_schema(schema: KeypointSchema, tasks: TaskList, options: PredictOptions) -> None:
    """Warns if the boxes of a data set belong to other keypoints than the model's, since crops then differ.

    A model of some of the data set's keypoints is fine: `Annotations.select` keeps the boxes that it was trained with.

    Raises:
        KpdetectError: They differ, and the competition's CSV is asked for, whose rows would be others.
    """
    if tasks.schema is None or tasks.schema.point_names == schema.point_names:
        return
    difference = (
        f"the boxes of {options.data} are of {tasks.schema.num_keypoints} points of scheme '{tasks.schema.name}', "
        f"but the model predicts {schema.num_keypoints} of scheme '{schema.name}'"
    )
    if options.competition_csv is not None or options.kaggle_submission is not None:
        name = "--competition-csv" if options.competition_csv is not None else "--kaggle-submission"
        raise KpdetectError(f"{name}: {difference}; use a model of the data set's schema")
    if not set(schema.point_names) <= set(tasks.schema.point_names):
        _LOG.warning(f"{difference}: its crops may be too wide or too tight")


def keypoints_of_rows(results: Sequence[PhotoResult], tasks: TaskList, schema: KeypointSchema) -> Floats:
    """The keypoints of the data set's rows, in their order: (N, K, 2), NaN for a photograph that was not predicted."""
    keypoints = np.full((tasks.num_rows, schema.num_keypoints, 2), np.nan, np.float32)
    for result in results:
        for row, face in zip(result.task.rows, result.faces, strict=True):
            keypoints[row] = face.keypoints
    return keypoints


def warn_of_names(results: Sequence[PhotoResult], csv_file: str) -> None:
    """Warns of photographs whose names are escaped in a CSV, which cannot be found by them."""
    names = [result.task.path for result in results if not is_utf8(result.task.path)]
    if names:
        _LOG.warning(
            f"{csv_file}: {len(names)} file names are not UTF-8 and are escaped, such as "
            f"{names[0]}; rename the files to use the CSV as a data set"
        )


def _opened(path: str | None) -> AbstractContextManager[Path | None]:
    return nullcontext() if path is None else atomic_file(path)


def _predict_all(
    predictor: Predictor, tasks: Sequence[PhotoTask], draw: Draw, options: PredictOptions
) -> list[PhotoResult]:
    """Predicts every photograph; a bad one is reported and left out.

    Raises:
        KpdetectError: No photograph could be predicted, or the disk is full.
    """
    from tqdm import tqdm  # here, since the library itself needs no progress bar

    def predict(task: PhotoTask) -> tuple[PhotoTask, PhotoResult | KpdetectError]:
        try:
            return task, _predict_one(predictor, task, draw, options.measures)
        except KpdetectError as error:
            return task, error

    out = sys.stderr if options.json == "-" else sys.stdout
    several = len(tasks) > 1
    results: list[PhotoResult] = []
    problems: list[str] = []
    done = in_order(predict, tasks, min(predictor.default_workers, len(tasks)))
    for task, result in tqdm(done, total=len(tasks), unit="photo", file=sys.stderr, disable=None if several else True):
        if isinstance(result, PhotoResult):
            results.append(result)
            tqdm.write(result.line(), file=out)
        else:
            error = result
            if is_disk_full(error):
                raise error  # the other photographs would fail too
            problems.append(str(error) if task.path in str(error) else f"{task.path}: {error}")
            if several:
                tqdm.write(f"kpdetect: {printable(problems[-1])}", file=sys.stderr)
    if not results:
        raise KpdetectError(f"none of the {len(tasks)} photographs could be predicted" if several else problems[0])
    return results


def _predict_one(predictor: Predictor, task: PhotoTask, draw: Draw, with_measures: bool) -> PhotoResult:
    pixels = task.read(task.path)
    (result,) = predictor.results([pixels], [task.boxes])
    faces = result.faces
    if task.drawing is not None:
        write_image(task.drawing, draw(pixels, faces))
    for number, face in enumerate(faces, 1):
        chip_file = task.chip_file(number)
        if chip_file is not None:
            write_image(chip_file, face_chip(pixels, face))
    measures = [measure(face) for face in faces] if with_measures else None
    return PhotoResult(task, (pixels.shape[0], pixels.shape[1]), faces, measures, result.below_min_score)
