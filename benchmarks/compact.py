"""Trains the model that ships, in stages, and exports it: the one command that makes ``exported_models/compact`` again.

    python benchmarks/compact.py [DATA_FOLDER] [--out runs/compact] [--export DIR]

The data folder is that of KPDETECT_DATA, with youtube_faces/ and ibug_300w/. A tenth of the people and photographs is
kept out of everything for the test, a twentieth validates. Each stage is a `kpdetect.train` of its own, whose command
is printed; a stage that is done is not done again, and one that was broken off goes on where it was. What each stage is
for, and what it gave, is in ``benchmarks/compact.md``. Two cores take some three hours.
"""

import argparse
import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOLD_OUT = ("--test-fraction", "0.1", "--val-fraction", "0.05")
MILD = (
    "augmentation.rotation_deg=9",
    "augmentation.scale=0.16",
    "augmentation.shift=0.07",
    "augmentation.blur=0.12",
    "augmentation.noise=5",
    "augmentation.cut_out=0.15",
)
"""Last, faces vary as much as detectors' boxes and photographs do, and no longer more."""


TIGHT = (*MILD, "crop.margin=1.2", "augmentation.shift=0.08")
"""With boxes as good as a detector's, what lies around the face is worth less than pixels of the face."""

VARIED = (
    "crop.margin=1.2",
    "augmentation.shift=0.08",
    "augmentation.rotation_deg=13",
    "augmentation.scale=0.2",
    "augmentation.blur=0.2",
    "augmentation.noise=7",
    "augmentation.cut_out=0.3",
    "optimization.weight_decay=0.05",
)
"""Once the training error is far below the validation error, pictures vary more again, and weights are kept small."""

YOUTUBE_FACES, PUBLISHED_TEST, IBUG = "youtube-faces", "youtube-faces-published-test", "ibug"
FOLDERS = {YOUTUBE_FACES: "youtube_faces", PUBLISHED_TEST: "youtube_faces", IBUG: "ibug_300w"}


@dataclass(frozen=True)
class Stage:
    """One training, or the mean of several.

    Attributes:
        name: Its folder.
        epochs: How many.
        learning_rate: The schedule's greatest.
        after: The stage whose weights it begins with.
        sets: What it is trained on; a set that stands there twice counts twice. (More frames of the people of YouTube
            Faces are in its published test list; whoever is kept out of one list is kept out of the other.)
        taught: What share of each label is the mark of the stage before.
        taught_sets: Of which sets; empty for all.
        fields: Other fields of the recipe.
        mean_of: No training, but the mean of the weights of these stages.
    """

    name: str
    epochs: int = 0
    learning_rate: float = 0.0
    after: str | None = None
    sets: tuple[str, ...] = (YOUTUBE_FACES, IBUG)
    taught: float = 0.0
    taught_sets: tuple[str, ...] = (YOUTUBE_FACES,)
    fields: tuple[str, ...] = ()
    mean_of: tuple[str, ...] = ()

    def arguments(self, data: Path, out: Path) -> list[str]:
        """Of ``python -m kpdetect.train``."""
        sets = ",".join(f"{name}:{data / FOLDERS[name]}" for name in self.sets)
        words = ["--recipe", "compact", "--data", sets, "--align-labels", "--mixed-precision", *HOLD_OUT]
        words += ["--epochs", str(self.epochs), "--learning-rate", str(self.learning_rate)]
        fields = list(self.fields)
        if self.after is not None:
            words += ["--init-from", str(out / self.after)]
        if self.taught:
            words += ["--teacher", str(out / str(self.after))]
            fields += [f"teaching.share={self.taught}"]
            fields += [f"teaching.data={','.join(self.taught_sets)}"] * bool(self.taught_sets)
        return [*words, "--out", str(out / self.name), *(["--set", *fields] if fields else [])]


STAGES = (
    Stage("1-all", 45, 2e-3),
    Stage("2-clean", 50, 1e-3, after="1-all", sets=(IBUG,)),
    Stage("3-taught", 100, 2e-3, after="2-clean", taught=0.5),
    Stage("4-clean", 90, 1e-3, after="3-taught", sets=(IBUG,), fields=MILD),
    Stage("5-taught", 95, 1.5e-3, after="4-clean", sets=(YOUTUBE_FACES, IBUG, IBUG), taught=0.3, fields=MILD),
    Stage("6-clean", 30, 5e-4, after="5-taught", sets=(IBUG,), fields=MILD),
    Stage("7-mean", mean_of=("5-taught", "6-clean")),
    Stage("8-tight", 18, 1e-3, after="7-mean", sets=(YOUTUBE_FACES, *[IBUG] * 4), taught=0.3, fields=TIGHT),
    Stage("9-mean", mean_of=("7-mean", "8-tight")),
    Stage("10-longer", 110, 1.5e-3, after="9-mean", sets=(YOUTUBE_FACES, IBUG, IBUG), taught=0.5, fields=TIGHT),
    Stage("11-mean", mean_of=("9-mean", "10-longer")),
    Stage(
        "12-varied",
        40,
        1.5e-3,
        after="11-mean",
        sets=(YOUTUBE_FACES, PUBLISHED_TEST, IBUG, IBUG),
        taught=0.4,
        taught_sets=(),
        fields=VARIED,
    ),
    Stage("13-mean", mean_of=("9-mean", "10-longer", "12-varied")),
)


def run(*arguments: str) -> None:
    """Runs a command of kpdetect, and prints it first."""
    command = [sys.executable, "-m", *arguments]
    print(shlex.join(["python", *command[1:]]), flush=True)
    subprocess.run(command, check=True)


def average(stages: Sequence[Path], data: Path, out: Path) -> None:
    """Writes the model in the middle of several that began alike, its uncertainty calibrated on validation faces.

    The mean of weights is better on what any was trained on than the mean of their errors (Wortsman et al.,
    *Robust fine-tuning of zero-shot models*, arXiv:2109.01903); running statistics of normalisation are averaged alike,
    for the models are near.
    """
    from kpdetect import bundle
    from kpdetect.datasets import load, split_by_rule
    from kpdetect.training.calibrating import calibrate

    models, specs = zip(*(bundle.load_bundle(folder) for folder in stages), strict=True)
    network, spec = models[0], specs[-1]
    same_weights = zip(*(model.get_weights() for model in models), strict=True)
    network.set_weights([sum(weights) / len(models) for weights in same_weights])
    val = split_by_rule(load(f"{IBUG}:{data / FOLDERS[IBUG]}"), spec.split_rule)[1]
    calibrated = calibrate(network, val, dataclasses.replace(spec, errors=()))
    origin = {"averaged": [folder.name for folder in stages]}
    bundle.save_bundle(network, dataclasses.replace(calibrated, extra={**calibrated.extra, **origin}), out, True)
    print(f"{out}: the mean of {', '.join(origin['averaged'])}", flush=True)


def main() -> None:
    """Trains what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--out", type=Path, default=Path("runs/compact-stages"), help="folder of the stages' runs")
    parser.add_argument("--export", type=Path, help="folder to write the exported model to")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("name the data folder, or set KPDETECT_DATA")
    for stage in STAGES:
        folder = arguments.out / stage.name
        done = folder / ("spec.json" if stage.mean_of else "result.csv")
        if done.exists():
            print(f"{folder}: done already", flush=True)
            continue
        if stage.mean_of:
            average([arguments.out / name for name in stage.mean_of], Path(arguments.data), folder)
            continue
        resume = ["--resume"] if (folder / "run.json").exists() else []
        run("kpdetect.train", *stage.arguments(Path(arguments.data), arguments.out), *resume)
    if arguments.export is not None:
        last = arguments.out / STAGES[-1].name
        words = ["--formats", "tflite,onnx", "--quantize", "none,fp16,int8", "--overwrite"]
        words += ["--representative", f"youtube-faces:{arguments.data}/youtube_faces,ibug:{arguments.data}/ibug_300w"]
        run("kpdetect.export", str(last), "--out", str(arguments.export), *words)


if __name__ == "__main__":
    main()
