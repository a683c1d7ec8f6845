"""Owns a training from labelled faces to a run folder: bundle, log, pictures and a result row."""

import dataclasses
import importlib.util
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kpdetect import __version__, cli, losses, models
from kpdetect.atomic import atomic_file
from kpdetect.bundle import WEIGHTS_FILE, save_bundle
from kpdetect.datasets import Annotations, labelled, load, split_by_subject
from kpdetect.errors import KpdetectError, MissingExtra
from kpdetect.feeding import framing_of, transforms_of, validation_batches
from kpdetect.fitting import Checkpoints, KeepState, Progress, StopWhenNotFinite, compile_model, thaw
from kpdetect.geometry import Floats
from kpdetect.pipeline import BatchOptions, build_cache, training_batches
from kpdetect.recipes import Recipe, TrainOptions, choose_recipe
from kpdetect.reporting import region_table, result_row, warn_of_mean_face, write_training_pictures
from kpdetect.results import ResultRow, write_rows
from kpdetect.scoring import Evaluation, evaluate, mean_face_error
from kpdetect.spec import SPEC_FILE, Spec
from kpdetect.transfer import Taken, credited, may_have_seen, open_source, take

RUN_FILE, RESULT_FILE = "run.json", "result.csv"


@dataclass(frozen=True)
class Faces:
    """The faces of a training.

    Attributes:
        train: Rows to learn from.
        val: Rows to validate on.
        split: How result rows call the validation part.
    """

    train: Annotations
    val: Annotations
    split: str


def train(options: TrainOptions) -> Path:
    """Trains, measures and writes a run folder; gives its path.

    Raises:
        KpdetectError: A name, the data or the folder is not right; nothing is written then.
    """
    recipe = choose_recipe(options)
    losses.build(recipe.loss, recipe.loss_unit)  # a wrong name is told before the data are read
    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise MissingExtra("tensorboard", "train", "--tensorboard")
    folder = Path(options.out or f"runs/{recipe.name}")
    check_folder(folder, options)
    source = open_source(recipe, folder)
    faces = load_faces(options, recipe)
    spec = make_spec(options, recipe, faces)
    if may_have_seen(source, faces.val.name, spec.extra["split"]):
        faces = dataclasses.replace(faces, split=f"{faces.split}; the start may have seen some of it")
    spec, taken = credited(spec, source), take(source, spec, recipe.start.freeze_epochs)
    prepare_folder(folder, options, spec)
    keras.utils.set_random_seed(options.seed)
    trained = _fit(options, recipe, faces, spec, taken, folder)
    return _finish(trained, faces, spec, folder)


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


def load_faces(options: TrainOptions, recipe: Recipe) -> Faces:
    """Reads the data and splits it by subject, or reads the validation data that was named.

    Raises:
        KpdetectError: The two sets are labelled with different points, or one with none.
    """
    data = labelled(load(options.data or recipe.demo_data, options.skip_bad_rows), "train")
    if options.val_data is not None:
        val = labelled(load(options.val_data, options.skip_bad_rows), "validate")
        _check_same_scheme(data, val)
        faces = Faces(data, val, "all (checkpoint chosen on it)")
    else:
        kept, val, _ = split_by_subject(data, options.val_fraction, options.seed)
        faces = Faces(kept, val, "val by subject (checkpoint chosen on it)")
    _say_faces(faces)
    return faces


def _check_same_scheme(data: Annotations, val: Annotations) -> None:
    if data.schema.point_names != val.schema.point_names:
        raise KpdetectError(
            f"'{data.name}' is labelled with the points of scheme '{data.schema.name}', "
            f"'{val.name}' with those of '{val.schema.name}': name --val-data of the same points"
        )


def _say_faces(faces: Faces) -> None:
    for part, rows in (("train", faces.train), ("validate", faces.val)):
        subjects = len(np.unique(rows.subjects))
        print(f"{part:8} {len(rows)} faces of {subjects} subjects: {rows.name}", file=sys.stderr)
    skipped = faces.train.skipped
    if skipped:
        print(f"went on without {skipped} bad rows", file=sys.stderr)


def make_spec(options: TrainOptions, recipe: Recipe, faces: Faces) -> Spec:
    """What the model will say of itself, before it is measured."""
    split = {"val_fraction": options.val_fraction, "seed": options.seed} if options.val_data is None else {}
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
        extra={"name": recipe.name, "seed": options.seed, "split": split, "training": recipe.to_dict()},
    )


def _fit(options: TrainOptions, recipe: Recipe, faces: Faces, spec: Spec, taken: Taken, folder: Path) -> "Trained":
    """Builds, and fits stage by stage; ends with the weights of the best epoch."""
    file = Path(options.cache) if options.cache else None
    cache = build_cache(faces.train, framing_of(recipe), recipe.channels, file, skip_bad=options.skip_bad_rows)
    steps = max(1, round(len(cache) / recipe.batch_size))
    strategy = _strategy(options)
    with strategy.scope():
        model = models.build(recipe.architecture, spec.num_keypoints, spec.input_shape, recipe.architecture_options)
        taken.put_into(model)
    checkpoints = Checkpoints(folder / "checkpoints")
    fingerprint = {
        "recipe": recipe.to_dict(),
        "data": list(spec.data),
        "faces": len(cache),
        "seed": options.seed,
        "started_from": taken.identity,
    }
    progress = checkpoints.progress(fingerprint) if options.resume else Progress()
    if progress.epoch:
        print(f"going on after epoch {progress.epoch}", file=sys.stderr)
    keeper = KeepState(checkpoints, progress, fingerprint, folder / "history.csv", recipe.patience, taken.freeze_epochs)
    transforms, validation = transforms_of(recipe, faces.train.schema), validation_batches(faces.val, recipe)
    for stage in taken.stages(recipe.epochs):
        with strategy.scope():
            span = steps * recipe.epochs, steps * stage.start
            compile_model(model, recipe, spec, stage.frozen, span, options.jit_compile)
        if stage.holds(progress.epoch):
            checkpoints.restore(checkpoints.last, model, fingerprint)
        if progress.epoch < stage.end and not keeper.out_of_patience:
            batches = BatchOptions(recipe.crop.size_hw, recipe.batch_size, options.seed, progress.epoch * steps)
            model.fit(
                training_batches(cache, transforms, faces.train.schema, batches),
                steps_per_epoch=steps,
                shuffle=False,  # the stream is shuffled already
                epochs=stage.end,
                initial_epoch=progress.epoch,
                validation_data=validation,
                callbacks=[StopWhenNotFinite(), keeper, *_tensorboard(options, folder)],
            )
    thaw(model)
    checkpoints.restore(checkpoints.best, model, fingerprint)
    relative = np.where(cache.visible[..., None], cache.relative_keypoints(recipe.crop.size_hw), np.float32(np.nan))
    return Trained(model, progress, relative)


@dataclass(frozen=True)
class Trained:
    """A model with its best weights, and how it came there.

    Attributes:
        model: The model, compiled.
        progress: Its history.
        train_relative: (M, K, 2), the training labels relative to their crops; NaN where a point is not visible.
    """

    model: keras.Model
    progress: Progress
    train_relative: Floats


def _strategy(options: TrainOptions) -> tf.distribute.Strategy:
    """Every GPU there is, or the processor; says which, and sets the precision."""
    with cli.quietly("looking for GPUs"):
        gpus = tf.config.list_physical_devices("GPU")
    if options.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_float16" if gpus else "mixed_bfloat16")
    precision = keras.mixed_precision.dtype_policy().name
    where = f"{len(gpus)} GPU{'s' * (len(gpus) > 1)}" if gpus else f"the processor, {os.cpu_count()} cores"
    print(f"training on {where}, {precision}", file=sys.stderr)
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def _tensorboard(options: TrainOptions, folder: Path) -> list[keras.callbacks.Callback]:
    return [keras.callbacks.TensorBoard(str(folder / "tensorboard"))] if options.tensorboard else []


def _finish(trained: Trained, faces: Faces, spec: Spec, folder: Path) -> Path:
    """Measures the best weights, writes everything a run leaves behind, and says where it is."""

    def predict(crops: npt.NDArray[np.uint8]) -> Floats:
        return np.asarray(trained.model.predict_on_batch(crops), np.float32)

    cost = {"parameters": models.count_parameters(trained.model), "macs": models.count_macs(trained.model)}
    spec = dataclasses.replace(spec, extra={**spec.extra, **cost, "epochs": trained.progress.best_epoch})
    measured = evaluate(predict, faces.val, spec)
    mean_face = mean_face_error(trained.train_relative, faces.val, spec)
    row = _write_bundle(trained.model, spec, faces, measured, folder)
    pictures = write_training_pictures(trained.progress.history, measured, folder)
    print(row.sentence())
    print(region_table(measured.regions))
    print(f"  the mean face, for comparison: NME {100 * mean_face:.2f} % ({row.normaliser})")
    warn_of_mean_face(measured)
    for file in (folder / WEIGHTS_FILE, folder / "history.csv", folder / RESULT_FILE, *pictures):
        print(f"  {file}")
    return folder


def _write_bundle(model: keras.Model, spec: Spec, faces: Faces, measured: Evaluation, folder: Path) -> ResultRow:
    """The run folder is itself the bundle: weights, spec.json with the measured row, and the row as CSV."""
    draft = folder / ".bundle"
    save_bundle(model, spec, draft, overwrite=True)
    size = (draft / WEIGHTS_FILE).stat().st_size
    row = result_row(spec, WEIGHTS_FILE, faces.val, measured, (faces.split, "truth"), size)
    save_bundle(model, dataclasses.replace(spec, errors=(dataclasses.asdict(row),)), draft, overwrite=True)
    for name in (WEIGHTS_FILE, SPEC_FILE):
        os.replace(draft / name, folder / name)
    draft.rmdir()
    write_rows(folder / RESULT_FILE, [row])
    return row
