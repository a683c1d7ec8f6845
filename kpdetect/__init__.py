"""Facial keypoint detection with Keras: training, evaluation, export and prediction.

Example:
    >>> from kpdetect import Predictor, draw_faces
    >>> faces = Predictor()("photo.jpg")  # doctest: +SKIP
    >>> faces[0].point("nose_tip")  # doctest: +SKIP
    array([212.4, 190.7], dtype=float32)

The names of ``__all__`` are imported on first use, so that ``import kpdetect`` loads neither NumPy nor TensorFlow. If a
program also imports Keras, before or after, the layers, losses, metrics and optimizers are registered with it, so that
``keras.saving.load_model("model.keras")`` finds them.
"""

import importlib
import sys

TYPE_CHECKING = False  # true for type checkers; the module `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from kpdetect.core.images import read_image, write_image
    from kpdetect.core.schema import KeypointSchema
    from kpdetect.detection.face import Face
    from kpdetect.detection.interop import faces_to_supervision
    from kpdetect.evaluation.results import read_results
    from kpdetect.inference.dataframes import to_dataframe
    from kpdetect.inference.predictor import Predictor
    from kpdetect.measures import head_transform, measure
    from kpdetect.modelfile.keras_models import load_model
    from kpdetect.tracking.tracker import Tracker
    from kpdetect.visualization.faces import draw_faces

__version__ = "0.1.0"

__all__ = [
    "Face",
    "KeypointSchema",
    "Predictor",
    "Tracker",
    "__version__",
    "draw_faces",
    "faces_to_supervision",
    "head_transform",
    "load_model",
    "measure",
    "read_image",
    "read_results",
    "to_dataframe",
    "write_image",
]

_MODULES = {
    "Face": "kpdetect.detection.face",
    "KeypointSchema": "kpdetect.core.schema",
    "Predictor": "kpdetect.inference.predictor",
    "Tracker": "kpdetect.tracking.tracker",
    "draw_faces": "kpdetect.visualization.faces",
    "faces_to_supervision": "kpdetect.detection.interop",
    "head_transform": "kpdetect.measures",
    "load_model": "kpdetect.modelfile.keras_models",
    "measure": "kpdetect.measures",
    "read_image": "kpdetect.core.images",
    "read_results": "kpdetect.evaluation.results",
    "to_dataframe": "kpdetect.inference.dataframes",
    "write_image": "kpdetect.core.images",
}
"""The module that defines each lazily imported name."""

if not TYPE_CHECKING:  # type checkers use the imports above, and report a misspelled name

    def __getattr__(name: str) -> object:
        """Imports a public name on first use (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module 'kpdetect' has no attribute '{name}'")
        value = getattr(importlib.import_module(_MODULES[name]), name)
        globals()[name] = value  # later uses do not come here
        return value


def __dir__() -> list[str]:
    """The module's names, including those that are not imported yet."""
    return sorted({*globals(), *__all__})


class _KerasFinder:
    """Registers kpdetect's classes as soon as Keras is imported; it imports nothing by itself."""

    def __init__(self) -> None:
        self._searching = False

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Lets the other finders find Keras, and makes its loader register the classes at the end of the import."""
        if name != "keras" or self._searching:
            return None
        import importlib.util  # here, as `import kpdetect` loads nothing else

        self._searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: object) -> None:
                execute(module)  # type: ignore[arg-type]
                _register_with_keras()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register_with_keras() -> None:
    """Imports `kpdetect.models`, which registers its classes. A Keras that is too old for them is left as it is."""
    import contextlib

    with contextlib.suppress(ImportError):
        importlib.import_module("kpdetect.models")


if "keras" in sys.modules:
    _register_with_keras()
else:
    sys.meta_path.insert(0, _KerasFinder())  # type: ignore[arg-type]
