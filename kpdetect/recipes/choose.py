"""The named recipes, and the options of ``kpdetect train`` that override them. Imports no TensorFlow."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.options import option
from kpdetect.recipes import overrides
from kpdetect.recipes.own import compact, compact_112, efficientnet, mobilenet
from kpdetect.recipes.recipe import Optimization, Recipe, Start
from kpdetect.recipes.student_projects import batchnorm, fourconv, ibug_large, imm_full, imm_nose, naimish, twoconv


@dataclass(frozen=True)
class TrainOptions:
    """Trains a model with a named recipe.

    Without arguments it trains the recipe `compact-112` on synthetic faces: no download, minutes on two cores.
    Options that are not given default to those of the recipe.
    """

    recipe: str = option(
        "compact-112", "recipe: architecture, crop, augmentation, loss and schedule; an unknown name lists all"
    )
    architecture: str | None = option(
        None, "own network instead of the recipe's, a function (num_keypoints, input_shape)", metavar="MODULE:FUNCTION"
    )
    data: str | None = option(
        None,
        "labelled faces: youtube-faces:DIR, ibug:DIR, imm:DIR, csv:FILE, synthetic:N, or several by comma",
        metavar="SPEC[,SPEC]",
    )
    val_data: str | None = option(
        None, "faces to validate on; by default, a share of the subjects of --data is held out", metavar="SPEC"
    )
    out: str | None = option(None, "run folder (default: runs/RECIPE)", metavar="DIR")
    epochs: int | None = option(None, "number of passes over the data", metavar="N")
    batch_size: int | None = option(None, "faces per step, over all GPUs and machines", metavar="N")
    learning_rate: float | None = option(None, "peak learning rate of the schedule", metavar="X")
    optimizer: str | None = option(None, "optimizer", choices=("adam", "adamw", "sgd"))
    loss: str | None = option(None, "loss: mse, l1, smooth_l1 or wing")
    patience: int | None = option(None, "stop after N epochs without a better validation NME; 0: never", metavar="N")
    set: tuple[str, ...] = option(
        (),
        "other fields of the recipe: augmentation.scale=0.3 architecture_options.blocks=1:1:2",
        metavar="NAME=VALUE",
        words=True,
    )
    seed: int = option(0, "random seed of weights, order, augmentation and split", metavar="N")
    val_fraction: float | None = option(None, "share of the subjects held out for validation", metavar="X")
    test_fraction: float | None = option(
        None, "share of the subjects held out for kpdetect evaluate --split test", metavar="X"
    )
    align_labels: bool = option(False, "correct the known label shifts of data sets to the convention of 300-W")
    teacher: str | None = option(
        None,
        "teacher models: average their predictions with the labels, half and half; for one data set only: "
        "--set distillation.data=SET",
        metavar="BUNDLE[,BUNDLE]",
    )
    cache: str | None = option(
        None,
        "store decoded crops in this folder and reuse it in later runs on the same faces; by default, in memory",
        metavar="DIR",
    )
    init_from: str | None = option(
        None,
        "copy the weights of this bundle, run folder or shipped model (compact); layers of other shapes are random",
        metavar="MODEL",
    )
    weights: str | None = option(
        None, "initial weights of the backbone of efficientnet or mobilenet", choices=("imagenet", "none")
    )
    freeze_epochs: int | None = option(None, "keep copied layers frozen for the first N epochs", metavar="N")
    backend: str | None = option(
        None,
        "Keras backend (default: KERAS_BACKEND or Keras' configuration, else tensorflow)",
        choices=("tensorflow", "jax"),
    )
    workers: int | None = option(
        None, "train on N workers of Ray with Keras on JAX, on this machine or a cluster (--address)", metavar="N"
    )
    address: str | None = option(
        None,
        "of --workers: use a running Ray cluster; each machine needs kpdetect and all files under the same paths",
        metavar="HOST:PORT",
    )
    resources_per_worker: tuple[str, ...] = option(
        (), "of --workers: what Ray reserves for each, such as CPU=2,GPU=1 (default: CPU=1)", metavar="NAME=N[,…]"
    )
    max_failures: int = option(
        3, "of --workers: restart from the last checkpoint at most N times when workers die", metavar="N"
    )
    mixed_precision: bool | None = option(
        None,
        "compute in float16 on GPUs, in bfloat16 elsewhere; default: on for the compact recipes with TensorFlow on "
        "CPUs with AVX512-BF16 or AMX",
    )
    jit_compile: bool = option(False, "compile the training step with XLA: faster on GPUs, slower to start")
    callbacks: tuple[str, ...] = option(
        (), "Keras callbacks to add, each called without arguments", metavar="MODULE:CLASS[,…]"
    )
    tensorboard: bool = option(False, "write curves and pictures of predictions for TensorBoard to DIR/tensorboard")
    deterministic: bool = option(False, "bit-reproducible losses for one seed and machine; about 2 % slower")
    checkpoint_every: int | None = option(
        None,
        "steps between checkpoints within an epoch; 0: only after each epoch; default: 100, or more where writing "
        "would take over 5 % of the time",
        metavar="N",
    )
    resume: bool = option(False, "continue the run in --out from its last checkpoint")
    overwrite: bool = option(False, "remove the run in --out and start a new one")
    skip_bad_rows: bool = option(False, "skip rows and images with errors, and print their number")


RECIPES: dict[str, Callable[[], Recipe]] = {
    "compact-112": compact_112,
    "compact": compact,
    "efficientnet": efficientnet,
    "mobilenet": mobilenet,
    "fourconv": fourconv,
    "batchnorm": batchnorm,
    "twoconv": twoconv,
    "naimish": naimish,
    "imm-nose": imm_nose,
    "imm-full": imm_full,
    "ibug-large": ibug_large,
}


def choose_recipe(options: TrainOptions) -> Recipe:
    """The recipe that the options name, with the settings that they override.

    Args:
        options: Options of ``kpdetect train``.

    Raises:
        KpdetectError: The recipe or a field does not exist (the message suggests the nearest name), or a number is out
            of range.

    Example:
        >>> recipe = choose_recipe(TrainOptions("compact", data="csv:faces.csv", epochs=5))
        >>> recipe.epochs, recipe.crop.size_hw
        (5, (160, 160))
    """
    if options.recipe not in RECIPES:
        raise unknown_name("recipe", options.recipe, RECIPES)
    _check_numbers(options)
    recipe = _with_fields(RECIPES[options.recipe](), options.set)
    epochs = recipe.demo_epochs if options.data is None else recipe.epochs
    return dataclasses.replace(
        recipe,
        architecture=options.architecture or recipe.architecture,
        loss=options.loss or recipe.loss,
        optimization=_optimization(recipe.optimization, options),
        start=_start(recipe, options),
        batch_size=_given(options.batch_size, recipe.batch_size),
        epochs=_given(options.epochs, epochs),
        patience=_given(options.patience, recipe.patience),
        val_fraction=recipe.val_fraction if options.val_fraction is None else options.val_fraction,
        val_subjects=recipe.val_subjects if options.val_fraction is None else (),
        distillation=dataclasses.replace(
            recipe.distillation, models=_teachers(options.teacher) or recipe.distillation.models
        ),
        align_labels=options.align_labels or recipe.align_labels,
        test_fraction=recipe.test_fraction if options.test_fraction is None else options.test_fraction,
    )


def _teachers(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def _with_fields(recipe: Recipe, words: Sequence[str]) -> Recipe:
    """The recipe with fields changed by ``NAME=VALUE``; fields that have an option of their own are refused."""
    options = {field.name for field in dataclasses.fields(TrainOptions)}
    for word in words:
        name, value = overrides.split_word(word)
        if name in options:
            raise KpdetectError(
                f"--set {word}: expected a field without an option of its own; use --{name.replace('_', '-')}"
            )
        recipe = overrides.changed(recipe, name, value)
    return recipe


def _check_numbers(options: TrainOptions) -> None:
    for name, least in (
        ("epochs", 1),
        ("batch_size", 1),
        ("patience", 0),
        ("freeze_epochs", 0),
        ("checkpoint_every", 0),
        ("learning_rate", None),
    ):
        value = getattr(options, name)
        wrong = value is not None and (value <= 0 if least is None else value < least)
        if wrong:
            expected = "a positive number" if least is None else f"{least} or more"
            raise KpdetectError(f"--{name.replace('_', '-')}: expected {expected}, received {value}")


def _optimization(settings: Optimization, options: TrainOptions) -> Optimization:
    return dataclasses.replace(
        settings,
        optimizer=options.optimizer or settings.optimizer,
        learning_rate=settings.learning_rate if options.learning_rate is None else options.learning_rate,
    )


def _start(recipe: Recipe, options: TrainOptions) -> Start:
    """The initial weights; a source model replaces ImageNet weights."""
    start = recipe.start
    init_from = options.init_from or start.init_from
    if options.weights == "imagenet" and start.weights is None:
        raise KpdetectError(
            f"--weights imagenet: recipe '{recipe.name}' has no pretrained backbone; use efficientnet or mobilenet"
        )
    if options.weights == "imagenet" and init_from is not None:
        raise KpdetectError("--weights imagenet and --init-from both set the initial weights: use one of them")
    weights = None if start.weights is None else "none" if init_from else options.weights or start.weights
    if init_from is not None or weights == "imagenet":
        return Start(weights, init_from, _given(options.freeze_epochs, start.freeze_epochs))
    if options.freeze_epochs:
        raise KpdetectError("--freeze-epochs keeps copied layers frozen: name their source, --init-from MODEL")
    return Start(weights)


def _given(override: int | None, default: int) -> int:
    return default if override is None else override
