"""Owns what a training takes from models before it: first weights, layers that stay as they are at first, credit."""

import dataclasses
import sys
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

SHOWN_LAYERS = 6  # of those that start anew; a new head has fewer
IMAGENET_TERMS = "ImageNet (weights under Apache 2.0): the pictures are for non-commercial research."


@dataclass(frozen=True)
class Source:
    """Weights to begin with.

    Attributes:
        name: How messages call it: the option that named it.
        weights: Arrays by the layer's name, in the layer's own order.
        data: What they were learned on.
        terms: The terms of those data.
        split: The share and seed of the subjects that were held out; None where that is not known, empty where it
            has seen no labelled faces.
        identity: What `--resume` knows the same weights by.
    """

    name: str
    weights: models.Weights
    data: tuple[str, ...]
    terms: str
    split: Mapping[str, Any] | None
    identity: Mapping[str, str]


@dataclass(frozen=True)
class TransferredLayers:
    """What a model takes of a source; nothing of none.

    Attributes:
        weights: Arrays by layer, for the layers whose shapes fit.
        identity: The source's.
        freeze_epochs: For how many epochs those layers stay as they are.
    """

    weights: models.Weights = field(default_factory=dict)
    identity: Mapping[str, str] | None = None
    freeze_epochs: int = 0

    def put_into(self, model: keras.Model) -> None:
        """Sets the layers' weights."""
        for name, arrays in self.weights.items():
            model.get_layer(name).set_weights(arrays)

    def stages(self, epochs: int) -> Iterator["Stage"]:
        """The training, cut where the frozen layers begin to learn."""
        frozen_until = min(self.freeze_epochs, epochs)
        if frozen_until:
            yield Stage(0, frozen_until, frozenset(self.weights))
        if frozen_until < epochs:
            yield Stage(frozen_until, epochs)


@dataclass(frozen=True)
class Stage:
    """Epochs in which the same layers learn.

    Attributes:
        start: Epochs before it.
        end: Epochs when it is done.
        frozen: Layers that stay as they are.
    """

    start: int
    end: int
    frozen: frozenset[str] = frozenset()

    def holds(self, epoch: int, step: int = 0) -> bool:
        """Whether a state that was kept after so many epochs and steps is of this stage, its optimizer's too."""
        return self.start <= epoch < self.end if step else self.start < epoch <= self.end


def open_source(recipe: Recipe, run_folder: Path) -> Source | None:
    """Reads the weights that a recipe begins with; None if it begins at random.

    Raises:
        KpdetectError: The bundle is none, is of another architecture or is the run's own folder, or Keras could not
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
            f"--init-from {folder}: expected architecture '{recipe.architecture}', as recipe '{recipe.name}' has it, "
            f"received '{spec.architecture}'"
        )
    if resolve(folder).resolve() == run_folder.resolve():
        raise KpdetectError(f"--init-from {folder}: is the folder of this very run; choose another --out")
    with quietly(f"reading {folder}"):
        model, spec = bundle.load_bundle(folder)
    return Source(
        name=f"--init-from {folder}",
        weights=models.weights_of(model),
        data=spec.data,
        terms=spec.terms,
        split=_split_of(spec),
        identity={"name": Path(folder).resolve().name, "sha256": spec.files[bundle.WEIGHTS_FILE]["sha256"]},
    )


def _from_imagenet(recipe: Recipe) -> Source:
    with quietly("reading ImageNet weights"):
        weights = models.PRETRAINED[recipe.architecture](recipe.architecture_options, recipe.channels)
    return Source("--weights imagenet", weights, ("imagenet",), IMAGENET_TERMS, {}, {"name": "imagenet"})


def take(source: Source | None, spec: Spec, freeze_epochs: int) -> TransferredLayers:
    """Matches a source's layers with those of the model to train, by name and shape; says on stderr what fits.

    Of a model of grey pictures an RGB one takes the first kernel too, and the other way round.

    Args:
        source: Where the weights come from; None takes nothing.
        spec: Of the model to train.
        freeze_epochs: For how many epochs the taken layers stay as they are; where every layer fits, none does, for
            nothing would be left to learn.

    Raises:
        KpdetectError: Not one layer fits.
    """
    if source is None:
        return TransferredLayers()
    shapes = _layer_shapes(spec)
    weights = {
        name: [_recoloured(array, shape, spec.channels) for array, shape in zip(arrays, shapes[name], strict=True)]
        for name, arrays in source.weights.items()
        if name in shapes and len(shapes[name]) == len(arrays)
    }
    fitting = {name: arrays for name, arrays in weights.items() if shapes[name] == _shapes(arrays)}
    new = [name for name in shapes if name not in fitting]
    if not fitting:
        raise _nothing_fits(source, spec, shapes)
    _say_taken(source.name, len(fitting), new, freeze_epochs)
    return TransferredLayers(fitting, source.identity, freeze_epochs if new else 0)


def _layer_shapes(spec: Spec) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of every layer that has weights; the model itself is dropped, for the run builds its own."""
    model = models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)
    return {name: _shapes(arrays) for name, arrays in models.weights_of(model).items()}


def kernel_for(channels: int, kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The first kernel of a network of RGB pictures for grey ones, or the other way round.

    A grey picture gives what the same in RGB gave; an RGB picture what its grey gave. So either network goes on from
    where the other was.

    >>> kernel_for(3, np.float32([[[[1.0]]]]))[0, 0, :, 0]
    array([0.299, 0.587, 0.114], dtype=float32)

    Args:
        channels: That the pictures will have, 1 or 3.
        kernel: (height, width, channels, filters), of 3 or 1 channels.
    """
    if channels == kernel.shape[2]:
        return kernel
    if channels == 1:
        return np.asarray(kernel.sum(axis=2, keepdims=True))
    return np.asarray(kernel * np.array(GREY_OF_RGB, np.float32)[:, np.newaxis])


def _recoloured(array: npt.NDArray[Any], shape: tuple[int, ...], channels: int) -> npt.NDArray[Any]:
    """The kernel that looks at the picture itself, for so many channels; any other array as it is."""
    four_axes = array.ndim == len(shape) == 4
    sees_pictures = four_axes and {array.shape[2], shape[2]} == {1, 3} and shape[2] == channels
    return kernel_for(channels, array) if sees_pictures else array


def _shapes(arrays: list[npt.NDArray[Any]]) -> list[tuple[int, ...]]:
    return [np.shape(array) for array in arrays]


def _nothing_fits(source: Source, spec: Spec, shapes: dict[str, list[tuple[int, ...]]]) -> KpdetectError:
    name = next((name for name in shapes if name in source.weights), None)
    example = (
        "it has none of their names"
        if name is None
        else f"{name}: expected {shapes[name]}, received {_shapes(source.weights[name])}"
    )
    return KpdetectError(
        f"{source.name}: no layer fits the {spec.architecture} that is to be trained ({example}); "
        "the same architecture options are needed"
    )


def _say_taken(name: str, count: int, new: list[str], freeze_epochs: int) -> None:
    more = f" and {len(new) - SHOWN_LAYERS} more" if len(new) > SHOWN_LAYERS else ""
    anew = f"starting anew: {', '.join(new[:SHOWN_LAYERS])}{more}" if new else "none starts anew"
    print(f"{name}: {count} of {count + len(new)} layers taken; {anew}", file=sys.stderr)
    if freeze_epochs and new:
        epochs = f"{freeze_epochs} epochs" if freeze_epochs > 1 else "epoch"
        print(f"the taken layers stay as they are for the first {epochs}", file=sys.stderr)
    elif freeze_epochs:
        print("every layer was taken, so none is frozen: nothing would learn", file=sys.stderr)


def open_teacher(recipe: Recipe) -> Source | None:
    """What is known of the models whose marks a recipe mixes into the labels; None if it mixes none.

    Raises:
        KpdetectError: One is no model.
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
    """Whom a model has not seen, where all that it learned from kept to one split."""
    origins = [spec.extra.get(how, {}) for how in ("started_from", "taught_by")]
    return None if any(origin.get("other_split") for origin in origins) else spec.extra.get("split") or None


def with_provenance(spec: Spec, source: Source | None, how: str = "started_from") -> Spec:
    """The spec of a model that has learned from a source: its data and terms are the model's own too.

    Args:
        spec: Of the model.
        source: What it began with, or its teacher; None changes nothing.
        how: Where the spec's ``extra`` names the source: ``started_from`` or ``taught_by``.
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


def may_have_seen(source: Source | None, val_data: str, split: Mapping[str, Any]) -> bool:
    """Whether a source may have learned from faces that are held out now; says so on stderr.

    Args:
        source: Where the weights come from.
        val_data: The name of the data that is validated on.
        split: How it is held out: share and seed; empty where a set of its own was named.
    """
    if source is None or not set(val_data.split("+")) & set(source.data):
        return False
    if split and source.split == split:
        return False
    print(
        f"{source.name}: was trained on {val_data} with another split: faces that are held out here may be among "
        "those it has seen, and errors measured on them too low; --seed and --val-fraction of its own keep them apart",
        file=sys.stderr,
    )
    return True


def joined_terms(*texts: str) -> str:
    """The terms of several models, each sentence once.

    >>> joined_terms("A: for research. B: free.", "B: free. C: ask.", "")
    'A: for research. B: free. C: ask.'
    """
    sentences = (sentence.strip().rstrip(".") for text in texts for sentence in text.split(". "))
    return "".join(f"{sentence}. " for sentence in dict.fromkeys(sentences) if sentence).rstrip()
