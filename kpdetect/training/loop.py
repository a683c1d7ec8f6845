"""Owns the fitting itself: cache, network, stages and callbacks, from the beginning or from a kept state."""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kpdetect import models
from kpdetect.pipeline import BatchOptions, FaceCache, open_cache, training_batches
from kpdetect.recipes import Recipe, TrainOptions
from kpdetect.spec import Spec
from kpdetect.stopping import stop_on_signals
from kpdetect.training.checkpoints import Arrays, Checkpoints, Progress
from kpdetect.training.devices import (
    computing_in,
    precision_of,
    prepare_devices,
    share_statistics,
    with_weights_of,
)
from kpdetect.training.faces import Faces
from kpdetect.training.feeding import framing_of, transforms_of, validation_batches
from kpdetect.training.fitting import compile_model, thaw
from kpdetect.training.keeping import KeepState, KeepSteps, StopWhenNotFinite, write_history
from kpdetect.training.transfer import Stage, Taken


@dataclass(frozen=True)
class Trained:
    """A model with its best weights, and how it came there.

    Attributes:
        model: The network.
        progress: Its history.
    """

    model: keras.Model
    progress: Progress


@dataclass(frozen=True)
class Fitting:
    """What the stages of a training share.

    Attributes:
        model: The network with everything that it learns by.
        batches: Gives the training batches from a step on, counted over all epochs.
        validation: Batches to validate on.
        steps: Steps an epoch.
        options: The command's.
        checkpoints: Where states are kept.
        keeper: Keeps them at each epoch's end, and knows how far the training has come.
        callbacks: Further ones.
    """

    model: keras.Model
    batches: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    steps: int
    options: TrainOptions
    checkpoints: Checkpoints
    keeper: KeepState
    callbacks: tuple[keras.callbacks.Callback, ...]

    def fit_stage(self, stage: Stage, metrics: Arrays, stopped: Callable[[], int]) -> None:
        """Fits a compiled model to the stage's end; the rest of an interrupted epoch by itself."""
        progress = self.keeper.progress
        while progress.epoch < stage.end and not self.keeper.out_of_patience:
            amid = KeepSteps(self.checkpoints, progress, self.options.checkpoint_every, stopped, metrics)
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


def fit(options: TrainOptions, recipe: Recipe, faces: Faces, spec: Spec, taken: Taken, folder: Path) -> Trained:
    """Builds, and fits stage by stage; ends with the weights of the best epoch.

    Raises:
        KpdetectError: The data, a kept state or the disk is not right, or a number is not finite.
        Interrupted: A signal asked for an end; the state is kept.
    """
    strategy = prepare_devices(options)
    file = Path(options.cache) if options.cache else None
    cache = open_cache(faces.train, framing_of(recipe), recipe.channels, file, options.skip_bad_rows)
    steps = max(1, round(len(cache) / recipe.batch_size))
    with strategy.scope(), computing_in(precision_of(options)):
        network = _network(recipe, spec)
        model = models.for_training(network)
        taken.put_into(model)
    share_statistics(model, strategy)
    checkpoints = Checkpoints(folder / "checkpoints", _fingerprint(options, recipe, spec, taken, len(cache)))
    newest = checkpoints.newest() if options.resume else None
    progress = _begin(checkpoints, newest)
    keeper = KeepState(checkpoints, progress, folder / "history.csv", recipe.patience, taken.freeze_epochs)
    batches, validation = _batches(cache, recipe, faces, options.seed), validation_batches(faces.val, recipe)
    more = _tensorboard(options, folder)
    fitting = Fitting(model, batches, validation, steps, options, checkpoints, keeper, more)
    with stop_on_signals() as stopped:
        for stage in taken.stages(recipe.epochs):
            with strategy.scope():
                span = steps * recipe.epochs, steps * stage.start
                compile_model(model, recipe, spec, stage.frozen, span, options.jit_compile)
            metrics: Arrays = []
            if newest is not None and stage.holds(progress.epoch, progress.step):
                metrics = checkpoints.restore(newest, model)
            fitting.fit_stage(stage, metrics, stopped)
    write_history(folder / "history.csv", progress.history)  # a kill may have come between a state and its line
    thaw(model)
    checkpoints.restore(checkpoints.best, model)
    # In float32, whatever it was trained in: what is measured now is then what the saved weights give.
    return Trained(with_weights_of(network, _network(recipe, spec)), progress)


def _network(recipe: Recipe, spec: Spec) -> keras.Model:
    return models.build(recipe.architecture, spec.num_keypoints, spec.input_shape, recipe.architecture_options)


def _fingerprint(options: TrainOptions, recipe: Recipe, spec: Spec, taken: Taken, faces: int) -> dict[str, Any]:
    """The settings that a resumed training must share."""
    return {
        "recipe": recipe.to_dict(),
        "data": list(spec.data),
        "faces": faces,
        "seed": options.seed,
        "started_from": taken.identity,
    }


def _begin(checkpoints: Checkpoints, newest: Path | None) -> Progress:
    if newest is None:
        return Progress()
    progress = checkpoints.progress(newest)
    print(f"going on after {progress}", file=sys.stderr)
    return progress


def _batches(cache: FaceCache, recipe: Recipe, faces: Faces, seed: int) -> Callable[[int], tf.data.Dataset]:
    """The training batches from a step on."""
    schema = faces.train.schema
    transforms = transforms_of(recipe, schema)

    def begin(step: int) -> tf.data.Dataset:
        options = BatchOptions(recipe.crop.size_hw, recipe.batch_size, seed, step)
        return training_batches(cache, transforms, schema, options)

    return begin


def _tensorboard(options: TrainOptions, folder: Path) -> tuple[keras.callbacks.Callback, ...]:
    return (keras.callbacks.TensorBoard(str(folder / "tensorboard")),) if options.tensorboard else ()
