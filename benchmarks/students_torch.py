"""The networks of the five student projects in PyTorch, for ``benchmarks/students_parity.py``.

Reads arrays and a job from a ``.npz`` file, writes arrays to another. Needs torch and NumPy, but not kpdetect.
"""

import argparse
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Conv:
    """A convolution of stride 1, batch normalisation where asked, ReLU, a 2x2 max pool where asked, and dropout."""

    channels: int
    size: int
    padding: int = 0
    pool: bool = True
    batch_norm: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class Hidden:
    """A hidden linear layer, batch normalisation where asked, ReLU and dropout."""

    units: int
    batch_norm: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class Network:
    """A chain of layers and its input scaling.

    Attributes:
        convolutions: The first layers.
        hidden: The layers between flatten and output.
        pixel_offset: Added to pixels / 255.
        pixel_targets: Whether the output is ``(pixels - 100) / 50``; otherwise it is relative to the picture.
        he_normal: Whether hidden layers start from He normal weights; otherwise from PyTorch's default.
    """

    convolutions: tuple[Conv, ...]
    hidden: tuple[Hidden, ...]
    pixel_offset: float = 0.0
    pixel_targets: bool = True
    he_normal: bool = False


IMM_FULL = Network(
    (Conv(12, 5), Conv(24, 3), Conv(32, 3, pool=False), Conv(48, 3, pool=False), Conv(64, 1, pool=False)),
    (Hidden(24),),
    pixel_offset=-0.5,
    pixel_targets=False,
)
NETWORKS = {
    "fourconv": Network((Conv(32, 5), Conv(64, 4), Conv(128, 3), Conv(256, 2)), (Hidden(1000, dropout=0.4),)),
    "batchnorm": Network(
        tuple(Conv(channels, 3, batch_norm=True) for channels in (32, 64, 128, 256)),
        (Hidden(4000, batch_norm=True, dropout=0.4), Hidden(1000, batch_norm=True, dropout=0.4)),
    ),
    "twoconv": Network((Conv(10, 5, dropout=0.1), Conv(20, 5, dropout=0.2)), ()),
    "naimish": Network(
        (Conv(32, 5), Conv(64, 3), Conv(128, 3), Conv(256, 3), Conv(512, 1)),
        (Hidden(1024, dropout=0.25), Hidden(512, dropout=0.25)),
        he_normal=True,
    ),
    "imm-nose": Network(
        (Conv(12, 3, padding=2), Conv(18, 5, padding=1), Conv(28, 5)),
        (Hidden(84),),
        pixel_offset=-0.5,
        pixel_targets=False,
    ),
    "imm-full": IMM_FULL,
    "ibug-large": IMM_FULL,
}
LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "smooth_l1": functional.smooth_l1_loss,
}


def build(network: Network, num_keypoints: int, size_hw: Sequence[int], channels: int) -> nn.Sequential:
    """The network for pictures of one size; its layers have the names of kpdetect's."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, conv in enumerate(network.convolutions, 1):
        name = f"conv{number}"
        layers[name] = nn.Conv2d(channels, conv.channels, conv.size, padding=conv.padding)
        if conv.batch_norm:
            layers[f"{name}_norm"] = nn.BatchNorm2d(conv.channels)
        layers[f"{name}_relu"] = nn.ReLU()
        if conv.pool:
            layers[f"{name}_pool"] = nn.MaxPool2d(2)
        layers[f"{name}_dropout"] = nn.Dropout(conv.dropout)
        channels = conv.channels
    with torch.no_grad():
        first = next(layer for layer in layers.values() if isinstance(layer, nn.Conv2d))
        flat = nn.Sequential(layers).eval()(torch.zeros(1, first.in_channels, *size_hw))
    layers["flatten"] = nn.Flatten()
    units = flat.numel()
    for number, hidden in enumerate(network.hidden, 1):
        name = f"dense{number}"
        layers[name] = nn.Linear(units, hidden.units)
        if hidden.batch_norm:
            layers[f"{name}_norm"] = nn.BatchNorm1d(hidden.units)
        layers[f"{name}_relu"] = nn.ReLU()
        layers[f"{name}_dropout"] = nn.Dropout(hidden.dropout)
        units = hidden.units
    if network.he_normal:
        for layer in layers.values():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
    layers["linear"] = nn.Linear(units, 2 * num_keypoints)
    # The network ran once in evaluation mode, which does not change running statistics.
    model = nn.Sequential(layers).train()
    model.flat_chw = tuple(flat.shape[1:])  # the input of the first linear layer
    return model


def first_linear(model: nn.Sequential) -> str:
    """The name of the layer after the flatten."""
    return next(str(name) for name, layer in model.named_children() if isinstance(layer, nn.Linear))


def from_keras(model: nn.Sequential, name: str, kernel: np.ndarray) -> np.ndarray:
    """A kernel of Keras in PyTorch's order: channels first, outputs before inputs, flattened channels first."""
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if name == first_linear(model):
        channels, height, width = model.flat_chw
        kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(len(kernel), -1)
    return kernel.T


def to_keras(model: nn.Sequential, name: str, weight: np.ndarray) -> np.ndarray:
    """The inverse of `from_keras`."""
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    kernel = weight.T
    if name == first_linear(model):
        channels, height, width = model.flat_chw
        kernel = kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(len(kernel), -1)
    return kernel


def copy_weights(model: nn.Sequential, weights: Arrays) -> None:
    """Copies the weights of Keras layers, ``NAME/0``, ``NAME/1`` …, in the order of their ``get_weights()``."""
    with torch.no_grad():
        for name, layer in model.named_children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                kernel, bias = from_keras(model, name, weights[f"{name}/0"]), weights[f"{name}/1"]
                layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
                layer.bias.copy_(torch.from_numpy(bias))
            elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                parts = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
                for number, part in enumerate(parts):
                    part.copy_(torch.from_numpy(weights[f"{name}/{number}"]))


def gradients(model: nn.Sequential) -> Arrays:
    """The gradients in Keras' order, by the same names as weights."""
    found = {}
    for name, layer in model.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            found[f"{name}/0"] = to_keras(model, name, layer.weight.grad.numpy())
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            found[f"{name}/0"] = layer.weight.grad.numpy()
        else:
            continue
        found[f"{name}/1"] = layer.bias.grad.numpy()
    return {name: np.array(gradient) for name, gradient in found.items()}


class Student:
    """A network with its loss and optimizer.

    Args:
        job: ``network``, ``num_keypoints``, ``size_hw``, ``channels``, ``loss``, ``optimizer``, ``learning_rate`` and
            ``momentum``.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.network, self.size_hw = NETWORKS[job["network"]], job["size_hw"]
        self.model = build(self.network, job["num_keypoints"], self.size_hw, job["channels"])
        self.loss = LOSSES[job["loss"]]
        if job["optimizer"] == "sgd":
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(
                self.model.parameters(), job["learning_rate"], momentum=job["momentum"]
            )
        else:
            self.optimizer = torch.optim.Adam(self.model.parameters(), job["learning_rate"])

    def pixels(self, images: np.ndarray) -> torch.Tensor:
        """Pictures (B, H, W, C) of 0-255 as input of the network."""
        scaled = images.astype(np.float32) / 255 + self.network.pixel_offset
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), np.float32))

    def targets(self, relative: np.ndarray) -> torch.Tensor:
        """Relative points (B, K, 2) as the network outputs them, (B, 2K)."""
        if self.network.pixel_targets:
            height, width = self.size_hw
            relative = (relative * (width, height) - 0.5 - 100) / 50
        return torch.from_numpy(relative.reshape(len(relative), -1).astype(np.float32))

    def keypoints(self, output: torch.Tensor) -> np.ndarray:
        """The inverse of `targets`."""
        points: np.ndarray = output.detach().numpy().reshape(len(output), -1, 2)
        if self.network.pixel_targets:
            height, width = self.size_hw
            points = (points * 50 + 100 + 0.5) / np.array([width, height])
        return np.asarray(points, np.float32)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Relative points (N, K, 2), without dropout and with running statistics."""
        self.model.eval()
        with torch.no_grad():
            parts = [self.keypoints(self.model(self.pixels(images[i : i + 64]))) for i in range(0, len(images), 64)]
        self.model.train()
        return np.concatenate(parts)

    def step(self, images: np.ndarray, relative: np.ndarray) -> float:
        """One step of the optimizer; the loss before it."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model(self.pixels(images)), self.targets(relative))
        loss.backward()
        self.optimizer.step()
        return float(loss.item())


def compare(job: dict[str, Any], arrays: Arrays) -> Arrays:
    """Outputs, gradients of the first step and losses of all steps from given weights, with dropout off."""
    student = Student(job)
    copy_weights(student.model, arrays)
    for layer in student.model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    images, targets = arrays["images"], arrays["targets"]
    result = {"outputs": student.predict(images[0])}
    losses = []
    for number, (batch, labels) in enumerate(zip(images, targets, strict=True)):
        losses.append(student.step(batch, labels))
        if number == 0:
            result |= gradients(student.model)
    return {**result, "losses": np.array(losses)}


def train(job: dict[str, Any], arrays: Arrays) -> Arrays:
    """Trains from PyTorch's own weights; the mean loss and the validation predictions of each epoch."""
    torch.manual_seed(job["seed"])
    student = Student(job)
    losses, predictions = [], []
    for images, targets in zip(arrays["images"], arrays["targets"], strict=True):
        starts = range(0, len(images), job["batch_size"])
        batches = [slice(start, start + job["batch_size"]) for start in starts]
        losses.append(np.mean([student.step(images[rows], targets[rows]) for rows in batches]))
        predictions.append(student.predict(arrays["validation"]))
    return {"losses": np.array(losses), "predictions": np.stack(predictions)}


def main() -> None:
    """Runs the job of a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("compare", "train"))
    parser.add_argument("input", type=Path, help=".npz of arrays; 'job' is JSON")
    parser.add_argument("output", type=Path, help=".npz of arrays")
    options = parser.parse_args()
    with np.load(options.input) as file:
        arrays = dict(file)
    job = json.loads(str(arrays.pop("job")))
    torch.set_num_threads(job["threads"])
    work = {"compare": compare, "train": train}[options.work]
    np.savez(options.output, allow_pickle=False, **work(job, arrays))


if __name__ == "__main__":
    main()
