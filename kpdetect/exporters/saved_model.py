"""Export to SavedModel, with two signatures: crops to points, and an encoded photograph with boxes to points."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpdetect.exporters.photograph_signature import BOXES_NAME, PHOTOGRAPH_NAME, photograph_function
from kpdetect.exporters.source import Source, in_two_scopes
from kpdetect.modelfile import bundle
from kpdetect.modelfile.spec import INPUT_NAME

if TYPE_CHECKING:
    import keras

SAVED_MODEL = "saved_model"
CROPS_SIGNATURE = "serving_default"
PHOTOGRAPH_SIGNATURE = "photograph"


def write_saved_model(source: Source, path: Path) -> None:
    """Writes both signatures, and the spec as an asset.

    ``serving_default`` takes ``image`` and returns ``keypoints`` and ``uncertainty``, as every file does; for
    ``photograph`` see `kpdetect.exporters.photograph_signature`.
    """
    import tensorflow as tf

    model = in_two_scopes(source.model, batch=source.batch)
    photograph = tf.function(
        photograph_function(model, source.spec),
        input_signature=[
            tf.TensorSpec((), tf.string, name=PHOTOGRAPH_NAME),
            tf.TensorSpec((None, 4), tf.float32, name=BOXES_NAME),
        ],
    )
    _save(model, {CROPS_SIGNATURE: _of_crops(model), PHOTOGRAPH_SIGNATURE: photograph}, path)
    bundle.embed_in_saved_model(source.spec, path)


@contextmanager
def saved_model_of(source: Source, folder: Path, dtype: str = "float32") -> Iterator[Path]:
    """Yields the SavedModel that is in `folder` already, which saves seconds, or else a temporary one.

    Args:
        source: The model and its spec.
        folder: The folder of the export.
        dtype: Type of the input's pixels.
    """
    if dtype == "float32" and source.batch is None and (folder / SAVED_MODEL).is_dir():
        yield folder / SAVED_MODEL
        return
    with tempfile.TemporaryDirectory() as passing:
        model = in_two_scopes(source.model, dtype, source.batch)
        _save(model, {CROPS_SIGNATURE: _of_crops(model)}, Path(passing))
        yield Path(passing)


def _of_crops(model: "keras.Model") -> Any:
    """Returns the function of ``serving_default``."""
    import tensorflow as tf

    def serve(image: Any) -> Any:
        return model(image, training=False)

    image = tf.TensorSpec(model.input_shape, model.input.dtype, name=INPUT_NAME)
    return tf.function(serve, input_signature=[image])


def _save(model: "keras.Model", signatures: dict[str, Any], path: Path) -> None:
    """Saves with TensorFlow, because `keras.Model.export` (3.15) stores all weights twice."""
    import tensorflow as tf

    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    concrete = {name: function.get_concrete_function() for name, function in signatures.items()}
    tf.saved_model.save(module, str(path), signatures=concrete)
