"""The training command: loads faces, fits a model, measures it and writes the run folder."""

import dataclasses
import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from kpdetect import __version__, models
from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.geometry import Floats, to_pixels
from kpdetect.core.references import import_reference
from kpdetect.evaluation.evaluator import CropPredictions, evaluate_predictions, mirrored_predictions
from kpdetect.evaluation.reporting import region_table, result_row, warn_of_mean_face, write_training_pictures
from kpdetect.evaluation.results import write_rows
from kpdetect.evaluation.uncertainty import reliability_table, uncertainty_errors
from kpdetect.modelfile.bundle import WEIGHTS_FILE, save_bundle, write_spec
from kpdetect.modelfile.spec import SPEC_FILE, Spec
from kpdetect.models import losses
from kpdetect.recipes import Recipe, TrainOptions, choose_recipe
from kpdetect.training import RESULT_FILE
from kpdetect.training.checkpoints import Progress
from kpdetect.training.checks import RUN_FILE, check_folder
from kpdetect.training.devices import enable_determinism
from kpdetect.training.distributed.options import check_worker_options
from kpdetect.training.distributed.processes import Processes
from kpdetect.training.faces import FaceSplit, adapt_recipe, load_faces
from kpdetect.training.fit import fit
from kpdetect.training.transfer import (
    describe_teachers,
    load_source,
    may_overlap_validation,
    transfer,
    with_provenance,
)
from kpdetect.training.uncertainty_calibration import calibrate_predictions, predict_faces, predict_function_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        folder: The run folder.
        report: Errors on the validation faces, and the files, as text; empty in a process that writes no files.
    """

    folder: Path
    report: str = ""


def train(options: TrainOptions, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Path:
    """Trains a model, measures it on its validation faces and writes a run folder, which is also a bundle.

    The progress and the result are log messages; `kpdetect.core.log.show_messages` prints them, as the command does.

    Args:
        options: The options of ``kpdetect train``.
        callbacks: Further Keras callbacks, besides those that ``options.callbacks`` names.

    Returns:
        The run folder. It holds ``spec.json`` and ``model.weights.h5``, ``history.csv``, ``result.csv``, ``run.json``,
        ``checkpoints/`` and the pictures of `kpdetect.evaluation.reporting.write_training_pictures`.

    Raises:
        KpdetectError: A name, the data or the folder is wrong. Nothing is written if this is found before training.
        Interrupted: SIGINT or SIGTERM arrived; ``resume=True`` continues from the saved state.

    Example:
        >>> folder = train(TrainOptions(data="synthetic:200", epochs=1, out="runs/first"))  # doctest: +SKIP
        >>> Predictor(folder)("photo.jpg")  # doctest: +SKIP
    """
    result = run_training(options, callbacks)
    if result.report:
        _LOG.info(result.report)
    return result.folder


def run_training(
    options: TrainOptions, callbacks: Sequence[keras.callbacks.Callback] = (), processes: Processes | None = None
) -> TrainingResult:
    """Like `train`, and also returns the report that the command prints.

    Args:
        options: See `train`.
        callbacks: See `train`.
        processes: The processes that train together, of which this is one. None trains in this process, or on
            ``options.workers``.
    """
    if processes is None and options.workers is not None:
        return _train_on_workers(options, callbacks)
    processes = processes or Processes()
    enable_determinism(options)
    recipe = choose_recipe(options)
    losses.build(recipe.loss, recipe.loss_unit)  # reports an unknown loss before the data are read
    if options.architecture and ":" in options.architecture:
        models.register_architecture(options.architecture)(import_reference(options.architecture, "--architecture"))
    callbacks = [*callbacks, *(_load_callback(reference) for reference in options.callbacks)]
    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise MissingExtra("tensorboard", "train", "--tensorboard")
    folder = Path(options.out or f"runs/{recipe.name}")
    if processes.place.first:
        check_folder(folder, options)
    source, teachers = load_source(recipe, folder), describe_teachers(recipe)

    faces = load_faces(options, recipe)
    recipe = adapt_recipe(recipe, faces)
    spec = make_spec(options, recipe, faces)
    for model_source, role in ((source, "start"), (teachers, "teacher")):
        if may_overlap_validation(model_source, faces.val.name, spec.extra["split"]):
            note = f"{faces.split_name}; the {role} may have been trained on some of it"
            faces = dataclasses.replace(faces, split_name=note)
    transferred = transfer(source, spec, recipe.start.freeze_epochs)
    spec = with_provenance(with_provenance(spec, source), teachers, "taught_by")

    if processes.place.first:
        prepare_folder(folder, options, spec)
        processes.run_started()
    keras.utils.set_random_seed(options.seed)
    network, progress, mean_label = fit(options, recipe, spec, transferred, faces, folder, processes, callbacks)

    if not processes.place.first:
        return TrainingResult(folder)
    return TrainingResult(folder, measure_and_write(network, progress, mean_label, faces, spec, folder))


def _train_on_workers(options: TrainOptions, callbacks: Sequence[keras.callbacks.Callback]) -> TrainingResult:
    if callbacks:
        raise KpdetectError("workers are other processes: name the callbacks in the option callbacks, as MODULE:CLASS")
    check_worker_options(options)
    from kpdetect.training.distributed.run import train_on_workers  # imports Ray, which is an extra

    folder = Path(options.out or f"runs/{options.recipe}")
    check_folder(folder, options)
    return TrainingResult(folder, train_on_workers(options))


def _load_callback(reference: str) -> keras.callbacks.Callback:
    """The callback that a word of ``--callbacks`` names."""
    callback = import_reference(reference, "--callbacks")()
    if not isinstance(callback, keras.callbacks.Callback):
        raise KpdetectError(f"--callbacks {reference}: expected a keras.callbacks.Callback, received {callback!r}")
    return callback


def prepare_folder(folder: Path, options: TrainOptions, spec: Spec) -> None:
    """Removes an older run with ``--overwrite``, and writes the settings of a new one to ``run.json``."""
    if options.resume:
        return
    if options.overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    with atomic_file(folder / RUN_FILE) as temporary:
        settings = {"options": dataclasses.asdict(options), "spec": json.loads(spec.to_json())}
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def make_spec(options: TrainOptions, recipe: Recipe, faces: FaceSplit) -> Spec:
    """The description of the model to train, without measured errors."""
    return Spec(
        schema=faces.train.schema,
        architecture=recipe.architecture,
        architecture_options=dict(recipe.architecture_options),
        crop=recipe.crop,
        channels=recipe.channels,
        recipe=recipe.name,
        data=tuple(faces.train.name.split("+")),
        terms=faces.train.terms,
        errors=(),
        files={},
        kpdetect_version=__version__,
        extra={"name": recipe.name, "seed": options.seed, "split": faces.rule, "training": recipe.to_dict()},
    )


def measure_and_write(
    network: keras.Model, progress: Progress, mean_label: Floats, faces: FaceSplit, spec: Spec, folder: Path
) -> str:
    """Measures a trained network on its validation faces; writes the bundle, the result row and the pictures.

    Returns:
        The report.
    """
    predictions, spec = calibrate_predictions(predict_faces(network, faces.val, spec), network, faces.val, spec)
    size = {"parameters": models.count_parameters(network), "macs": models.count_macs(network)}
    learned = {"epochs": progress.best_epoch, "mean_target": mean_label.round(5).tolist()}
    spec = dataclasses.replace(spec, extra={**spec.extra, **size, **learned})
    predict = predict_function_of(network)
    measured = evaluate_predictions(
        CropPredictions(
            crops=predictions.crops,
            truth=to_pixels(predictions.truth, spec.crop.size_hw),
            predicted=to_pixels(predictions.output.keypoints, spec.crop.size_hw),
            mirrored=mirrored_predictions(lambda crops: predict(crops).keypoints, predictions.crops, spec),
        ),
        faces.val,
        spec,
    )

    # The bundle is written to a draft folder first: its spec contains the size of its weights file.
    draft = folder / ".bundle"
    spec = save_bundle(network, spec, draft, overwrite=True)
    weights_size = (draft / WEIGHTS_FILE).stat().st_size
    row = result_row(spec, WEIGHTS_FILE, faces.val, measured, faces.split_name, "truth", weights_size)
    write_spec(dataclasses.replace(spec, errors=(dataclasses.asdict(row),)), draft)
    for name in (WEIGHTS_FILE, SPEC_FILE):
        os.replace(draft / name, folder / name)
    draft.rmdir()
    write_rows(folder / RESULT_FILE, [row])
    pictures = write_training_pictures(progress.history, measured, faces.val.schema, folder)

    lines = [row.sentence(), region_table(measured.regions)]
    if spec.uncertainty:
        judged = uncertainty_errors(predictions.output, predictions.truth, faces.val, spec)
        lines.append(reliability_table(judged.reliability(), row.normaliser))
    warn_of_mean_face(measured)
    files = (folder / WEIGHTS_FILE, folder / "history.csv", folder / RESULT_FILE, *pictures)
    return "\n".join([*lines, *(f"  {file}" for file in files)])
