"""Compiles a network for training: loss, optimizer, learning-rate schedule and frozen layers."""

from collections.abc import Collection
from typing import Any

import keras

from kpdetect.core.errors import unknown_name
from kpdetect.core.schema import KeypointSchema
from kpdetect.models import losses
from kpdetect.models.metrics_keras import NormalizedMeanError
from kpdetect.models.optimizers import Adam, AdamW, OffsetSchedule
from kpdetect.recipes import Optimization, Recipe

OPTIMIZERS = {"adam": Adam, "adamw": AdamW, "sgd": keras.optimizers.SGD}


def compile_model(
    model: keras.Model,
    recipe: Recipe,
    schema: KeypointSchema,
    total_steps: int,
    first_step: int = 0,
    frozen: Collection[str] = (),
    jit_compile: bool = False,
) -> None:
    """Compiles a network with a recipe's loss, metric and optimizer; the optimizer starts from zero.

    The optimizer is built on every variable, including those of frozen layers, so that its state has the same layout
    in every stage and can be restored. Keras does not update or decay the variables of frozen layers.

    Args:
        model: A network of `kpdetect.models.build`, passed through `kpdetect.models.for_training`.
        recipe: Loss, optimizer and crop.
        schema: The points of the model.
        total_steps: Steps of the whole learning-rate schedule.
        first_step: Step of the schedule to start from.
        frozen: Names of layers whose weights stay unchanged. Frozen batch normalization runs in inference mode.
        jit_compile: Compile the training step with XLA.

    Raises:
        KpdetectError: The loss, the optimizer or the schedule does not exist.

    Example:
        >>> compile_model(model, recipe, IBUG68, total_steps=1000)  # doctest: +SKIP
        >>> model.fit(batches, steps_per_epoch=100, epochs=10)  # doctest: +SKIP
    """
    unfreeze(model)
    variables = model.trainable_variables
    for name in frozen:
        model.get_layer(name).trainable = False
    model.compile(
        optimizer=build_optimizer(recipe.optimization, total_steps, first_step),
        loss=losses.build(recipe.loss, recipe.loss_unit),
        weighted_metrics=[NormalizedMeanError(schema, recipe.crop.size_hw)],
        jit_compile=jit_compile,
    )
    model.optimizer.build(variables)


def unfreeze(model: keras.Model) -> None:
    """Makes every layer trainable."""
    for layer in model.layers:
        layer.trainable = True


def build_optimizer(settings: Optimization, total_steps: int, first_step: int = 0) -> keras.optimizers.Optimizer:
    """An optimizer with the learning-rate schedule of a recipe.

    Args:
        settings: Optimizer, learning rate and schedule.
        total_steps: Steps of the whole schedule.
        first_step: Step of the schedule at which the optimizer starts.

    Raises:
        KpdetectError: The optimizer or the schedule does not exist.

    Example:
        >>> optimizer = build_optimizer(Optimization("adamw", 1e-3, "cosine", 0.05, 1e-4), total_steps=1000)
        >>> float(optimizer.learning_rate)  # the warm-up starts at zero
        0.0
    """
    rate = _learning_rate(settings, total_steps)
    if first_step and settings.schedule != "constant":
        rate = OffsetSchedule(rate, first_step)
    if settings.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", settings.optimizer, OPTIMIZERS)
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=settings.momentum)
    if settings.optimizer == "adam":
        return Adam(rate, epsilon=settings.epsilon)
    optimizer = AdamW(rate, weight_decay=settings.weight_decay, epsilon=settings.epsilon)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _learning_rate(settings: Optimization, total_steps: int) -> Any:
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule != "cosine":
        raise unknown_name("schedule", settings.schedule, ["constant", "cosine"])
    warmup_steps = round(settings.warmup_fraction * total_steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else settings.learning_rate,
        decay_steps=max(total_steps - warmup_steps, 1),
        warmup_target=settings.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
