"""Trains and exports the face finder in ``exported_models/finder``.

    python tools/train_finder.py [DATA_FOLDER] [--out runs/finder] [--export DIR]

The data folder, an argument or KPDETECT_DATA, contains youtube_faces/ and ibug_300w/. Training canvases are composed of
faces and of pieces without a face (`kpdetect.training.finder`). The validation and test faces of the shipped model are
not used for training, and neither is AFW, whose photographs measure detection.
"""

import argparse
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from kpdetect.data import Annotations, load, split_by_rule
from kpdetect.modelfile import bundle
from kpdetect.models.finder import finder
from kpdetect.training.finder import Portrait, draw_canvas, export_finder, finder_loss, portraits_of, targets

SIDE, BATCH, SEED = 256, 32, 0
CANVASES, VALIDATION_CANVASES = 24_000, 1_000
EPOCHS, HELD_EPOCHS, LEARNING_RATE, WEIGHT_DECAY = 8, 2, 3e-3, 0.01


class Canvases(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    """Batches of canvases and targets; half of the canvases are mirrored at random."""

    def __init__(self, pictures: Any, truth: Any, shuffled: bool) -> None:
        super().__init__()
        self._pictures, self._truth, self._rng = pictures, truth, np.random.default_rng(SEED) if shuffled else None
        self._order = np.arange(len(pictures))
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self._pictures) // BATCH

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = np.sort(self._order[index * BATCH : (index + 1) * BATCH])
        pictures, truth = self._pictures[rows].astype(np.float32), self._truth[rows].astype(np.float32)
        if self._rng is not None:
            mirrored = self._rng.random(len(rows)) < 0.5
            pictures[mirrored] = pictures[mirrored, :, ::-1]
            truth[mirrored] = truth[mirrored, :, ::-1] * np.array([1, -1, 1, 1, 1], np.float32)
        return pictures[..., None], truth

    def on_epoch_end(self) -> None:
        """Shuffles the canvases."""
        if self._rng is not None:
            self._rng.shuffle(self._order)


class HeldThenCosine(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # keras has no types
    """Half an epoch of warm-up, a constant rate for some epochs, then half a cosine down to zero."""

    def __init__(self, epoch_steps: int) -> None:
        self._epoch_steps = epoch_steps

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step."""
        epoch = ops.cast(step, "float32") / self._epoch_steps
        done = ops.clip((epoch - HELD_EPOCHS) / (EPOCHS - HELD_EPOCHS), 0.0, 1.0)
        return LEARNING_RATE * ops.minimum(epoch / 0.5, 1.0) * (1 + ops.cos(math.pi * done)) / 2


def canvases_of(portraits: Sequence[Portrait], count: int, seed: int, shuffled: bool) -> Canvases:
    """Draws canvases in threads; each depends only on the seed and its number."""
    pictures = np.zeros((count, SIDE, SIDE), np.uint8)
    truth = np.zeros((count, SIDE // 8, SIDE // 8, 5), np.float16)

    def draw(number: int) -> None:
        canvas = draw_canvas(list(portraits), np.random.default_rng([seed, number]), SIDE)
        pictures[number], truth[number] = canvas.picture, targets(canvas.boxes, SIDE)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in tqdm(pool.map(draw, range(count)), "drawing", count, unit="canvas", mininterval=1):
            pass
    return Canvases(pictures, truth, shuffled)


def faces_of(data: Path) -> tuple[list[Portrait], list[Portrait]]:
    """Training and validation faces of YouTube Faces, HELEN and LFPW, with the split of the shipped model."""
    rule = bundle.read_spec(bundle.shipped_model()).extra["split"]
    sets = [load(f"youtube-faces:{data / 'youtube_faces'}"), load(f"ibug:{data / 'ibug_300w'}")]
    parts = [[_without_afw(part) for part in split_by_rule(faces, rule)[:2]] for faces in sets]
    train, val = ([face for part in parts for face in portraits_of(part[which])] for which in (0, 1))
    return train, val


def _without_afw(faces: Annotations) -> Annotations:
    return faces.take([row for row, path in enumerate(faces.paths.tolist()) if Path(path).parent.name != "afw"])


def train(data: Path, out: Path) -> None:
    """Trains, and saves the weights."""
    train_faces, val_faces = faces_of(data)
    print(f"{len(train_faces)} training faces, {len(val_faces)} validation faces")
    batches = canvases_of(train_faces, CANVASES, SEED + 1, shuffled=True)
    validation = canvases_of(val_faces, VALIDATION_CANVASES, SEED + 2, shuffled=False)
    keras.utils.set_random_seed(SEED)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    network = finder()
    network.compile(keras.optimizers.AdamW(HeldThenCosine(len(batches)), weight_decay=WEIGHT_DECAY), finder_loss)
    out.mkdir(parents=True, exist_ok=True)
    keep = keras.callbacks.ModelCheckpoint(str(out / "finder.weights.h5"), save_weights_only=True)
    network.fit(batches, epochs=EPOCHS, validation_data=validation, callbacks=[keep], verbose=2)


def main() -> None:
    """Trains, and exports if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--out", type=Path, default=Path("runs/finder"), help="folder of the weights")
    parser.add_argument("--export", type=Path, help="folder to write finder.tflite to")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the data folder, or set KPDETECT_DATA")
    train(Path(arguments.data), arguments.out)
    if arguments.export is not None:
        keras.mixed_precision.set_global_policy("float32")
        network = finder()
        network.load_weights(arguments.out / "finder.weights.h5")
        export_finder(network, arguments.export / "finder.tflite")


if __name__ == "__main__":
    main()
