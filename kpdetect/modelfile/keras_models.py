"""Keras models of any source: `load_model` for every file with Keras weights, `from_preset` for packaged models."""

from pathlib import Path
from typing import TYPE_CHECKING

from kpdetect.core.errors import KpdetectError, MissingExtra, unknown_name
from kpdetect.core.quiet import start_tensorflow_quietly
from kpdetect.modelfile.bundle import load_bundle, model_kind, read_spec
from kpdetect.modelfile.registry import SHIPPED_MODELS, PathLike, resolve

if TYPE_CHECKING:
    import keras


def load_model(model: PathLike) -> "keras.Model":
    """Loads a Keras model, to inspect it, to train it further, or to build on it.

    It takes raw pixels (B, H, W, C) of 0-255, and outputs ``keypoints`` (B, K, 2) relative to the crop, and, if it has
    them, ``uncertainty`` (B, K) and other outputs, as a dict. `kpdetect.modelfile.bundle.read_spec` returns its
    description, and `kpdetect.Predictor` finds and crops faces for it.

    Args:
        model: A run or bundle folder, a ``.keras`` file, or the name of a packaged model, such as ``compact-160-v2``.

    Returns:
        The model, not compiled.

    Raises:
        KpdetectError: There is no such model, it is damaged, or it has no Keras weights.
        MissingExtra: Keras is not installed.

    Example:
        ```python
        model = kpdetect.load_model("compact-160-v2")
        model.summary()
        ```
    """
    kind = model_kind(model)
    if kind == "bundle":
        return load_bundle(model)[0]
    if kind != "keras":
        raise KpdetectError(
            f"{model}: a model of kind {kind} has no Keras weights; expected a run folder, a bundle or a .keras file. "
            "kpdetect.Predictor and kpdetect.modelfile.runtime.load run this one"
        )
    return load_keras_file(resolve(model))


def load_keras_file(path: Path) -> "keras.Model":
    """Loads a ``.keras`` file with ``safe_mode``, which runs no code of the file.

    Raises:
        KpdetectError: The file is damaged, or contains code or layers of others.
        MissingExtra: Keras is not installed.
    """
    start_tensorflow_quietly()
    try:
        import keras

        import kpdetect.models  # noqa: F401 - registers this package's layers
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "keras", "train", f"{path}: loading a Keras model") from error
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds on a damaged file
        reason = " ".join(str(error).split())
        raise KpdetectError(f"{path}: not a Keras model that can be loaded safely: {reason}") from error


def from_preset(name: str, load_weights: bool = True) -> "keras.Model":
    """Builds a packaged model. Unlike `load_model`, it takes names alone, never a path.

    Args:
        name: Name of a packaged model, such as ``compact-160-v2``; ``kpdetect show models`` lists them.
        load_weights: With its weights; False builds the same network with random ones.

    Returns:
        The model, not compiled; see `load_model`.

    Raises:
        KpdetectError: There is no such model.
        MissingExtra: Keras is not installed.

    Example:
        ```python
        model = kpdetect.models.from_preset("compact-160-v2", load_weights=False)
        ```
    """
    shipped = next((one for one in SHIPPED_MODELS if name in (one.name, one.alias)), None)
    if shipped is None:
        raise unknown_name("preset", name, [one.name for one in SHIPPED_MODELS])
    if load_weights:
        return load_bundle(shipped.path)[0]
    start_tensorflow_quietly()
    try:
        from kpdetect import models
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "keras", "train", f"{name}: building a Keras model") from error
    spec = read_spec(shipped.path)
    return models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)
