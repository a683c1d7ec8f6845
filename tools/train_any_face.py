"""Trains the landmark model that ships, with its face score and visibility, on collected faces and backgrounds.

    python tools/train_any_face.py runs/faces.npz runs/backgrounds.npz --out runs/any-face [--start compact] [--steps N]

The inputs are made by ``tools/compact_faces.py`` and ``tools/compact_backgrounds.py``. One training teaches all four
outputs: a Wing loss on the labelled points, weighted by their reliability, with the likelihood of the expected errors;
a Wing loss on the five-point labels, which are linear functions of the 68 points; and a cross-entropy each for the
score and the visibility. An interrupted training is resumed.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from kpdetect import models
from kpdetect.core.geometry import CropRule, Floats, apply_matrix, mirrored_relative, to_pixels, to_relative
from kpdetect.core.images import Pixels, warp_crop
from kpdetect.core.schema import IBUG68
from kpdetect.modelfile import bundle, runtime
from kpdetect.modelfile.spec import Spec
from kpdetect.models.heads import SCORE_LOGIT, VISIBILITY_LOGIT
from kpdetect.models.losses import Wing
from kpdetect.models.optimizers import AdamW
from kpdetect.models.outputs import JoinOutputs
from tools.compact_batches import FACES, HARD_FACES, SWAP, Batches, Settings

EPOCH = 250  # steps between two checkpoints
LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 8e-4, 0.03, 0.04
LOSS_WEIGHTS = {"points": 1.0, "score": 1.5, "visibility": 1.0, "five": 0.25}
HEADS = ("score", "visibility")
LABELLED = ("ibug", "morphed", "afw", "youtube-faces", "youtube-faces-published")


@keras.saving.register_keras_serializable(package="kpdetect-tools")
class FivePoints(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Pupils, nose tip and corners of the mouth, from the 68 points: (B, 68, 3) -> (B, 5, 2)."""

    def call(self, points: Any) -> Any:
        """A pupil is the mean of the eye's six points."""
        matrix = np.zeros((5, 68), np.float32)
        matrix[0, 36:42] = matrix[1, 42:48] = 1 / 6
        matrix[2, 30] = matrix[3, 48] = matrix[4, 54] = 1
        return ops.matmul(ops.convert_to_tensor(matrix), points[..., :2])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(B, 5, 2)."""
        return (input_shape[0], 5, 2)


def for_training(network: keras.Model) -> keras.Model:
    """The network with the outputs that `tools.compact_batches.Batches` has labels for; shares its weights."""
    outputs = models.named_outputs(network)
    joined = JoinOutputs(name="points")(outputs["keypoints"], outputs["uncertainty"])
    score = network.get_layer(SCORE_LOGIT).output
    visibility = keras.layers.Reshape((-1, 1), dtype="float32", name="visibility_column")(
        network.get_layer(VISIBILITY_LOGIT).output
    )
    five = FivePoints(dtype="float32", name="five")(joined)
    return keras.Model(network.input, {"points": joined, "score": score, "visibility": visibility, "five": five})


def weighted_crossentropy() -> keras.losses.Loss:
    """Cross-entropy from logits, averaged over the weights, so that unknown points do not count."""
    return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.01, reduction="mean_with_sample_weight")


def build(start: str, options: dict[str, Any], size_hw: tuple[int, int]) -> keras.Model:
    """The network, with the weights of a model of the same trunk, or random ones for ``random``.

    The dense layers of the heads depend on the size of the crop; they stay random if the sizes differ.
    """
    network = models.build("compact", 68, (*size_hw, 1), {**options, "heads": list(HEADS)})
    if start == "random":
        return network
    source, _ = bundle.load_bundle(start)
    for layer in source.layers:
        own = network.get_layer(layer.name) if layer.weights else layer
        if [weight.shape for weight in own.weights] == [weight.shape for weight in layer.weights]:
            own.set_weights(layer.get_weights())
    return network


def validation_crops(faces: Any, settings: Settings, groups: tuple[str, ...]) -> tuple[Pixels, Floats, Floats, Any]:
    """Crops of held-out faces as prediction makes them, labels relative to the crop, weights and the faces' rows."""
    rows = np.flatnonzero(faces["validation"] & np.isin(faces["group"], groups))
    rule = CropRule((settings.side, settings.side), settings.margin)
    matrices = rule.matrix(faces["box"][rows])
    crops = [warp_crop(faces["picture"][row], matrix, rule.size_hw) for row, matrix in zip(rows, matrices, strict=True)]
    points = to_relative(apply_matrix(matrices, faces["points"][rows]), rule.size_hw)
    return np.stack(crops), points, faces["weight"][rows], rows


def teach(faces: dict[str, Any], teachers: list[str], share: float) -> None:
    """Mixes the points of completely labelled training faces with the mean prediction of models, plain and mirrored.

    Args:
        faces: The collected faces; their points are changed in place.
        teachers: Models, which may have crops of different sizes.
        share: Of the prediction, in [0, 1].
    """
    rows = np.flatnonzero(~faces["validation"] & np.isin(faces["group"], LABELLED))
    networks = [runtime.load(teacher) for teacher in teachers]
    for start in tqdm(range(0, len(rows), 64), "teachers' predictions", mininterval=5):
        part = rows[start : start + 64]
        predicted = np.mean([predict_twice(network, faces, part) for network in networks], axis=0)
        faces["points"][part] += share * (predicted - faces["points"][part])


def predict_twice(network: runtime.Runtime, faces: dict[str, Any], rows: Any) -> Floats:
    """The mean prediction on the plain and the mirrored crop, (N, 68, 2) in pixels of the collected pictures."""
    rule = network.spec.crop
    matrices = rule.matrix(faces["box"][rows])
    crops = [warp_crop(faces["picture"][row], matrix, rule.size_hw) for row, matrix in zip(rows, matrices, strict=True)]
    plain = np.stack(crops)
    mirrored = mirrored_relative(network(plain[:, :, ::-1]), SWAP)
    mean = to_pixels((network(plain) + mirrored) / 2, rule.size_hw)
    return apply_matrix(np.linalg.inv(matrices), mean)


class Validate(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Prints the errors on held-out faces after some epochs."""

    def __init__(self, network: keras.Model, faces: Any, backgrounds: Any, settings: Settings, every: int) -> None:
        super().__init__()
        self._network, self._every = network, every
        self._sets = {
            name: validation_crops(faces, settings, groups)
            for name, groups in {
                "300-W": ("ibug",),
                "AFW": ("afw",),
                "YouTube Faces": ("youtube-faces",),
                "CFP": ("cfp",),
                "MTFL": ("mtfl",),
                "masks": ("masks",),
            }.items()
        }
        rule = CropRule((settings.side, settings.side), settings.margin)
        low = 288 / 2 - 288 / 2.16 / 2
        matrix = rule.matrix([low, low, 288 - low, 288 - low])
        chosen = backgrounds["picture"][backgrounds["validation"] & (backgrounds["group"] == "scenes")]
        self._backgrounds = np.stack([warp_crop(one, matrix, rule.size_hw) for one in chosen])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Prints a line for each set."""
        if (epoch + 1) % self._every == 0:
            print(json.dumps({"epoch": epoch + 1, **self.measure()}), flush=True)

    def measure(self) -> dict[str, Any]:
        """The errors, and quantiles of the scores."""
        result: dict[str, Any] = {}
        for name, (crops, truth, weight, _) in self._sets.items():
            predicted = self._predict(crops)
            plain = error_percent(predicted["keypoints"], truth, weight, name)
            line = {
                "n": len(crops),
                "error": round(float(plain.mean()), 3),
                "median": round(float(np.median(plain)), 3),
            }
            if name in ("300-W", "AFW", "YouTube Faces"):
                mirrored = self._predict(crops[:, :, ::-1])["keypoints"]
                line["mirrored"] = round(
                    float(error_percent(mirrored_relative(mirrored, SWAP), truth, weight, name).mean()), 3
                )
            line["score below 0.5"] = round(float((predicted["score"] < 0.5).mean()), 4)
            result[name] = line
        scores = self._predict(self._backgrounds)["score"]
        result["backgrounds"] = {"n": len(scores), "score above 0.5": round(float((scores > 0.5).mean()), 4)}
        return result

    def _predict(self, crops: Pixels) -> dict[str, Any]:
        parts = [self._network(crops[i : i + 64].astype(np.float32), training=False) for i in range(0, len(crops), 64)]
        return {name: np.concatenate([np.asarray(part[name], np.float32) for part in parts]) for name in parts[0]}


def error_percent(predicted: Floats, truth: Floats, weight: Floats, name: str) -> Floats:
    """The mean distance of the labelled points (N,), in per cent of the eye distance; of the box for partial labels."""
    labelled = weight >= 0.3
    distance = np.where(labelled, np.linalg.norm(predicted - truth, axis=-1), 0).sum(axis=1)
    distance = distance / np.maximum(labelled.sum(axis=1), 1)
    if name in ("300-W", "AFW", "YouTube Faces"):
        unit = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=-1)
    else:
        hidden = np.where(labelled[..., None], truth, np.nan)
        extent = np.nanmax(hidden, axis=1) - np.nanmin(hidden, axis=1)
        unit = np.sqrt(extent.prod(axis=1))
    return np.asarray(100 * distance / unit, np.float32)


def main() -> None:
    """Trains, and writes a bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("backgrounds", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", default="compact", help="a model with the same trunk, or random")
    parser.add_argument("--side", type=int, default=160, help="of the crop, in pixels (default: %(default)s)")
    parser.add_argument("--heads-only", action="store_true", help="train the two heads of --start, a bundle with heads")
    parser.add_argument(
        "--mistakes",
        type=Path,
        nargs="+",
        default=[],
        help="more backgrounds, of tools/compact_backgrounds.py --mistakes-of",
    )
    parser.add_argument("--teachers", nargs="*", default=[], help="models whose predictions are mixed into the labels")
    parser.add_argument("--teacher-share", type=float, default=0.5, help="of the predictions in the labels")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--validate-every", type=int, default=4, help="epochs of 250 steps")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = Settings(arguments.side)
    if arguments.heads_only:
        settings = dataclasses.replace(settings, faces=40, backgrounds=56)
    faces, backgrounds = dict(np.load(arguments.faces)), dict(np.load(arguments.backgrounds))
    for file in arguments.mistakes:
        mistakes = dict(np.load(file))
        mistakes["group"] = np.full(len(mistakes["group"]), "mistakes")
        backgrounds = {name: np.concatenate([backgrounds[name], mistakes[name]]) for name in backgrounds}
    if arguments.teachers:
        teach(faces, arguments.teachers, arguments.teacher_share)
    keras.utils.set_random_seed(arguments.seed)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    network = build(arguments.start, {}, (settings.side, settings.side))
    if arguments.heads_only:
        for layer in network.layers:
            layer.trainable = layer.name.startswith(("score", "visibility"))
    model = for_training(network)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        round(arguments.steps * (1 - WARM_UP)),
        warmup_target=arguments.learning_rate,
        warmup_steps=round(arguments.steps * WARM_UP),
    )
    optimizer = AdamW(rate, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    losses = {
        "points": Wing(),
        "score": keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.01),
        "visibility": weighted_crossentropy(),
        "five": Wing(),
    }
    model.compile(optimizer, losses, LOSS_WEIGHTS)
    set_shares = HARD_FACES if arguments.heads_only else FACES
    batches = Batches(faces, backgrounds, settings, min(EPOCH, arguments.steps), arguments.seed, set_shares)
    arguments.out.mkdir(parents=True, exist_ok=True)
    callbacks = [
        keras.callbacks.BackupAndRestore(str(arguments.out / "backup")),
        keras.callbacks.ModelCheckpoint(str(arguments.out / "last.weights.h5"), save_weights_only=True),
        Validate(network, faces, backgrounds, settings, arguments.validate_every),
    ]
    model.fit(batches, epochs=max(arguments.steps // EPOCH, 1), callbacks=callbacks, verbose=2)
    save(network, arguments.start, settings, arguments.out)


def save(network: keras.Model, start: str, settings: Settings, out: Path) -> None:
    """Writes the bundle ``out/model``, in float32."""
    keras.mixed_precision.set_global_policy("float32")
    before = bundle.read_spec(bundle.shipped_model() if start == "random" else start)
    size_hw = (settings.side, settings.side)
    exact = models.build("compact", 68, (*size_hw, 1), {"heads": list(HEADS)})
    exact.set_weights(network.get_weights())
    spec = Spec(
        IBUG68,
        "compact",
        {"heads": list(HEADS)},
        CropRule(size_hw, settings.margin),
        channels=1,
        recipe="compact",
        extra={"split": before.split_rule, "parameters": exact.count_params()},
    )
    bundle.save_bundle(exact, spec, out / "model", overwrite=True)


if __name__ == "__main__":
    main()
