"""A Keras callback that ends the process after its first step, for ``kpdetect train --callbacks``.

``benchmarks/training.py`` measures with it how long the command takes to start.
"""

import os

import keras


class EndAtFirstStep(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Ends the process after the first step."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Called by Keras."""
        os._exit(0)
