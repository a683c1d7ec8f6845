"""Owns the fitting itself: cache, network, stages and callbacks, from the beginning or from a kept state."""

import contextlib
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kpdetect import __version__, models
from kpdetect.core.geometry import Floats
from kpdetect.core.signals import stop_on_signals
from kpdetect.data.pipeline import BatchOptions, FaceCache, Share, open_cache, training_batches
from kpdetect.modelfile.spec import Spec
from kpdetect.recipes import Recipe, TrainOptions
from kpdetect.training.callbacks import EVERY, EpochCheckpoint, StepCheckpoint, StopWhenNotFinite
from kpdetect.training.checkpoints import Arrays, Checkpoints, Progress
from kpdetect.training.compile import compile_model, thaw
from kpdetect.training.devices import (
    check_batch_size,
    computing_in,
    precision_of,
    prepare_devices,
    share_statistics,
    with_weights_of,
)
from kpdetect.training.distributed.processes import Place, Processes
from kpdetect.training.faces import Faces
from kpdetect.training.feeding import framing_of, mean_target, transforms_of, validation_batches
from kpdetect.training.transfer import Stage, TransferredLayers


@dataclass(frozen=True)
class TrainingSetup:
    """What is trained.

    Attributes:
        recipe: How.
        spec: What the model will say of itself.
        taken: What it takes of a model before it.
    """

    recipe: Recipe
    spec: Spec
    taken: TransferredLayers

    def network(self) -> keras.Model:
        """The network, with fresh weights."""
        spec = self.spec
        return models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)


@dataclass(frozen=True)
class TrainingResult:
    """A model with its best weights, and how it came there.

    Attributes:
        model: The network.
        progress: Its history.
        mean_target: (K, 2), see `kpdetect.training.feeding.mean_target`.
    """

    model: keras.Model
    progress: Progress
    mean_target: Floats


@dataclass(frozen=True)
class Fitting:
    """What the stages of a training share.

    Attributes:
        model: The network with everything that it learns by.
        batches: Gives the training batches from a step on, counted over all epochs.
        validation: Batches to validate on.
        steps: Steps an epoch.
        every: Steps between two states, as `StepCheckpoint` takes them.
        checkpoints: Where states are kept.
        keeper: Keeps them at each epoch's end, and knows how far the training has come.
        callbacks: Further ones.
    """

    model: keras.Model
    batches: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    steps: int
    every: int | None
    checkpoints: Checkpoints
    keeper: EpochCheckpoint
    callbacks: tuple[keras.callbacks.Callback, ...]

    def fit_stage(self, stage: Stage, metrics: Arrays, stopped: Callable[[], int]) -> None:
        """Fits a compiled model to the stage's end; the rest of an interrupted epoch by itself."""
        progress = self.keeper.progress
        while progress.epoch < stage.end and not self.keeper.out_of_patience:
            amid = StepCheckpoint(self.checkpoints, progress, self.every, stopped, metrics)
            with contextlib.redirect_stdout(sys.stderr):  # results alone go to stdout
                self.model.fit(
                    self.batches(progress.epoch * self.steps + progress.step),
                    steps_per_epoch=self.steps - progress.step,
                    shuffle=False,  # the stream is shuffled already
                    epochs=progress.epoch + 1 if progress.step else stage.end,
                    initial_epoch=progress.epoch,
                    validation_data=self.validation,
                    callbacks=[StopWhenNotFinite(progress.step), self.keeper, amid, *self.callbacks],
                    verbose=1 if sys.stderr.isatty() else 2,  # a bar for people, a line an epoch for files
                )


def fit(
    options: TrainOptions, learner: TrainingSetup, faces: Faces, folder: Path, processes: Processes
) -> TrainingResult:
    """Builds, and fits stage by stage; ends with the weights of the best epoch.

    Raises:
        KpdetectError: The data, a kept state or the disk is not right, or a number is not finite.
        Interrupted: A signal asked for an end; the state is kept.
    """
    recipe, taken, place = learner.recipe, learner.taken, processes.place
    devices = prepare_devices(options, place)
    check_batch_size(recipe.batch_size, devices)
    file = _cache_file(options, place)
    cache = open_cache(faces.train, framing_of(recipe), recipe.channels, file, options.skip_bad_rows)
    steps = max(1, round(len(cache) / recipe.batch_size))
    fingerprint = _fingerprint(options, learner, len(cache))
    processes.check_same({**fingerprint, **_further_settings(options, faces)})
    checkpoints = Checkpoints(folder / "checkpoints", fingerprint, writes=place.first)
    newest = processes.shared_file(checkpoints.newest() if options.resume and place.first else None)
    progress = _begin(checkpoints, newest)
    keeper = EpochCheckpoint(checkpoints, progress, folder / "history.csv", recipe.patience, taken.freeze_epochs)
    batches = _batches(cache, recipe, faces, options.seed, place.share)
    validation = validation_batches(faces.val, recipe, place.share, devices.count)
    with devices.scope():
        with computing_in(precision_of(options)):
            network = learner.network()
            model = models.for_training(network)
            taken.put_into(model)
        share_statistics(model, devices)
        more = _tensorboard(options, folder) if place.first else ()
        fitting = Fitting(model, batches, validation, steps, _states_every(options, place), checkpoints, keeper, more)
        _fit_stages(fitting, learner, newest, options.jit_compile or devices.whole_batch, processes)
        thaw(model)
        checkpoints.restore(processes.shared_file(checkpoints.best) or checkpoints.best, model)
    target = mean_target(cache, recipe, faces.train.schema)
    return TrainingResult(with_weights_of(network, learner.network()), progress, target)


def _fit_stages(
    fitting: Fitting, learner: TrainingSetup, newest: Path | None, jit_compile: bool, processes: Processes
) -> None:
    """Fits stage by stage, from the newest state on."""
    recipe, steps, keeper, checkpoints = learner.recipe, fitting.steps, fitting.keeper, fitting.checkpoints
    progress = keeper.progress
    with stop_on_signals() as came:
        stopped = processes.agreed(came, lambda: progress.epoch * steps + progress.step)
        for stage in learner.taken.stages(recipe.epochs):
            span = steps * recipe.epochs, steps * stage.start
            compile_model(fitting.model, recipe, learner.spec, stage.frozen, span, jit_compile)
            metrics: Arrays = []
            if newest is not None and stage.holds(progress.epoch, progress.step):
                metrics = checkpoints.restore(newest, fitting.model)
            fitting.fit_stage(stage, metrics, stopped)
    keeper.write_history()  # a kill may have come between a state and its line


def _cache_file(options: TrainOptions, place: Place) -> Path | None:
    """Each process has a file of its own: several may be on one machine, or share a disk."""
    if options.cache is None:
        return None
    file = Path(options.cache)
    return file if place.first else file.with_name(f"{file.name}.{place.number}")


def _states_every(options: TrainOptions, place: Place) -> int | None:
    """Left to itself a process goes by its clock, and several would not all look at their weights after one step."""
    return EVERY if options.checkpoint_every is None and place.count > 1 else options.checkpoint_every


def _fingerprint(options: TrainOptions, learner: TrainingSetup, faces: int) -> dict[str, Any]:
    """The settings that a resumed training must share."""
    return {
        "recipe": learner.recipe.to_dict(),
        "data": list(learner.spec.data),
        "faces": faces,
        "seed": options.seed,
        "started_from": learner.taken.identity,
    }


def _further_settings(options: TrainOptions, faces: Faces) -> dict[str, Any]:
    """What processes that train together must share besides."""
    labels = [faces.train.keypoints, faces.train.boxes, faces.val.keypoints, faces.val.boxes]
    return {
        "labels": hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in labels)).hexdigest()[:12],
        "precision": precision_of(options),
        "deterministic": options.deterministic,
        "checkpoint_every": options.checkpoint_every,
        "kpdetect": __version__,
        "keras": keras.__version__,
    }


def _begin(checkpoints: Checkpoints, newest: Path | None) -> Progress:
    if newest is None:
        return Progress()
    progress = checkpoints.progress(newest)
    print(f"going on after {progress}", file=sys.stderr)
    return progress


def _batches(
    cache: FaceCache, recipe: Recipe, faces: Faces, seed: int, share: Share
) -> Callable[[int], tf.data.Dataset]:
    """The training batches from a step on."""
    schema = faces.train.schema
    transforms = transforms_of(recipe, schema)

    def begin(step: int) -> tf.data.Dataset:
        options = BatchOptions(recipe.crop.size_hw, recipe.batch_size, seed, step, share)
        return training_batches(cache, transforms, schema, options)

    return begin


def _tensorboard(options: TrainOptions, folder: Path) -> tuple[keras.callbacks.Callback, ...]:
    return (keras.callbacks.TensorBoard(str(folder / "tensorboard")),) if options.tensorboard else ()
