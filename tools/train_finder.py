"""Trains and exports the face finder in ``exported_models/finder``.

    python tools/train_finder.py [DATA_FOLDER] [--faces FILE.csv ...] [--backgrounds DIR ...] [--out runs/finder]
        [--start WEIGHTS] [--export DIR]

The data folder, an argument or KPDETECT_DATA, contains youtube_faces/ and ibug_300w/. The validation and test faces of
the shipped model are not used for training, and neither is AFW, whose photographs measure detection.

A file of ``--faces`` has a row per box, with the columns image, x, y, width, height and roll_deg (the oriented box, see
`kpdetect.detection.oriented`), kind, alone and subject. The kind is ``face``; ``maybe``, a box that is neither trained
as a face nor as background; or ``mistake``, a box without a face that a finder took for one. ``alone`` is 1 if the
photograph shows no other face. A folder of ``--backgrounds`` contains photographs without faces. A quarter of the
subjects, and of the photographs without faces, is left out for validation (`kpdetect.data.is_held_out`, as for the
landmark model). The shipped finder was trained with an earlier rule, which leaves out another quarter.

Training canvases are composed of all of this (`kpdetect.training.finder`). The weights are saved after each epoch, and
the same command continues after the last one that was finished.
"""

import argparse
import csv
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels, cv2, read_image, to_channels
from kpdetect.data import Annotations, is_held_out, load, split_by_rule
from kpdetect.detection.oriented import tight_boxes
from kpdetect.modelfile import bundle
from kpdetect.models.finder import VALUES, finder
from kpdetect.training.finder import (
    Portrait,
    draw_canvas,
    export_finder,
    finder_loss,
    mirrored_targets,
    portrait,
    portraits_of,
    targets,
    turned_targets,
)

SIDE, BATCH, SEED = 256, 32, 0
CANVASES, VALIDATION_CANVASES, CALIBRATION_CANVASES = 24_000, 600, 200
EPOCHS, HELD_EPOCHS, LEARNING_RATE, WEIGHT_DECAY = 8, 2, 3e-3, 0.01
TURNED = 0.4  # share of the canvases that an epoch turns by quarters
BACKGROUND_SIDE = 480  # longer side of a photograph without faces, in pixels


@dataclass
class Material:
    """What canvases are composed of.

    Attributes:
        portraits: The faces.
        mistakes: What looks like faces.
        backgrounds: Grey photographs without faces.
    """

    portraits: list[Portrait] = field(default_factory=list)
    mistakes: list[Portrait] = field(default_factory=list)
    backgrounds: list[Pixels] = field(default_factory=list)


class Canvases(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
    """Batches of canvases and targets. For training they are shuffled, mirrored and turned by quarters at random."""

    def __init__(self, pictures: Any, truth: Any, shuffled: bool) -> None:
        super().__init__()
        self.pictures = pictures
        self._truth, self._rng = truth, np.random.default_rng(SEED) if shuffled else None
        self._order = np.arange(len(pictures))
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.pictures) // BATCH

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = np.sort(self._order[index * BATCH : (index + 1) * BATCH])
        pictures, truth = self.pictures[rows].astype(np.float32), self._truth[rows].astype(np.float32)
        if self._rng is not None:
            self._turn(pictures, truth, self._rng)
        return pictures[..., None], truth

    def _turn(self, pictures: Any, truth: Any, rng: np.random.Generator) -> None:
        """Mirrors half of the pictures, and turns some by quarters, with their targets."""
        for row in range(len(pictures)):
            if rng.random() < 0.5:
                pictures[row], truth[row] = pictures[row, :, ::-1].copy(), mirrored_targets(truth[row])
            for _ in range(int(rng.integers(1, 4)) if rng.random() < TURNED else 0):
                pictures[row], truth[row] = np.rot90(pictures[row]).copy(), turned_targets(truth[row])

    def on_epoch_end(self) -> None:
        """Shuffles the canvases."""
        if self._rng is not None:
            self._rng.shuffle(self._order)


class HeldThenCosine(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # keras has no types
    """Half an epoch of warm-up, a constant rate for some epochs, then half a cosine down to zero."""

    def __init__(self, epoch_steps: int, epochs: int, held: int, rate: float) -> None:
        self._epoch_steps, self._epochs, self._held, self._rate = epoch_steps, epochs, held, rate

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step."""
        epoch = ops.cast(step, "float32") / self._epoch_steps
        done = ops.clip((epoch - self._held) / max(self._epochs - self._held, 1), 0.0, 1.0)
        return self._rate * ops.minimum(epoch / 0.5, 1.0) * (1 + ops.cos(math.pi * done)) / 2


def canvases_of(material: Material, count: int, seed: int, shuffled: bool) -> Canvases:
    """Draws canvases in threads; each depends only on the material, the seed and its number."""
    pictures = np.zeros((count, SIDE, SIDE), np.uint8)
    truth = np.zeros((count, SIDE // 8, SIDE // 8, VALUES), np.float16)

    def draw(number: int) -> None:
        rng = np.random.default_rng([seed, number])
        canvas = draw_canvas(material.portraits, rng, SIDE, material.backgrounds, material.mistakes)
        pictures[number], truth[number] = canvas.picture, targets(canvas.faces, SIDE, canvas.ignored)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in tqdm(pool.map(draw, range(count)), "drawing", count, unit="canvas", mininterval=5):
            pass
    return Canvases(pictures, truth, shuffled)


def material_of(data: Path, faces: Sequence[Path], backgrounds: Sequence[Path]) -> tuple[Material, Material]:
    """Reads the material for training and for validation."""
    train, val = Material(), Material()
    rule = bundle.read_spec(bundle.shipped_model()).extra["split"]
    for spec in (f"youtube-faces:{data / 'youtube_faces'}", f"ibug:{data / 'ibug_300w'}"):
        parts = [_without_afw(part) for part in split_by_rule(load(spec), rule)[:2]]
        train.portraits += portraits_of(parts[0])
        val.portraits += portraits_of(parts[1])
    for file in faces:
        _add_boxes(file, train, val)
    for folder in backgrounds:
        for path in sorted(folder.iterdir()):
            part = val if is_held_out(f"{folder.name}/{path.name}") else train
            part.backgrounds.append(_grey(read_image(path)))
    return train, val


def _without_afw(faces: Annotations) -> Annotations:
    return faces.take([row for row, path in enumerate(faces.paths.tolist()) if Path(path).parent.name != "afw"])


def _grey(photograph: Pixels) -> Pixels:
    """A photograph in grey, of at most `BACKGROUND_SIDE` pixels."""
    grey = to_channels(photograph, 1)[..., 0]
    scale = min(BACKGROUND_SIDE / max(grey.shape), 1)
    size_xy = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size_xy, interpolation=cv2.INTER_AREA), np.uint8)


def _add_boxes(file: Path, train: Material, val: Material) -> None:
    """Adds the faces and mistakes of a file of boxes."""
    rows_of: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            rows_of[row["image"]].append(row)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        photographs = pool.map(lambda image: read_image(file.parent / image), rows_of)
        progress = tqdm(photographs, file.name, len(rows_of), unit="photo", mininterval=5)
        for rows, photograph in zip(rows_of.values(), progress, strict=True):
            boxes = np.array(
                [[float(row[key]) for key in ("x", "y", "width", "height", "roll_deg")] for row in rows], np.float32
            )
            maybe = np.array([row["kind"] != "mistake" for row in rows])
            part = val if is_held_out(rows[0]["subject"]) else train
            for index, row in enumerate(rows):
                if row["kind"] == "maybe":
                    continue
                is_face = row["kind"] == "face"
                others = tight_boxes(boxes[maybe & (np.arange(len(rows)) != index)])
                one = portrait(photograph, boxes[index], is_face, row["alone"] == "1", others)
                (part.portraits if is_face else part.mistakes).append(one)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs: The number of epochs.
        held: Epochs at the full learning rate, before its cosine.
        rate: The full learning rate.
        canvases: The number of training pictures.
        seed: Of the canvases and the weights.
        start: Weights to start from; None for random ones.
    """

    epochs: int
    held: int
    rate: float
    canvases: int
    seed: int
    start: Path | None


def train(train_material: Material, val_material: Material, out: Path, schedule: Schedule) -> None:
    """Trains, and saves the weights and the pictures that calibrate int8."""
    for name, part in (("training", train_material), ("validation", val_material)):
        print(
            f"{name}: {len(part.portraits)} faces, {len(part.mistakes)} mistakes, {len(part.backgrounds)} backgrounds"
        )
    batches = canvases_of(train_material, schedule.canvases, 2 * schedule.seed + 1, shuffled=True)
    count = min(schedule.canvases, VALIDATION_CANVASES)
    validation = canvases_of(val_material, count, 2 * SEED + 2, shuffled=False)  # the same for all seeds
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "calibration.npy", batches.pictures[:CALIBRATION_CANVASES])
    keras.utils.set_random_seed(schedule.seed)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    network = finder()
    if schedule.start is not None:
        network.load_weights(schedule.start)
    rate = HeldThenCosine(len(batches), schedule.epochs, schedule.held, schedule.rate)
    # XLA takes twice as long on CPUs: it does not use oneDNN's convolutions in bfloat16.
    network.compile(keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY), finder_loss, jit_compile=False)
    checkpoint = keras.callbacks.BackupAndRestore(str(out / "backup"), delete_checkpoint=False)
    keep = keras.callbacks.ModelCheckpoint(str(out / "finder.weights.h5"), save_weights_only=True)
    network.fit(batches, epochs=schedule.epochs, validation_data=validation, callbacks=[keep, checkpoint], verbose=2)


def main() -> None:
    """Trains, and exports if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--faces", type=Path, nargs="*", default=[], help="files of boxes")
    parser.add_argument("--backgrounds", type=Path, nargs="*", default=[], help="folders of photographs without faces")
    parser.add_argument("--out", type=Path, default=Path("runs/finder"), help="folder of the weights")
    parser.add_argument("--export", type=Path, help="folder to write the TFLite files to")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs (default: %(default)s)")
    parser.add_argument("--canvases", type=int, default=CANVASES, help="training pictures (default: %(default)s)")
    parser.add_argument("--held", type=int, default=HELD_EPOCHS, help="epochs at the full rate (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of canvases and weights (default: %(default)s)")
    parser.add_argument("--start", type=Path, help="weights to start from")
    parser.add_argument("--only-export", action="store_true", help="export the weights that --out contains")
    arguments = parser.parse_args()
    if not arguments.only_export:
        if arguments.data is None:
            parser.error("give the data folder, or set KPDETECT_DATA")
        material = material_of(Path(arguments.data), arguments.faces, arguments.backgrounds)
        schedule = Schedule(
            arguments.epochs, arguments.held, arguments.rate, arguments.canvases, arguments.seed, arguments.start
        )
        train(*material, arguments.out, schedule)
    if arguments.export is not None:
        keras.mixed_precision.set_global_policy("float32")
        network = finder()
        network.load_weights(arguments.out / "finder.weights.h5")
        export_finder(network, arguments.export, np.load(arguments.out / "calibration.npy"))


if __name__ == "__main__":
    try:
        main()
    except KpdetectError as error:
        raise SystemExit(str(error)) from None
