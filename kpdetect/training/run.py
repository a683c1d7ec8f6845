"""Owns a training from labelled faces to a run folder: bundle, log, pictures and a result row."""

import dataclasses
import importlib.util
import json
import os
import shutil
from pathlib import Path

import keras

from kpdetect import __version__, models
from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.geometry import to_pixels
from kpdetect.data import Annotations
from kpdetect.evaluation.evaluator import CropPredictions, Evaluation, evaluate_predictions, mirrored_predictions
from kpdetect.evaluation.reporting import region_table, result_row, warn_of_mean_face, write_training_pictures
from kpdetect.evaluation.results import ResultRow, write_rows
from kpdetect.evaluation.uncertainty import reliability_table, uncertainty_errors
from kpdetect.modelfile.bundle import WEIGHTS_FILE, save_bundle, write_spec
from kpdetect.modelfile.spec import SPEC_FILE, Spec
from kpdetect.models import losses
from kpdetect.recipes import Recipe, TrainOptions, choose_recipe
from kpdetect.training.devices import demand_determinism
from kpdetect.training.distributed.processes import Processes, joined
from kpdetect.training.faces import Faces, load_faces, suited_to
from kpdetect.training.fit import TrainingResult, TrainingSetup, fit
from kpdetect.training.transfer import may_have_seen, open_source, open_teacher, take, with_provenance
from kpdetect.training.uncertainty_calibration import Look, calibrate_by, look_at, predict_function_of

RUN_FILE, RESULT_FILE = "run.json", "result.csv"


def train(options: TrainOptions) -> Path:
    """Trains, measures and writes a run folder; gives its path.

    Raises:
        KpdetectError: A name, the data or the folder is not right; nothing is written then.
    """
    demand_determinism(options)
    with joined(options) as processes:
        trained, faces, spec, folder = _trained(options, processes)
    return _finish(trained, faces, spec, folder) if processes.place.first else folder


def _trained(options: TrainOptions, processes: Processes) -> tuple[TrainingResult, Faces, Spec, Path]:
    recipe = choose_recipe(options)
    losses.build(recipe.loss, recipe.loss_unit)  # a wrong name is told before the data are read
    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise MissingExtra("tensorboard", "train", "--tensorboard")
    folder = Path(options.out or f"runs/{recipe.name}")
    if processes.place.first:
        check_folder(folder, options)
    source, teacher = open_source(recipe, folder), open_teacher(recipe)
    faces = load_faces(options, recipe)
    recipe = suited_to(recipe, faces)
    spec = make_spec(options, recipe, faces)
    for model, who in ((source, "start"), (teacher, "teacher")):
        if may_have_seen(model, faces.val.name, spec.extra["split"]):
            faces = dataclasses.replace(faces, split=f"{faces.split}; the {who} may have seen some of it")
    spec, taken = (
        with_provenance(with_provenance(spec, source), teacher, "taught_by"),
        take(source, spec, recipe.start.freeze_epochs),
    )
    if processes.place.first:
        prepare_folder(folder, options, spec)
    keras.utils.set_random_seed(options.seed)
    trained = fit(options, TrainingSetup(recipe, spec, taken), faces, folder, processes)
    return trained, faces, spec, folder


def check_folder(folder: Path, options: TrainOptions) -> None:
    """Makes sure that the run folder is free, or is a run that may be gone on with or removed.

    Raises:
        KpdetectError: It is not.
    """
    if options.resume and options.overwrite:
        raise KpdetectError("--resume goes on with a run, --overwrite removes it: choose one")
    holds_run = (folder / RUN_FILE).exists()
    if options.resume and not holds_run:
        raise KpdetectError(f"{folder}: --resume found no run there; leave --resume out to start one")
    if options.resume or not folder.exists():
        return
    if not folder.is_dir():
        raise KpdetectError(f"{folder}: expected a folder for the run, found a file")
    if holds_run and not options.overwrite:
        raise KpdetectError(f"{folder}: holds another run; --resume goes on with it, --overwrite removes it")
    if not holds_run and any(folder.iterdir()):
        raise KpdetectError(f"{folder}: holds files that are no run; choose another --out")


def prepare_folder(folder: Path, options: TrainOptions, spec: Spec) -> None:
    """Empties the folder of an older run where that was asked for, and notes this one's settings."""
    if options.overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    with atomic_file(folder / RUN_FILE) as temporary:
        settings = {"options": dataclasses.asdict(options), "spec": json.loads(spec.to_json())}
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def make_spec(options: TrainOptions, recipe: Recipe, faces: Faces) -> Spec:
    """What the model will say of itself, before it is measured."""
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


def _finish(trained: TrainingResult, faces: Faces, spec: Spec, folder: Path) -> Path:
    """Measures the best weights, writes everything a run leaves behind, and says where it is."""
    network = trained.model
    look, spec = calibrate_by(look_at(network, faces.val, spec), network, faces.val, spec)
    cost = {"parameters": models.count_parameters(network), "macs": models.count_macs(network)}
    learned = {"epochs": trained.progress.best_epoch, "mean_target": trained.mean_target.round(5).tolist()}
    spec = dataclasses.replace(spec, extra={**spec.extra, **cost, **learned})
    measured = _measured(look, network, faces.val, spec)
    row = _write_bundle(network, spec, faces, measured, folder)
    pictures = write_training_pictures(trained.progress.history, measured, folder)
    print(row.sentence())
    print(region_table(measured.regions))
    if spec.uncertainty:
        judged = uncertainty_errors(look.marks, look.truth, faces.val, spec)
        print(reliability_table(judged.reliability(), row.normaliser))
    warn_of_mean_face(measured)
    for file in (folder / WEIGHTS_FILE, folder / "history.csv", folder / RESULT_FILE, *pictures):
        print(f"  {file}")
    return folder


def _measured(look: Look, network: keras.Model, val: Annotations, spec: Spec) -> Evaluation:
    """The errors on faces that the network has marked; only their mirror images are still to be shown to it."""
    mark, size_hw = predict_function_of(network), spec.crop.size_hw
    predictions = CropPredictions(
        crops=look.crops,
        truth=to_pixels(look.truth, size_hw),
        predicted=to_pixels(look.marks.keypoints, size_hw),
        mirrored=mirrored_predictions(lambda crops: mark(crops).keypoints, look.crops, spec),
    )
    return evaluate_predictions(predictions, val, spec)


def _write_bundle(model: keras.Model, spec: Spec, faces: Faces, measured: Evaluation, folder: Path) -> ResultRow:
    """The run folder is itself the bundle: weights, spec.json with the measured row, and the row as CSV."""
    draft = folder / ".bundle"
    spec = save_bundle(model, spec, draft, overwrite=True)
    size = (draft / WEIGHTS_FILE).stat().st_size
    row = result_row(spec, WEIGHTS_FILE, faces.val, measured, faces.split, "truth", size)
    write_spec(dataclasses.replace(spec, errors=(dataclasses.asdict(row),)), draft)
    for name in (WEIGHTS_FILE, SPEC_FILE):
        os.replace(draft / name, folder / name)
    draft.rmdir()
    write_rows(folder / RESULT_FILE, [row])
    return row
