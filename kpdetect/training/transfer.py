"""Transfer learning: copies layers from a source model, freezes them at first, and records their provenance."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kpdetect import models
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import GREY_OF_RGB
from kpdetect.core.options import quietly
from kpdetect.modelfile import bundle
from kpdetect.modelfile.registry import resolve
from kpdetect.modelfile.spec import Spec
from kpdetect.recipes import Recipe

_LOG = logging.getLogger(__name__)

MAX_LISTED_LAYERS = 6  # randomly initialised layers named in the message; a new head has fewer
IMAGENET_TERMS = "ImageNet (weights under Apache 2.0): the pictures are for non-commercial research."


@dataclass(frozen=True)
class Source:
    """A model whose weights or predictions a training uses.

    Attributes:
        name: The option that named it, for messages.
        weights: Arrays by layer name, in the layer's order.
        data: Names of the data sets it was trained on.
        terms: Terms of those data sets.
        split: The split rule it was trained with; None if not recorded, empty if it was trained without labelled faces.
        identity: Name and sha256, by which ``--resume`` recognises the same weights.

    Example:
        ``load_source(recipe, folder).weights["stem"]``
    """

    name: str
    weights: models.Weights
    data: tuple[str, ...]
    terms: str
    split: Mapping[str, Any] | None
    identity: Mapping[str, str]


@dataclass(frozen=True)
class TransferredLayers:
    """Layers copied from a source model; empty without one.

    Attributes:
        weights: Arrays by layer name, for the layers whose shapes match.
        identity: The identity of the source.
        freeze_epochs: Number of epochs for which these layers stay frozen.
    """

    weights: models.Weights = field(default_factory=dict)
    identity: Mapping[str, str] | None = None
    freeze_epochs: int = 0

    def copy_into(self, model: keras.Model) -> None:
        """Sets the weights of these layers in a model."""
        for name, arrays in self.weights.items():
            model.get_layer(name).set_weights(arrays)

    def stages(self, epochs: int) -> Iterator["Stage"]:
        """The stages of a training: one with these layers frozen, one with all layers trainable."""
        frozen_until = min(self.freeze_epochs, epochs)
        if frozen_until:
            yield Stage(0, frozen_until, frozenset(self.weights))
        if frozen_until < epochs:
            yield Stage(frozen_until, epochs)


@dataclass(frozen=True)
class Stage:
    """A range of epochs with the same frozen layers.

    Attributes:
        start: Number of epochs before the stage.
        end: Number of epochs at the end of the stage.
        frozen: Names of the frozen layers.
    """

    start: int
    end: int
    frozen: frozenset[str] = frozenset()

    def contains(self, epoch: int, step: int = 0) -> bool:
        """Whether a checkpoint saved after `epoch` epochs and `step` steps has the optimizer state of this stage."""
        return self.start <= epoch < self.end if step else self.start < epoch <= self.end


def load_source(recipe: Recipe, run_folder: Path) -> Source | None:
    """Loads the initial weights of a recipe; None if they are random.

    Args:
        recipe: Its ``start`` names a bundle or ``imagenet``.
        run_folder: Folder of the run, which cannot be its own source.

    Raises:
        KpdetectError: The bundle does not exist, has another architecture or is the run folder, or Keras cannot
            download its ImageNet weights.
    """
    if recipe.start.init_from is not None:
        return _from_bundle(recipe, recipe.start.init_from, run_folder)
    if recipe.start.weights == "imagenet":
        return _from_imagenet(recipe)
    return None


def _from_bundle(recipe: Recipe, folder: str, run_folder: Path) -> Source:
    spec, _ = bundle.checked_weights(folder)
    if spec.architecture != recipe.architecture:
        raise KpdetectError(
            f"--init-from {folder}: expected architecture '{recipe.architecture}' of recipe '{recipe.name}', "
            f"received '{spec.architecture}'"
        )
    if resolve(folder).resolve() == run_folder.resolve():
        raise KpdetectError(f"--init-from {folder}: is the folder of this run; choose another --out")
    with quietly(f"loading {folder}"):
        model, spec = bundle.load_bundle(folder)
    return Source(
        name=f"--init-from {folder}",
        weights=models.weights_of(model),
        data=spec.data,
        terms=spec.terms,
        split=_split_of(spec),
        identity={"name": resolve(folder).resolve().name, "sha256": spec.files[bundle.WEIGHTS_FILE]["sha256"]},
    )


def _from_imagenet(recipe: Recipe) -> Source:
    with quietly("loading ImageNet weights"):
        weights = models.PRETRAINED[recipe.architecture](recipe.architecture_options, recipe.channels)
    return Source("--weights imagenet", weights, ("imagenet",), IMAGENET_TERMS, {}, {"name": "imagenet"})


def transfer(source: Source | None, spec: Spec, freeze_epochs: int) -> TransferredLayers:
    """Selects the layers of a source that match the model to train, by name and shape, and prints how many do.

    The first kernel is converted between grey and RGB.

    Args:
        source: The source model; None for random weights.
        spec: The model to train.
        freeze_epochs: Number of epochs for which the copied layers stay frozen. If all layers match, none is frozen,
            because nothing would be trained.

    Returns:
        The matching layers.

    Raises:
        KpdetectError: No layer matches.

    Example:
        >>> transferred = transfer(load_source(recipe, folder), spec, freeze_epochs=2)  # doctest: +SKIP
        >>> transferred.copy_into(model)  # doctest: +SKIP
    """
    if source is None:
        return TransferredLayers()
    shapes = _layer_shapes(spec)
    weights = {
        name: [_adapt_colour(array, shape, spec.channels) for array, shape in zip(arrays, shapes[name], strict=True)]
        for name, arrays in source.weights.items()
        if name in shapes and len(shapes[name]) == len(arrays)
    }
    matching = {name: arrays for name, arrays in weights.items() if shapes[name] == _shapes(arrays)}
    new = [name for name in shapes if name not in matching]
    if not matching:
        raise _no_match(source, spec, shapes)
    _print_transfer(source.name, len(matching), new, freeze_epochs)
    return TransferredLayers(matching, source.identity, freeze_epochs if new else 0)


def _layer_shapes(spec: Spec) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of the weights of every layer that has weights."""
    model = models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)
    return {name: _shapes(arrays) for name, arrays in models.weights_of(model).items()}


def kernel_for(channels: int, kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Converts the first kernel of a network between grey and RGB input without changing its response.

    A grey picture gives the response of the same picture in RGB, and an RGB picture that of its luma (ITU-R BT.601).

    >>> kernel_for(3, np.float32([[[[1.0]]]]))[0, 0, :, 0]
    array([0.299, 0.587, 0.114], dtype=float32)

    Args:
        channels: Channels of the new input, 1 or 3.
        kernel: (height, width, channels, filters) with 1 or 3 channels.

    Returns:
        (height, width, `channels`, filters).
    """
    if channels == kernel.shape[2]:
        return kernel
    if channels == 1:
        return np.asarray(kernel.sum(axis=2, keepdims=True))
    return np.asarray(kernel * np.array(GREY_OF_RGB, np.float32)[:, np.newaxis])


def _adapt_colour(array: npt.NDArray[Any], shape: tuple[int, ...], channels: int) -> npt.NDArray[Any]:
    """The first kernel of a network, converted to `channels`; any other array unchanged."""
    is_kernel = array.ndim == len(shape) == 4
    is_first = is_kernel and {array.shape[2], shape[2]} == {1, 3} and shape[2] == channels
    return kernel_for(channels, array) if is_first else array


def _shapes(arrays: list[npt.NDArray[Any]]) -> list[tuple[int, ...]]:
    return [np.shape(array) for array in arrays]


def _no_match(source: Source, spec: Spec, shapes: dict[str, list[tuple[int, ...]]]) -> KpdetectError:
    name = next((name for name in shapes if name in source.weights), None)
    example = (
        "no layer has the same name"
        if name is None
        else f"{name}: expected {shapes[name]}, received {_shapes(source.weights[name])}"
    )
    return KpdetectError(
        f"{source.name}: no layer fits the {spec.architecture} to train ({example}); "
        "use the architecture options of the source"
    )


def _print_transfer(name: str, count: int, new: list[str], freeze_epochs: int) -> None:
    more = f" and {len(new) - MAX_LISTED_LAYERS} more" if len(new) > MAX_LISTED_LAYERS else ""
    listed = f"randomly initialised: {', '.join(new[:MAX_LISTED_LAYERS])}{more}" if new else "all layers match"
    _LOG.info(f"{name}: {count} of {count + len(new)} layers copied; {listed}")
    if freeze_epochs and new:
        epochs = f"{freeze_epochs} epochs" if freeze_epochs > 1 else "epoch"
        _LOG.info(f"the copied layers are frozen for the first {epochs}")
    elif freeze_epochs:
        _LOG.info("no layer is frozen, because all were copied and nothing would be trained")


def describe_teachers(recipe: Recipe) -> Source | None:
    """Data, terms and split of a recipe's teacher models, without weights; None if it has no teacher.

    Raises:
        KpdetectError: A teacher is not a model.
    """
    paths = recipe.distillation.models
    if not paths:
        return None
    specs = [bundle.read_spec(path) for path in paths]
    splits = [_split_of(spec) for spec in specs]
    return Source(
        f"--teacher {','.join(paths)}",
        {},
        tuple(dict.fromkeys(name for spec in specs for name in spec.data)),
        joined_terms(*(spec.terms for spec in specs)),
        splits[0] if all(split == splits[0] for split in splits) else None,
        {"name": ", ".join(Path(path).resolve().name for path in paths)},
    )


def _split_of(spec: Spec) -> Mapping[str, Any] | None:
    """The split rule of a model, or None if its sources or teachers used another one."""
    origins = [spec.extra.get(how, {}) for how in ("started_from", "taught_by")]
    return None if any(origin.get("other_split") for origin in origins) else spec.extra.get("split") or None


def with_provenance(spec: Spec, source: Source | None, how: str = "started_from") -> Spec:
    """Adds the data and terms of a source to the spec of a model trained from it.

    Args:
        spec: The model's spec.
        source: Its initial weights or its teachers; None changes nothing.
        how: Key in ``spec.extra`` for the source: ``started_from`` or ``taught_by``.
    """
    if source is None:
        return spec
    other_split = source.split != {} and source.split != spec.extra.get("split")
    origin = {**source.identity, "data": list(source.data), "other_split": other_split}
    return dataclasses.replace(
        spec,
        data=tuple(dict.fromkeys((*spec.data, *source.data))),
        terms=joined_terms(spec.terms, source.terms),
        extra={**spec.extra, how: origin},
    )


def may_overlap_validation(source: Source | None, val_data: str, split: Mapping[str, Any]) -> bool:
    """Whether a source may have been trained on the validation faces; prints a warning if so.

    Args:
        source: The source of weights or labels.
        val_data: Name of the validation data.
        split: The split rule of the validation data; empty for a separate data set.
    """
    if source is None or not set(val_data.split("+")) & set(source.data):
        return False
    if split and source.split == split:
        return False
    _LOG.warning(
        f"{source.name}: was trained on {val_data} with another split. Some validation faces may be among its training "
        "faces, and the errors measured on them too low. Use the --seed and --val-fraction it was trained with."
    )
    return True


def joined_terms(*texts: str) -> str:
    """Joins the terms of several models without repeating a sentence.

    >>> joined_terms("A: for research. B: free.", "B: free. C: ask.", "")
    'A: for research. B: free. C: ask.'
    """
    sentences = (sentence.strip().rstrip(".") for text in texts for sentence in text.split(". "))
    return "".join(f"{sentence}. " for sentence in dict.fromkeys(sentences) if sentence).rstrip()
