"""Imports of large packages without garbage collections and without the optional packages that these would import."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED_BY_TRAINING = ("jax", "matplotlib", "pandas")
"""Packages that TensorFlow and Keras import if they are installed, for functions that training does not use."""


@contextmanager
def fast_imports(*unused: str) -> Iterator[None]:
    """Speeds up the imports within the block; `kpdetect train` starts TensorFlow in 2.0 instead of 3.6 s with it.

    Modules are not garbage, so collections between them find little and take a fifth of the time. After the block, what
    it has imported is left out of collections.

    Args:
        unused: Optional packages that are not imported yet and that the block shall not import. For the packages that
            it does import they are not installed, for as long as the process lives; others can import them afterwards.

    Example:
        ``with fast_imports("jax"): import tensorflow``
    """
    hidden = [name for name in unused if name not in sys.modules]
    was_enabled = gc.isenabled()
    gc.disable()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # `None` makes an import fail
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
        gc.freeze()
        if was_enabled:
            gc.enable()
