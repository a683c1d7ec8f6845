"""Logs a training to MLflow (``pip install mlflow``): ``python examples/log_to_mlflow.py --data csv:F.csv``.

All options of ``kpdetect train`` follow. It is the same as, with this folder in ``PYTHONPATH``,
``kpdetect train --callbacks log_to_mlflow:Report …``. ``MLFLOW_TRACKING_URI`` names the server, or a local file such as
``sqlite:///mlflow.db``.
"""

import sys

import keras
import mlflow

from kpdetect import train


class Report(keras.callbacks.Callback):
    """Sends loss, errors and learning rate of each epoch. A training may call ``fit`` several times, for its stages."""

    def __init__(self) -> None:
        super().__init__()
        mlflow.set_experiment("kpdetect")
        mlflow.start_run()  # ends with the process
        mlflow.log_param("command", " ".join(sys.argv))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sends the figures of an epoch."""
        rate = float(self.model.optimizer.learning_rate)
        mlflow.log_metrics({**(logs or {}), "learning_rate": rate}, step=epoch + 1)


if __name__ == "__main__":
    sys.exit(train.main([*sys.argv[1:], "--callbacks", "log_to_mlflow:Report"]))
