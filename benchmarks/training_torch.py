"""Training in PyTorch as student projects do it; ``benchmarks/training.py`` runs it in an environment with torch.

A `Dataset` reads a photograph with OpenCV for every sample in every epoch, small classes transform it one after the
other, and a `DataLoader` with two workers makes batches. Networks, batch sizes, losses and optimizers are those of the
recipes. Needs torch, NumPy and OpenCV; kpdetect need not be installed.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

Sample = dict[str, Any]
"""``image`` (H, W, 3), ``keypoints`` (K, 2) and ``box`` (4,)."""

chance = np.random  # the global state, as such projects use it; torch seeds it in every worker
WORKERS = 2


class Faces(Dataset):
    """Photographs with keypoints and face boxes, read on access."""

    def __init__(self, file: Path, transforms: Sequence[Callable[[Sample], Sample]]) -> None:
        faces = json.loads(file.read_text())
        self.paths = faces["paths"]
        self.keypoints, self.boxes = (np.array(faces[name], np.float32) for name in ("keypoints", "boxes"))
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        image_bgr = cv2.imread(self.paths[index])
        assert image_bgr is not None, self.paths[index]
        image = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)
        sample: Sample = {"image": image, "keypoints": self.keypoints[index].copy(), "box": self.boxes[index]}
        for transform in self.transforms:
            sample = transform(sample)
        return {name: torch.from_numpy(np.ascontiguousarray(sample[name])) for name in ("image", "keypoints")}


class Rescale:
    """Scales the shorter side to `side` pixels."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, sample: Sample) -> Sample:
        """Transforms a sample."""
        height, width = sample["image"].shape[:2]
        factor = self.side / min(height, width)
        image = cv2.resize(sample["image"], (round(width * factor), round(height * factor)))
        return {**sample, "image": image, "keypoints": sample["keypoints"] * factor}


class RandomCrop:
    """Cuts a square at a random place."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, sample: Sample) -> Sample:
        """Transforms a sample."""
        height, width = sample["image"].shape[:2]
        top, left = chance.randint(height - self.side + 1), chance.randint(width - self.side + 1)
        image = sample["image"][top : top + self.side, left : left + self.side]
        return {**sample, "image": image, "keypoints": sample["keypoints"] - np.array([left, top], np.float32)}


class RandomFlip:
    """Mirrors half of the pictures, and swaps left and right points."""

    def __init__(self, swap: Sequence[int]) -> None:
        self.swap = list(swap)

    def __call__(self, sample: Sample) -> Sample:
        """Transforms a sample."""
        if chance.random() < 0.5:
            return sample
        points = sample["keypoints"][self.swap]
        points[:, 0] = sample["image"].shape[1] - 1 - points[:, 0]
        return {**sample, "image": sample["image"][:, ::-1], "keypoints": points}


class RandomFaceCrop:
    """Rotates, scales and shifts a face in one warp, as the recipe `compact` does."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, sample: Sample) -> Sample:
        """Transforms a sample."""
        x0, y0, x1, y1 = sample["box"]
        scale = self.side / (1.35 * max(x1 - x0, y1 - y0)) * (1 + chance.uniform(-0.22, 0.22))
        matrix = cv2.getRotationMatrix2D((float(x0 + x1) / 2, float(y0 + y1) / 2), chance.normal(0, 13), float(scale))
        shift = self.side / 2 - np.array([x0 + x1, y0 + y1]) / 2 + self.side * chance.uniform(-0.09, 0.09, 2)
        matrix[:, 2] = matrix[:, 2] + shift
        image = cv2.warpAffine(sample["image"], matrix, (self.side, self.side), flags=cv2.INTER_LINEAR)
        points = sample["keypoints"] @ matrix[:, :2].T + matrix[:, 2]
        return {**sample, "image": image, "keypoints": points.astype(np.float32)}


class RandomLight:
    """Changes gamma, contrast and brightness, adds blur and noise and cuts out a rectangle, as `compact` does."""

    def __call__(self, sample: Sample) -> Sample:
        """Transforms a sample."""
        draw = chance.uniform
        tones = 255 * (np.arange(256) / 255) ** (1.3 ** draw(-1, 1))
        tones = (tones - 128) * (1 + draw(-0.3, 0.3)) + 128 + draw(-30, 30)
        image = cv2.LUT(sample["image"], np.clip(tones, 0, 255).astype(np.uint8))
        if chance.random() < 0.25:
            image = cv2.GaussianBlur(image, (0, 0), draw(0.5, 2.0))
        noisy = image + chance.normal(0, draw(0, 8), image.shape)
        if chance.random() < 0.3:
            side = image.shape[0]
            (top, left), (height, width) = chance.randint(0, side, 2), chance.randint(side // 8, side // 2, 2)
            noisy[top : top + height, left : left + width] = draw(0, 255)
        return {**sample, "image": np.clip(noisy, 0, 255).astype(np.uint8)}


class Grey:
    """Converts the picture to grey."""

    def __call__(self, sample: Sample) -> Sample:
        """Transforms a sample."""
        return {**sample, "image": cv2.cvtColor(np.ascontiguousarray(sample["image"]), cv2.COLOR_RGB2GRAY)}


class Normalize:
    """Scales pixels to 0-1, and keypoints to (pixels - mean) / deviation."""

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.deviation = mean, deviation

    def __call__(self, sample: Sample) -> Sample:
        """Transforms a sample."""
        points = (sample["keypoints"] - self.mean) / self.deviation
        return {**sample, "image": sample["image"] / 255.0, "keypoints": points}


class ToTensor:
    """Channels first, float32."""

    def __call__(self, sample: Sample) -> Sample:
        """Transforms a sample."""
        image, points = sample["image"][None].astype(np.float32), sample["keypoints"].astype(np.float32)
        return {**sample, "image": image, "keypoints": points}


class BatchNormNet(nn.Sequential):
    """`batchnorm`: 151,995,936 parameters for 68 points at 224x224."""

    def __init__(self, num_keypoints: int) -> None:
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, 128), (128, 256)):
            layers += [nn.Conv2d(before, after, 3), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        layers.append(nn.Flatten())
        for before, after in ((36864, 4000), (4000, 1000)):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(0.4)]
        super().__init__(*layers, nn.Linear(1000, 2 * num_keypoints))


class NaimishNet(nn.Sequential):
    """`naimish`: 19,989,896 parameters for 68 points at 224x224."""

    def __init__(self, num_keypoints: int) -> None:
        layers: list[nn.Module] = []
        for before, after, size in ((1, 32, 5), (32, 64, 3), (64, 128, 3), (128, 256, 3), (256, 512, 1)):
            layers += [nn.Conv2d(before, after, size), nn.ReLU(), nn.MaxPool2d(2)]
        layers.append(nn.Flatten())
        for before, after in ((18432, 1024), (1024, 512)):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(0.25)]
        super().__init__(*layers, nn.Linear(512, 2 * num_keypoints))
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)


def normed(before: int, after: int, size: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    """A convolution without bias, and batch normalisation with the momentum of `compact`."""
    convolution = nn.Conv2d(before, after, size, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after, momentum=0.03))


class Block(nn.Module):
    """A residual block of `compact`; `halve` halves height and width."""

    def __init__(self, before: int, after: int, halve: bool = False) -> None:
        super().__init__()
        first = normed(before, after, 2, 2) if halve else normed(before, after, 3, 1, 1)
        self.residual = nn.Sequential(first, nn.ReLU(), normed(after, after, 3, 1, 1))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), normed(before, after, 1)) if halve else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The forward pass."""
        return functional.relu(self.shortcut(x) + self.residual(x))


class CompactNet(nn.Module):
    """`compact`: 1,008,384 parameters for 68 points; returns points and expected errors (B, K, 3)."""

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(normed(1, 24, 4, 2, 1), nn.ReLU())
        stages = ((24, 32, 1), (32, 64, 2), (64, 128, 3))
        self.stages = nn.ModuleList(
            nn.Sequential(Block(before, after, halve=True), *(Block(after, after) for _ in range(count - 1)))
            for before, after, count in stages
        )
        self.context8, self.context16 = nn.Conv2d(64, 64, 1), nn.Conv2d(128, 64, 1)
        self.refine = Block(64, 64)
        self.heatmaps4, self.heatmaps8 = nn.Conv2d(32, num_keypoints, 1), nn.Conv2d(64, num_keypoints, 1)
        self.level = nn.Parameter(torch.full((num_keypoints,), math.log(0.015)))
        self.slope = nn.Parameter(torch.ones(num_keypoints))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The forward pass."""
        levels = []
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        fine, middle, deep = levels
        x = self.refine(functional.relu(self.context8(middle) + doubled(self.context16(deep))))
        weights = (self.heatmaps4(fine) + doubled(self.heatmaps8(x))).flatten(2).softmax(-1)
        side = fine.shape[-1]
        rows, columns = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
        cells = torch.stack([columns, rows], -1).reshape(-1, 2)
        points = weights @ cells
        variance = (weights @ cells.square() - points.square()).clamp_min(0).sum(-1)
        spread = (variance + 1e-6).sqrt()
        return torch.cat([points, torch.exp(self.level + self.slope * torch.log(spread / 0.03))[..., None]], -1)


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Doubles height and width."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def wing_and_likelihood(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Wing loss in per cent of the crop (arXiv:1711.06753), plus half the negative log-likelihood of the errors."""
    difference = predicted[..., :2] - true
    size = 100 * difference.abs()
    wing = torch.where(size < 6, 6 * torch.log1p(size / 2), size - (6 - 6 * math.log1p(3)))
    expected = predicted[..., 2]
    return wing.mean() + 0.5 * (expected.log() + difference.square().sum(-1).sqrt().detach() / expected).mean()


def mean_square(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """MSE of (pixels - 100) / 50."""
    return functional.mse_loss(predicted.view_as(true), true)


def smooth_l1(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Smooth L1 of (pixels - 100) / 50."""
    return functional.smooth_l1_loss(predicted.view_as(true), true)


class Training:
    """A network with its data, loss and optimizer.

    Args:
        network: ``batchnorm``, ``naimish`` or ``compact-112``.
        file: The faces as JSON, as ``training.py`` writes them.
        swap: The left-right permutation of the points.
        batch_size: Faces per step.
    """

    def __init__(self, network: str, file: Path, swap: Sequence[int], batch_size: int) -> None:
        torch.manual_seed(0)
        self.batch_size = batch_size
        if network == "compact-112":
            self.model: nn.Module = CompactNet(len(swap))
            self.loss = wing_and_likelihood
            self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(self.model.parameters(), 2e-3, weight_decay=1e-4)
            transforms: list[Callable[[Sample], Sample]] = [
                RandomFaceCrop(112),
                RandomFlip(swap),
                Grey(),
                RandomLight(),
                Normalize(-0.5, 112),
            ]
        else:
            self.model = NaimishNet(len(swap)) if network == "naimish" else BatchNormNet(len(swap))
            self.loss = mean_square if network == "naimish" else smooth_l1
            self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3)
            flip = [RandomFlip(swap)] if network == "naimish" else []
            transforms = [Rescale(250), RandomCrop(224), *flip, Grey(), Normalize(100, 50)]
        faces = Faces(file, [*transforms, ToTensor()])
        self.loader = DataLoader(faces, self.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)
        self.batches = self._endless()
        self.batch = next(iter(self.batches))

    def _endless(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from self.loader

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        """One step of the optimizer."""
        self.optimizer.zero_grad()
        self.loss(self.model(batch["image"]), batch["keypoints"]).backward()
        self.optimizer.step()

    def pipeline(self, _: int) -> int:
        """Draws one epoch of batches; returns the number of images."""
        return sum(len(batch["image"]) for batch in self.loader)

    def steps(self, count: int) -> int:
        """Runs steps on one batch; returns the number of images."""
        for _ in range(count):
            self.step(self.batch)
        return count * self.batch_size

    def both(self, count: int) -> int:
        """Runs steps on new batches; returns the number of images."""
        for _ in range(count):
            self.step(next(self.batches))
        return count * self.batch_size


def main() -> None:
    """Reads one request per line of stdin: the operation, its repeats before the measurement, and those measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=("batchnorm", "naimish", "compact-112"))
    parser.add_argument("faces", type=Path, help="JSON: paths, keypoints, boxes, swap, batch_size")
    options = parser.parse_args()
    faces = json.loads(options.faces.read_text())
    training = Training(options.network, options.faces, faces["swap"], faces["batch_size"])
    training.model.train()
    training.both(1)
    parameters = sum(part.numel() for part in training.model.parameters())
    print(json.dumps({"parameters": parameters, "precision": "float32"}), flush=True)
    for line in sys.stdin:
        name, before, count = json.loads(line)
        run = getattr(training, name)
        if before and name != "pipeline":  # an epoch of a `DataLoader` starts without ready batches
            run(before)
        start = time.perf_counter()
        images = run(count)
        print(json.dumps({"images": images, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
