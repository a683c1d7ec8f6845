"""Logs a training to Weights & Biases (``pip install wandb``): ``python examples/log_to_wandb.py --data csv:F.csv``.

All options of ``kpdetect train`` follow. It is the same as, with this folder in ``PYTHONPATH``,
``kpdetect train --callbacks log_to_wandb:Report …``. ``WANDB_MODE=offline`` writes to a local folder.
"""

import sys

import keras
import wandb

from kpdetect import train


class Report(keras.callbacks.Callback):
    """Sends loss, errors and learning rate of each epoch. A training may call ``fit`` several times, for its stages."""

    def __init__(self) -> None:
        super().__init__()
        self.run = wandb.init(project="kpdetect", config={"command": " ".join(sys.argv)})

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sends the figures of an epoch."""
        self.run.log({**(logs or {}), "learning_rate": float(self.model.optimizer.learning_rate)}, step=epoch + 1)


if __name__ == "__main__":
    sys.exit(train.main([*sys.argv[1:], "--callbacks", "log_to_wandb:Report"]))
