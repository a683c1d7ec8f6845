"""Trains deterministically on one logical device, on two, and on one again; prints the loss of every step.

Must run in a separate process: devices and determinism are fixed before TensorFlow computes anything.
"""

import json
import sys

import keras
import tensorflow as tf

from kpdetect.core.options import run_command
from kpdetect.recipes import TrainOptions
from kpdetect.train import main
from kpdetect.training import devices, fit
from kpdetect.training.distributed.processes import Place

TINY = ["--data", "synthetic:30", "--batch-size", "8", "--val-fraction", "0.5", "--seed", "3", "--epochs", "5"]
SGD = ["--optimizer", "sgd", "--learning-rate", "1e-4"]  # Adam would divide by rounding errors
SMALL = ["--set", "architecture_options.widths=8:8:12:16", "architecture_options.blocks=1:1:1"]


class Losses(keras.callbacks.Callback):
    """Records the loss of each step, from the running mean that Keras reports."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.total = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        before = self.total if batch else 0.0
        self.total = (logs or {})["loss"] * (batch + 1)
        self.losses.append(float(self.total - before))


def run(folder: str, count: int) -> list[float]:
    """The loss of every step of a small training on `count` logical devices."""
    losses = Losses()

    def prepare(options: TrainOptions, place: Place) -> devices.Devices:
        usual = devices.prepare_devices(options, place)
        strategy = tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(count)])
        return usual if count == 1 else devices.Devices(count, strategy.scope, whole_batch=False)

    fit.prepare_devices = prepare
    fit._tensorboard_callbacks = lambda *_: [losses]
    status = run_command(main, [*TINY, *SMALL, *SGD, "--deterministic", "--no-mixed-precision", "--out", folder])
    if status:
        sys.exit(status)
    return losses.losses


if __name__ == "__main__":
    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    results = [run(f"{sys.argv[1]}/{number}", count) for number, count in enumerate((1, 2, 1))]
    print(json.dumps(results))
