"""Owns what makes a network ready to fit: its loss, its optimizer and schedule, and which layers learn."""

from collections.abc import Collection
from typing import Any

import keras

from kpdetect.core.errors import unknown_name
from kpdetect.modelfile.spec import Spec
from kpdetect.models import losses
from kpdetect.models.metrics_keras import NormalizedMeanError
from kpdetect.recipes import Optimization, Recipe
from kpdetect.training.optimizers import Adam, AdamW

OPTIMIZERS = {"adam": Adam, "adamw": AdamW, "sgd": keras.optimizers.SGD}


def compile_model(
    model: keras.Model,
    recipe: Recipe,
    spec: Spec,
    frozen: Collection[str],
    span: tuple[int, int],
    jit_compile: bool,
) -> None:
    """Makes a network ready to fit, with an optimizer that has learned nothing yet.

    The optimizer is built on every variable, those of frozen layers too: its state then has the same layout whatever
    is frozen, and a kept one fits. What is frozen it does not move, decay or otherwise touch.

    Args:
        model: The network.
        recipe: Tells loss and optimizer.
        spec: Of the model.
        frozen: The names of layers that stay as they are. A batch normalisation among them runs in inference mode:
            it neither uses nor takes in a batch's statistics.
        span: How many steps the whole schedule has, and how many of them are done.
        jit_compile: Whether XLA compiles the step.
    """
    thaw(model)
    variables = model.trainable_variables
    for name in frozen:
        model.get_layer(name).trainable = False
    model.compile(
        optimizer=build_optimizer(recipe.optimization, *span),
        loss=losses.build(recipe.loss, recipe.loss_unit),
        weighted_metrics=[NormalizedMeanError(spec.schema, recipe.crop.size_hw)],
        jit_compile=jit_compile,
    )
    model.optimizer.build(variables)


def thaw(model: keras.Model) -> None:
    """Lets every layer learn, and count among the trainable ones."""
    for layer in model.layers:
        layer.trainable = True


def build_optimizer(settings: Optimization, total_steps: int, first_step: int = 0) -> keras.optimizers.Optimizer:
    """An optimizer whose schedule spans `total_steps`, and which begins at the schedule's `first_step`.

    Raises:
        KpdetectError: There is no such optimizer or schedule.
    """
    rate = _learning_rate(settings, total_steps)
    if first_step and settings.schedule != "constant":
        rate = LaterPart(rate, first_step)
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


class LaterPart(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # keras tells no types
    """A schedule without its first steps, for an optimizer that counts its own from zero.

    Adam divides its running means by how much they have gathered, which it knows from its count of steps. So where
    layers begin to learn late, the optimizer begins anew, and only the schedule goes on.
    """

    def __init__(self, whole: Any, first_step: int) -> None:
        self.whole, self.first_step = whole, first_step

    def __call__(self, step: Any) -> Any:
        """The rate at the optimizer's own step."""
        return self.whole(step + self.first_step)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"whole": self.whole, "first_step": self.first_step}
