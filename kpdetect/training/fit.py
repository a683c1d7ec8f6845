"""Trains one network: build, transfer weights, compile, fit, restore the best epoch."""

import contextlib
import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kpdetect import __version__, models
from kpdetect.core.geometry import Floats
from kpdetect.core.signals import stop_on_signals
from kpdetect.data.pipeline import BatchOptions, open_cache, training_batches
from kpdetect.modelfile.spec import Spec
from kpdetect.recipes import Recipe, TrainOptions
from kpdetect.training.callbacks import DEFAULT_STEPS, EpochCheckpoint, ProgressLines, StepCheckpoint, StopWhenNotFinite
from kpdetect.training.checkpoints import Arrays, Checkpoints, Progress
from kpdetect.training.compile import compile_model, unfreeze
from kpdetect.training.devices import (
    check_batch_size,
    copy_weights,
    dtype_policy,
    plain_graphs,
    precision_of,
    prepare_devices,
    synchronize_batch_norm,
)
from kpdetect.training.distributed.processes import Place, Processes
from kpdetect.training.faces import FaceSplit
from kpdetect.training.feeding import framing_of, mean_target, transforms_of, validation_batches
from kpdetect.training.tensorboard import PredictionPictures
from kpdetect.training.transfer import TransferredLayers

_LOG = logging.getLogger(__name__)


def fit(
    options: TrainOptions,
    recipe: Recipe,
    spec: Spec,
    transferred: TransferredLayers,
    faces: FaceSplit,
    folder: Path,
    processes: Processes,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[keras.Model, Progress, Floats]:
    """Trains a network stage by stage and returns it with the weights of its best epoch.

    Args:
        options: The options of the command.
        recipe: Augmentation, loss, optimizer, batch size and epochs.
        spec: Architecture, schema and crop of the model.
        transferred: Layers copied from a source model, and how long they stay frozen.
        faces: Training and validation faces.
        folder: The run folder. Writes ``history.csv``, ``checkpoints/`` and, on request, ``tensorboard/`` there.
        processes: The processes that train together.
        callbacks: Further Keras callbacks, called after those of the training.

    Returns:
        The network in float32, its history, and the mean training label (K, 2), see
        `kpdetect.training.feeding.mean_target`.

    Raises:
        KpdetectError: The data, a checkpoint or the disk is unusable, or a loss or weight is not finite.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    place = processes.place
    devices = prepare_devices(options, place)
    check_batch_size(recipe.batch_size, devices)

    cache_folder = None if options.cache is None else Path(options.cache)
    if cache_folder is not None and not place.first:  # processes may share a machine or a disk
        cache_folder = cache_folder.with_name(f"{cache_folder.name}.{place.number}")
    cache = open_cache(faces.train, framing_of(recipe), recipe.channels, cache_folder, options.skip_bad_rows)
    schema = faces.train.schema
    transforms = transforms_of(recipe, schema)
    validation = validation_batches(faces.val, recipe, place.share, devices.count)
    epoch_steps = max(1, round(len(cache) / recipe.batch_size))

    # A resumed training, and every process of a distributed one, must have the same settings.
    fingerprint = {
        "recipe": recipe.to_dict(),
        "data": list(spec.data),
        "faces": len(cache),
        "seed": options.seed,
        "started_from": transferred.identity,
    }
    processes.check_same({**fingerprint, **_settings_of_process(options, faces)})

    checkpoints = Checkpoints(folder / "checkpoints", fingerprint, writes=place.first)
    newest = processes.shared_file(checkpoints.newest() if options.resume and place.first else None)
    progress = Progress()
    if newest is not None:
        progress = checkpoints.progress(newest)
        _LOG.info(f"resuming after {progress}")
    epoch_checkpoint = EpochCheckpoint(
        checkpoints, progress, folder / "history.csv", recipe.patience, patience_start=transferred.freeze_epochs
    )
    further_callbacks = _tensorboard_callbacks(options, recipe, faces, folder, place) if place.first else []
    is_terminal = sys.stderr.isatty()

    with devices.scope(), plain_graphs():
        # Build
        with dtype_policy(precision_of(options)):
            network = models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)
            model = models.for_training(network)

        # Transfer weights
        transferred.copy_into(model)
        synchronize_batch_norm(model, devices)

        with stop_on_signals() as received:
            signal_number = processes.agreed(received, lambda: progress.epoch * epoch_steps + progress.step)
            stopped = False
            for stage in transferred.stages(recipe.epochs):
                # Compile
                compile_model(
                    model,
                    recipe,
                    schema,
                    total_steps=epoch_steps * recipe.epochs,
                    first_step=epoch_steps * stage.start,
                    frozen=stage.frozen,
                    jit_compile=options.jit_compile or devices.whole_batch,
                )
                metrics: Arrays = []
                if newest is not None and stage.contains(progress.epoch, progress.step):
                    metrics = checkpoints.restore(newest, model)

                # Fit: first the rest of an interrupted epoch, then the stage's other epochs
                while progress.epoch < stage.end and not (stopped or epoch_checkpoint.out_of_patience):
                    first_step = progress.epoch * epoch_steps + progress.step
                    batch_options = BatchOptions(
                        recipe.crop.size_hw, recipe.batch_size, options.seed, first_step, place.share
                    )
                    step_checkpoint = StepCheckpoint(
                        checkpoints, progress, _steps_between_checkpoints(options, place), signal_number, metrics
                    )
                    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
                        model.fit(
                            training_batches(cache, transforms, schema, batch_options),
                            steps_per_epoch=epoch_steps - progress.step,
                            shuffle=False,  # the batches are shuffled already
                            epochs=progress.epoch + 1 if progress.step else stage.end,
                            initial_epoch=progress.epoch,
                            validation_data=validation,
                            callbacks=[
                                StopWhenNotFinite(progress.step),
                                epoch_checkpoint,
                                step_checkpoint,
                                *([] if is_terminal else [ProgressLines(epoch_steps, recipe.epochs, progress.step)]),
                                *further_callbacks,
                                *callbacks,
                            ],
                            verbose=1 if is_terminal else 2,
                        )
                    stopped = model.stop_training  # by a callback
        epoch_checkpoint.write_history()  # the process may have been killed between a checkpoint and its line

        # Restore the best epoch
        unfreeze(model)
        checkpoints.restore(processes.shared_file(checkpoints.best) or checkpoints.best, model)

    in_float32 = models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)
    return copy_weights(network, in_float32), progress, mean_target(cache, recipe, schema)


def _settings_of_process(options: TrainOptions, faces: FaceSplit) -> dict[str, Any]:
    """Settings that may change when a training is resumed but must agree between processes."""
    labels = [faces.train.keypoints, faces.train.boxes, faces.val.keypoints, faces.val.boxes]
    return {
        "labels": hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in labels)).hexdigest()[:12],
        "precision": precision_of(options),
        "deterministic": options.deterministic,
        "checkpoint_every": options.checkpoint_every,
        "kpdetect": __version__,
        "keras": keras.__version__,
    }


def _steps_between_checkpoints(options: TrainOptions, place: Place) -> int | None:
    """None lets `StepCheckpoint` decide by its clock, which several processes do not share."""
    return DEFAULT_STEPS if options.checkpoint_every is None and place.count > 1 else options.checkpoint_every


def _tensorboard_callbacks(
    options: TrainOptions, recipe: Recipe, faces: FaceSplit, folder: Path, place: Place
) -> list[keras.callbacks.Callback]:
    if not options.tensorboard:
        return []
    callbacks = [keras.callbacks.TensorBoard(str(folder / "tensorboard"))]
    if place.count == 1:  # one of several processes cannot predict alone
        callbacks.append(PredictionPictures(folder / "tensorboard", faces.val, recipe))
    return callbacks
