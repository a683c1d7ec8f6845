"""Owns the fitting itself: cache, network, stages and callbacks, on whatever processors there are."""

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from kpdetect import cli, models
from kpdetect.pipeline import BatchOptions, build_cache, training_batches
from kpdetect.recipes import Recipe, TrainOptions
from kpdetect.spec import Spec
from kpdetect.training.faces import Faces
from kpdetect.training.feeding import framing_of, transforms_of, validation_batches
from kpdetect.training.fitting import Checkpoints, KeepState, Progress, StopWhenNotFinite, compile_model, thaw
from kpdetect.training.transfer import Taken


@dataclass(frozen=True)
class Trained:
    """A model with its best weights, and how it came there.

    Attributes:
        model: The network.
        progress: Its history.
    """

    model: keras.Model
    progress: Progress


def fit(options: TrainOptions, recipe: Recipe, faces: Faces, spec: Spec, taken: Taken, folder: Path) -> Trained:
    """Builds, and fits stage by stage; ends with the weights of the best epoch."""
    file = Path(options.cache) if options.cache else None
    cache = build_cache(faces.train, framing_of(recipe), recipe.channels, file, skip_bad=options.skip_bad_rows)
    steps = max(1, round(len(cache) / recipe.batch_size))
    strategy = _strategy(options)
    with strategy.scope():
        network = models.build(recipe.architecture, spec.num_keypoints, spec.input_shape, recipe.architecture_options)
        model = models.for_training(network)
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
            with contextlib.redirect_stdout(sys.stderr):  # results alone go to stdout
                model.fit(
                    training_batches(cache, transforms, faces.train.schema, batches),
                    steps_per_epoch=steps,
                    shuffle=False,  # the stream is shuffled already
                    epochs=stage.end,
                    initial_epoch=progress.epoch,
                    validation_data=validation,
                    callbacks=[StopWhenNotFinite(), keeper, *_tensorboard(options, folder)],
                    verbose=1 if sys.stderr.isatty() else 2,  # a bar for people, a line an epoch for files
                )
    thaw(model)
    checkpoints.restore(checkpoints.best, model, fingerprint)
    return Trained(network, progress)


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
