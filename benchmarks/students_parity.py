"""Compares the networks of the five student projects with the same networks in PyTorch.

    python -m venv seeds && seeds/bin/pip install torch==2.13.0 numpy
    python benchmarks/students_parity.py --torch-python seeds/bin/python [--golden FILE]
    python benchmarks/students_parity.py --torch-python seeds/bin/python --train SPEC --networks naimish [--out DIR]

Parity: each network gets the same weights in both frameworks, drawn by NumPy. Compared are the outputs, the gradients
of the first step, and the losses of ten steps of the recipe's optimizer, with dropout off. Rounding differs, and grows
once it decides a ReLU or a max pool, so that later losses differ by more than the first five. ``--golden`` writes
PyTorch's numbers for small inputs to a file, which ``tests/test_students_parity.py`` reads.

``--train`` trains both instead, each from its framework's initial weights, on the same batches in the same order, and
tables loss and validation NME of each epoch. Dropout is on. ``--out`` also writes ``NETWORK.csv``, and a plot of all
CSV files of the folder.

Everything runs in float32. Differences of gradients are relative to the layer's greatest gradient.
"""

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kpdetect import models
from kpdetect.core.geometry import CropRule, to_pixels
from kpdetect.data.pipeline import BatchOptions, open_cache, training_batches
from kpdetect.evaluation.metrics import nme_per_face
from kpdetect.models import losses
from kpdetect.models.optimizers import Adam
from kpdetect.recipes import Recipe, TrainOptions, choose_recipe
from kpdetect.training.compile import build_optimizer
from kpdetect.training.faces import load_faces
from kpdetect.training.feeding import framing_of, transforms_of, validation_batches
from kpdetect.visualization.figures import new_figure, save_figure

HERE = Path(__file__).resolve().parent
STUDENTS = ("fourconv", "batchnorm", "twoconv", "naimish", "imm-nose", "imm-full", "ibug-large")
SMALL_HW = {
    "fourconv": (64, 64),
    "batchnorm": (64, 64),
    "twoconv": (32, 32),
    "naimish": (96, 96),
    "imm-nose": (60, 80),
    "imm-full": (40, 48),
    "ibug-large": (40, 40),
}
"""About the smallest input of each network; square if the loss has a unit in pixels."""
STEPS, EARLY_STEPS, BATCH_SIZE, KEYPOINTS = 10, 5, 16, 3
PICTURE_SEED = 3  # with these, rounding decides no ReLU and no max pool in the first step
TRAIN_SIDE = 112  # frames and crops are halved, so that a training takes minutes
COLUMNS = ("epoch", "loss, kpdetect", "loss, PyTorch", "NME, kpdetect, %", "NME, PyTorch, %")
TABLED_EPOCHS = (1, 2, 3, 5, 10, 20, 30, 40, 50, 60, 80, 100)  # and the last
PLOT = "side-by-side.png"
Arrays = dict[str, np.ndarray]


class TorchAdam(Adam):
    """Adam with the epsilon of PyTorch, added after the bias correction of the second moment; Keras adds it before.

    The difference affects only very small gradients of the first steps, which this comparison includes.
    """

    epsilon: float

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable; eagerly, because the epsilon changes in every step."""
        given: float = self.epsilon
        self.epsilon = given * np.sqrt(1 - self.beta_2 ** (int(self.iterations) + 1))
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = given


def small_student(name: str, size_hw: tuple[int, int] | None = None) -> tuple[keras.Model, losses.KeypointLoss, Recipe]:
    """A student's network for few points and small pictures, without dropout, with seeded weights, and its loss."""
    recipe = choose_recipe(TrainOptions(name))
    height, width = size_hw or SMALL_HW[name]
    model = models.build(name, KEYPOINTS, (height, width, 1))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    set_seeded_weights(model)
    return model, loss_of(recipe, width), recipe


def loss_of(recipe: Recipe, width: int) -> losses.KeypointLoss:
    """The recipe's loss for pictures of another width: its unit is 50 pixels, or the picture."""
    unit = recipe.loss_unit if recipe.image_side is None else width / 50
    return losses.build(recipe.loss, unit)


def set_seeded_weights(model: keras.Model) -> None:
    """Draws all weights from one NumPy generator, layer by layer, in the order of ``get_weights()``.

    Kernels are He normal. Biases, beta and running means are normal with a deviation of 0.1; gamma and running
    variances are uniform in 0.5 … 1.5. The last layer's kernel is a tenth of He's, so that outputs stay near the crop.
    """
    random = np.random.default_rng(0)
    for layer in model.layers:
        weights = []
        for number, weight in enumerate(layer.get_weights()):
            if weight.ndim > 1:
                scale = 0.1 if layer.name == "linear" else 1.0
                drawn = random.normal(0, scale * np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape)
            elif isinstance(layer, keras.layers.BatchNormalization) and number in (0, 3):
                drawn = random.uniform(0.5, 1.5, weight.shape)
            else:
                drawn = random.normal(0, 0.1, weight.shape)
            weights.append(drawn.astype(np.float32))
        layer.set_weights(weights)


def seeded_batches(size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (STEPS, B, H, W, 1) uint8 and relative points (STEPS, B, K, 2), drawn by NumPy."""
    random = np.random.default_rng(PICTURE_SEED)
    height, width = size_hw
    images = random.integers(0, 256, (STEPS, BATCH_SIZE, height, width, 1), np.uint8)
    return images, random.uniform(0.2, 0.8, (STEPS, BATCH_SIZE, KEYPOINTS, 2)).astype(np.float32)


def keras_numbers(model: keras.Model, loss: losses.KeypointLoss, recipe: Recipe, data: tuple[Any, Any]) -> Arrays:
    """Outputs, gradients of the first step by ``LAYER/NUMBER``, and losses of all steps."""
    images, targets = data
    result = {"outputs": np.asarray(model(images[0], training=False))}
    optimizer = build_optimizer(recipe.optimization, len(images))
    if isinstance(optimizer, Adam):
        optimizer = TorchAdam(recipe.optimization.learning_rate, epsilon=recipe.optimization.epsilon)
    values = []
    for number, (batch, labels) in enumerate(zip(images, targets, strict=True)):
        with tf.GradientTape() as tape:
            value = loss(labels, model(batch, training=True))
        found = tape.gradient(value, [variable.value for variable in model.trainable_variables])
        values.append(float(value))
        if number == 0:
            result |= _by_layer(model, found)
        optimizer.apply(found, model.trainable_variables)
    return {**result, "losses": np.array(values)}


def _by_layer(model: keras.Model, gradients: Sequence[Any]) -> Arrays:
    by_variable = {
        id(variable): np.asarray(g) for variable, g in zip(model.trainable_variables, gradients, strict=True)
    }
    return {
        f"{layer.name}/{number}": by_variable[id(variable)]
        for layer in model.layers
        for number, variable in enumerate(layer.trainable_variables)
    }


def torch_numbers(python: str, work: str, job: dict[str, Any], arrays: Arrays) -> Arrays:
    """Runs a job of ``students_torch.py`` in another Python."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
        np.savez(given, allow_pickle=False, job=json.dumps({"seed": 0, **job}), **arrays)
        subprocess.run([python, HERE / "students_torch.py", work, given, made], check=True)
        with np.load(made) as file:
            return dict(file)


def job_of(recipe: Recipe, num_keypoints: int, size_hw: tuple[int, int], threads: int) -> dict[str, Any]:
    """The parameters of a recipe for ``students_torch.py``."""
    optimization = recipe.optimization
    return {
        "network": recipe.name,
        "num_keypoints": num_keypoints,
        "size_hw": size_hw,
        "channels": recipe.channels,
        "loss": recipe.loss,
        "optimizer": optimization.optimizer,
        "learning_rate": optimization.learning_rate,
        "momentum": optimization.momentum,
        "batch_size": recipe.batch_size,
        "threads": threads,
    }


def weights_of(model: keras.Model) -> Arrays:
    """All weights by ``LAYER/NUMBER``."""
    return {
        f"{layer.name}/{number}": weight for layer in model.layers for number, weight in enumerate(layer.get_weights())
    }


def differences(ours: Arrays, theirs: Arrays) -> tuple[float, float, float, float]:
    """Greatest difference of outputs (relative to the picture), gradients, early losses and all losses (relative)."""
    gradients = []
    for kernel in (name for name in theirs if name.endswith("/0")):
        parts = [kernel, f"{kernel[:-1]}1"]
        # Biases before batch normalisation have no gradient.
        greatest = max(np.abs(theirs[part]).max() for part in parts)
        gradients += [np.abs(ours[part] - theirs[part]).max() / greatest for part in parts]
    of_losses = np.abs(ours["losses"] - theirs["losses"]) / theirs["losses"]
    outputs = np.abs(ours["outputs"] - theirs["outputs"]).max()
    return float(outputs), float(max(gradients)), float(of_losses[:EARLY_STEPS].max()), float(of_losses.max())


def compare(name: str, python: str, threads: int) -> tuple[Arrays, Arrays]:
    """The values of Keras and of PyTorch for the same weights and pictures."""
    model, loss, recipe = small_student(name)
    images, targets = seeded_batches(SMALL_HW[name])
    job = job_of(recipe, KEYPOINTS, SMALL_HW[name], threads)
    given = {**weights_of(model), "images": images, "targets": targets}
    theirs = torch_numbers(python, "compare", job, given)
    return keras_numbers(model, loss, recipe, (images, targets)), theirs


def golden(theirs: Arrays) -> dict[str, Any]:
    """PyTorch's values for the tests: outputs for two pictures, the norm of each gradient, all losses."""
    norms = {name: float(np.linalg.norm(value.astype(np.float64))) for name, value in theirs.items() if "/" in name}
    return {"outputs": theirs["outputs"][:2].tolist(), "gradient_norms": norms, "losses": theirs["losses"].tolist()}


def halved(recipe: Recipe) -> Recipe:
    """The recipe for pictures of half the size; those of the IMM recipes are already small."""
    if recipe.crop.around == "image":
        return recipe
    side = None if recipe.image_side is None else recipe.image_side // 2
    return dataclasses.replace(recipe, crop=CropRule((TRAIN_SIDE, TRAIN_SIDE), recipe.crop.margin), image_side=side)


def train_both(name: str, data: str, epochs: int | None, python: str, threads: int) -> np.ndarray:
    """Trains both on the same batches; the `COLUMNS` of each epoch, (epochs, 5).

    Args:
        name: The recipe.
        data: Labelled faces, as for ``kpdetect train``. Their validation people are those of the command.
        epochs: Number of epochs; None for the recipe's.
        python: A Python that has PyTorch.
        threads: Threads of PyTorch.
    """
    options = TrainOptions(name, data=data, epochs=epochs)
    recipe = halved(choose_recipe(options))
    epochs = recipe.epochs
    faces = load_faces(options, recipe)
    size_hw, schema = recipe.crop.size_hw, faces.train.schema
    cache = open_cache(faces.train, framing_of(recipe), recipe.channels)
    steps = len(cache) // recipe.batch_size
    stream = training_batches(cache, transforms_of(recipe, schema), schema, BatchOptions(size_hw, recipe.batch_size))
    images, targets = [], []
    for batch, labels, _ in stream.take(epochs * steps):
        images.append(np.clip(np.rint(batch), 0, 255).astype(np.uint8))
        targets.append(np.asarray(labels))
    by_epoch = (epochs, steps * recipe.batch_size)
    given = {
        "images": np.concatenate(images).reshape(*by_epoch, *images[0].shape[1:]),
        "targets": np.concatenate(targets).reshape(*by_epoch, *targets[0].shape[1:]),
    }
    validation = [(np.asarray(crops), np.asarray(labels)) for crops, labels, _ in validation_batches(faces.val, recipe)]
    crops, truth = (np.concatenate(part)[: len(faces.val)] for part in zip(*validation, strict=True))
    ours = _train_ours(recipe, given, crops)
    job = job_of(recipe, schema.num_keypoints, size_hw, threads)
    theirs = torch_numbers(python, "train", job, {**given, "validation": crops})

    def errors(predictions: np.ndarray) -> list[float]:
        points = [to_pixels(prediction, size_hw) for prediction in predictions]
        true, width = to_pixels(truth, size_hw), float(size_hw[1])
        return [100 * float(np.mean(nme_per_face(true, p, faces.val.visible, schema, width))) for p in points]

    losses = (ours["losses"], theirs["losses"])
    return np.stack([np.arange(1, epochs + 1), *losses, *(errors(part["predictions"]) for part in (ours, theirs))], 1)


def _train_ours(recipe: Recipe, given: Arrays, crops: np.ndarray) -> Arrays:
    keras.utils.set_random_seed(0)
    height, width = recipe.crop.size_hw
    model = models.build(recipe.architecture, given["targets"].shape[2], (height, width, recipe.channels))
    loss = loss_of(recipe, width)
    model.compile(build_optimizer(recipe.optimization, 1), loss)
    values, predictions = [], []
    for images, targets in zip(given["images"], given["targets"], strict=True):
        fitted = model.fit(images, targets, batch_size=recipe.batch_size, shuffle=False, verbose=0)
        values.append(fitted.history["loss"][0])
        predictions.append(model.predict(crops, batch_size=64, verbose=0))
    return {"losses": np.array(values), "predictions": np.stack(predictions)}


def table_of_training(name: str, rows: np.ndarray) -> str:
    """Lines of a Markdown table for one network, for `TABLED_EPOCHS` and the last epoch."""
    shown = [row for row in rows if row[0] in (*TABLED_EPOCHS, len(rows))]
    return "\n".join(f"| `{name}` | {e:.0f} | {a:.4g} | {b:.4g} | {c:.1f} | {d:.1f} |" for e, a, b, c, d in shown)


def plot_trainings(folder: Path) -> None:
    """Draws the validation NME of each network whose CSV file is in the folder, one panel per network."""
    names = [name for name in STUDENTS if (folder / f"{name}.csv").exists()]
    columns = min(4, len(names))
    figure, axes = new_figure(-(-len(names) // columns), columns, (3.0, 2.5))
    for axis in axes[len(names) :]:
        axis.remove()
    for name, axis in zip(names, axes, strict=False):
        rows = np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2)
        for column, label, color in ((3, "kpdetect", "C0"), (4, "PyTorch", "C1")):
            axis.plot(rows[:, 0], rows[:, column], color=color, label=label, linewidth=1.2)
        axis.set(title=name, xlabel="epoch", ylabel="validation NME, %", ylim=(0, None))
    axes[0].legend(frameon=False)
    save_figure(figure, folder / PLOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table of the parity, or with ``--train`` of the trainings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", required=True, help="a Python that has torch and NumPy")
    parser.add_argument("--networks", default=",".join(STUDENTS), help="by comma")
    parser.add_argument("--golden", type=Path, help="write PyTorch's numbers to this JSON file")
    parser.add_argument("--train", help="train both on these faces instead; SPEC as of kpdetect train")
    parser.add_argument("--epochs", type=int, help="of the trainings (default: those of the recipe)")
    parser.add_argument("--out", type=Path, help="folder for the epochs of --train as CSV files, and a plot of them")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    options = parser.parse_args(argv)
    names = options.networks.split(",")
    if options.train:
        _train(names, options)
    else:
        _compare(names, options)
    return 0


def _train(names: Sequence[str], options: argparse.Namespace) -> None:
    print(f"| network | {' | '.join(COLUMNS)} |")
    print("|---" * (1 + len(COLUMNS)) + "|")
    for name in names:
        rows = train_both(name, options.train, options.epochs, options.torch_python, options.threads)
        print(table_of_training(name, rows), flush=True)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            with (options.out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *((int(row[0]), *row[1:].round(5)) for row in rows)])
            plot_trainings(options.out)


def _compare(names: Sequence[str], options: argparse.Namespace) -> None:
    kept: dict[str, Any] = {}
    print("| network | input | outputs | gradients | losses, steps 1 to 5 | losses, steps 1 to 10 |")
    print("|---|---|---|---|---|---|")
    for name in names:
        ours, theirs = compare(name, options.torch_python, options.threads)
        kept[name] = golden(theirs)
        numbers = " | ".join(f"{difference:.1e}" for difference in differences(ours, theirs))
        print(f"| `{name}` | {'x'.join(map(str, SMALL_HW[name]))} | {numbers} |", flush=True)
    if options.golden:
        options.golden.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
