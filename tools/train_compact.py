"""Trains and exports the model in ``exported_models/compact``, in stages.

    python tools/train_compact.py [DATA_FOLDER] [--out runs/compact-stages] [--export DIR] [--short]

The data folder, an argument or KPDETECT_DATA, contains youtube_faces/ and ibug_300w/. A tenth of the people and
photographs is the test split of all stages, and a twentieth the validation split. Each stage is one run of
`kpdetect.train`, whose command is printed. Finished stages are skipped and interrupted ones resumed.
``docs/development/compact.md`` describes the purpose and the result of each stage. Two cores need about ten hours; with
``--short``, which trains two teachers and a student from random weights, an hour and a half for a slightly larger
error.
"""

import argparse
import dataclasses
import functools
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
"""Last stages: augmentation of the size that detectors and photographs have."""


TIGHT = (*MILD, "crop.margin=1.2", "augmentation.shift=0.08")
"""Tight crops: with a detector's boxes, resolution on the face is worth more than its surroundings."""

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
"""Stronger augmentation and weight decay, for a training error far below the validation error."""

FREE = (
    "crop.margin=1.2",
    "augmentation.rotation_deg=13",
    "augmentation.scale=0.22",
    "augmentation.blur=0.25",
    "augmentation.noise=8",
    "augmentation.cut_out=0.3",
)
"""The augmentation of the recipe `compact-112`, in tight crops."""

TEACHER_112 = (*TIGHT, "crop.size_hw=112:112", "channels=1", "optimization.weight_decay=0.01")

TAUGHT = (
    "crop.margin=1.2",
    "augmentation.shift=0.08",
    "augmentation.rotation_deg=11",
    "augmentation.scale=0.18",
    "augmentation.blur=0.15",
    "augmentation.noise=6",
    "augmentation.cut_out=0.2",
    "optimization.weight_decay=0.03",
)
"""Between the two: predictions of teachers are less noisy than labels and overfit later."""

LARGE, FINAL = ("crop.size_hw=128:128",), ("crop.size_hw=160:160",)
COLORFUL = (
    *TAUGHT,
    *LARGE,
    "channels=3",
    "augmentation.stretch=0.08",
    "augmentation.saturation=0.7",
    "augmentation.tint=0.12",
)
"""Strong colour augmentation, which makes grey pictures as good as colour."""

WIDER = (
    *TAUGHT,
    "crop.size_hw=144:144",
    "augmentation.rotation_deg=12",
    "augmentation.blur=0.2",
    "augmentation.cut_out=0.25",
    "augmentation.stretch=0.12",
    "optimization.weight_decay=0.04",
)
"""Stronger augmentation in larger crops, against overfitting after hundreds of epochs."""

BLENDED = (*WIDER, "augmentation.shift=0.05", "augmentation.scale=0.1", "augmentation.morphed=2")
"""Two morphed faces per face; small shifts, as in the crops of a second look or of tracking."""

BLENDED_ONCE = (*BLENDED, "augmentation.morphed=1")

SEEN_BY_TEACHERS = (
    "crop.margin=1.2",
    "augmentation.shift=0.05",
    "augmentation.scale=0.12",
    "augmentation.rotation_deg=12",
    "augmentation.blur=0.2",
    "augmentation.noise=6",
    "augmentation.cut_out=0.2",
    "augmentation.stretch=0.1",
)
"""Augmentation of the teachers, which are trained on all sets in small crops, then on 300-W in large ones."""

YOUTUBE_FACES, PUBLISHED_TEST, IBUG = "youtube-faces", "youtube-faces-published-test", "ibug"
FOLDERS = {YOUTUBE_FACES: "youtube_faces", PUBLISHED_TEST: "youtube_faces", IBUG: "ibug_300w"}
EVERYTHING = (YOUTUBE_FACES, PUBLISHED_TEST, IBUG, IBUG)


@dataclass(frozen=True)
class Stage:
    """A training, or the mean of several.

    Attributes:
        name: Its folder.
        epochs: Passes over the data.
        learning_rate: The largest rate of the schedule.
        after: The stage whose weights it starts from; the recipe's start by default.
        recipe: ``compact-112``, ``compact`` for the last stages, or ``efficientnet`` for teachers.
        batch_size: Faces per step.
        sets: The training sets; a set that is listed twice counts twice. The published test list of YouTube Faces has
            more frames of the same people; the split holds out people from both lists.
        taught: The share of the teachers' predictions in each label.
        teachers: The stages whose predictions are averaged; `after` by default.
        taught_sets: The sets whose labels are mixed; empty for all.
        fields: Other fields of the recipe.
        mean_of: Instead of a training, the mean of the weights of these stages.
        channels: Channels of a mean's pictures: 1 converts RGB networks to grey.
    """

    name: str
    epochs: int = 0
    learning_rate: float = 0.0
    after: str | None = None
    recipe: str = "compact-112"
    batch_size: int = 64
    sets: tuple[str, ...] = (YOUTUBE_FACES, IBUG)
    taught: float = 0.0
    teachers: tuple[str, ...] = ()
    taught_sets: tuple[str, ...] = (YOUTUBE_FACES,)
    fields: tuple[str, ...] = ()
    mean_of: tuple[str, ...] = ()
    channels: int | None = None

    def arguments(self, data: Path, out: Path) -> list[str]:
        """Of ``python -m kpdetect.train``."""
        sets = ",".join(f"{name}:{data / FOLDERS[name]}" for name in self.sets)
        words = ["--recipe", self.recipe, "--data", sets, "--align-labels", *HOLD_OUT, "--epochs", str(self.epochs)]
        words += ["--batch-size", str(self.batch_size), "--learning-rate", str(self.learning_rate)]
        words += ["--mixed-precision"] * self.recipe.startswith("compact")  # depthwise convolutions are slower in it
        fields = list(self.fields)
        if self.after is not None:
            words += ["--init-from", str(out / self.after)]
        if self.taught:
            words += ["--teacher", ",".join(str(out / str(name)) for name in self.teachers or [self.after])]
            fields += [f"distillation.share={self.taught}"]
            fields += [f"distillation.data={','.join(self.taught_sets)}"] * bool(self.taught_sets)
        return [*words, "--out", str(out / self.name), *(["--set", *fields] if fields else [])]


on_everything = functools.partial(Stage, sets=EVERYTHING, taught_sets=())
THREE_TEACHERS = ("15-teacher", "17-small-clean", "13-mean")

TEACHERS = (
    Stage(
        "29-teacher",
        13,
        1e-3,
        recipe="efficientnet",
        batch_size=32,
        sets=(YOUTUBE_FACES, IBUG, IBUG),
        fields=(*SEEN_BY_TEACHERS, *LARGE, "augmentation.morphed=1"),
    ),
    Stage(
        "30-teacher",
        7,
        5e-4,
        "29-teacher",
        "efficientnet",
        batch_size=32,
        sets=(IBUG,),
        fields=(*SEEN_BY_TEACHERS, *FINAL, "augmentation.morphed=2"),
    ),
)
"""Trained on as many pictures as 14 and 15 together, at least half of them morphed, and on YouTube Faces."""

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
    on_everything("12-varied", 40, 1.5e-3, "11-mean", taught=0.4, fields=VARIED),
    Stage("13-mean", mean_of=("9-mean", "10-longer", "12-varied")),
    Stage("14-teacher", 40, 1e-3, recipe="efficientnet", batch_size=32, sets=(IBUG,), fields=FREE),
    Stage("15-teacher", 65, 1e-3, "14-teacher", "efficientnet", batch_size=32, sets=(IBUG,), fields=TIGHT),
    Stage(
        "16-small",
        50,
        1.5e-3,
        recipe="efficientnet",
        sets=EVERYTHING,
        taught=0.5,
        teachers=("14-teacher",),
        taught_sets=(YOUTUBE_FACES, PUBLISHED_TEST),
        fields=TEACHER_112,
    ),
    Stage("17-small-clean", 25, 1e-3, "16-small", "efficientnet", sets=(IBUG,), fields=TEACHER_112),
    on_everything(
        "18-taught",
        90,
        1.5e-3,
        "13-mean",
        taught=0.6,
        teachers=("13-mean", "14-teacher", "17-small-clean"),
        fields=TAUGHT,
    ),
    on_everything(
        "19-taught", 55, 1.5e-3, "18-taught", taught=0.7, teachers=("15-teacher", "17-small-clean"), fields=TAUGHT
    ),
    Stage("20-mean", mean_of=("18-taught", "19-taught")),
    on_everything(
        "21-large", 15, 1e-3, "20-mean", taught=0.6, teachers=THREE_TEACHERS, fields=(*TAUGHT, *LARGE, *TIGHT)
    ),
    on_everything("22-colorful", 70, 1.5e-3, "21-large", taught=0.6, teachers=THREE_TEACHERS, fields=COLORFUL),
    Stage("23-grey", mean_of=("22-colorful",), channels=1),
    on_everything("24-larger", 45, 1.5e-3, "23-grey", taught=0.6, fields=WIDER),
    on_everything("25-blended", 46, 1.5e-3, "24-larger", taught=0.6, teachers=("23-grey", "24-larger"), fields=BLENDED),
    Stage("26-mean", mean_of=("23-grey", "24-larger", "25-blended")),
    on_everything(
        "27-larger",
        14,
        4e-4,
        "26-mean",
        "compact",
        taught=0.6,
        teachers=("23-grey", "24-larger", "25-blended"),
        fields=(*BLENDED_ONCE, *FINAL),
    ),
    Stage("28-mean", mean_of=("25-blended", "27-larger")),
    *TEACHERS,
    on_everything(
        "31-alike",
        13,
        8e-4,
        "28-mean",
        "compact",
        taught=0.6,
        teachers=("28-mean", "29-teacher", "30-teacher"),
        fields=(*BLENDED_ONCE, *FINAL),
    ),
    Stage("32-mean", mean_of=("28-mean", "31-alike")),
)

taught_by_both = functools.partial(on_everything, taught=0.6, teachers=tuple(stage.name for stage in TEACHERS))

SHORT = (
    *TEACHERS,
    taught_by_both("student", 32, 2e-3, fields=(*BLENDED, *LARGE)),
    taught_by_both("student-larger", 8, 8e-4, "student", fields=BLENDED_ONCE),
)
"""Two teachers, and a student from random weights in small and then in larger crops."""


def run(*arguments: str) -> None:
    """Prints a command of kpdetect and runs it."""
    command = [sys.executable, "-m", *arguments]
    print(shlex.join(["python", *command[1:]]), flush=True)
    subprocess.run(command, check=True)


def average(stages: Sequence[Path], data: Path, out: Path, channels: int | None = None) -> None:
    """Writes the mean of the weights of related models, with its uncertainty calibrated on validation faces.

    Source: Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903. The running statistics of
    normalisation are averaged too, which is sufficient for models that are close to each other.
    """
    from kpdetect import models
    from kpdetect.data import load, split_by_rule
    from kpdetect.modelfile import bundle
    from kpdetect.training.transfer import kernel_for
    from kpdetect.training.uncertainty_calibration import calibrate

    networks, specs = zip(*(bundle.load_bundle(folder) for folder in stages), strict=True)
    spec = dataclasses.replace(specs[-1], channels=channels or specs[-1].channels)
    network = models.build(spec.architecture, spec.num_keypoints, spec.input_shape, spec.architecture_options)
    same_weights = zip(*(one.get_weights() for one in networks), strict=True)
    means = [sum(weights) / len(networks) for weights in same_weights]
    first, *others = means  # the kernel of the first convolution
    network.set_weights([kernel_for(spec.channels, first), *others])
    val = split_by_rule(load(f"{IBUG}:{data / FOLDERS[IBUG]}"), spec.split_rule)[1]
    calibrated = calibrate(network, val, dataclasses.replace(spec, errors=()))
    names = [folder.name for folder in stages]
    size = {"parameters": models.count_parameters(network), "macs": models.count_macs(network)}
    described = dataclasses.replace(calibrated, extra={**calibrated.extra, **size, "averaged": names})
    bundle.save_bundle(network, described, out, overwrite=True)
    print(f"{out}: the mean of {', '.join(names)}", flush=True)


def main() -> None:
    """Trains the stages that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/compact-stages"), help="folder of the stages (default: %(default)s)"
    )
    parser.add_argument("--short", action="store_true", help="four stages instead of all")
    parser.add_argument("--export", type=Path, help="folder to write the exported model to")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the data folder, or set KPDETECT_DATA")
    stages = SHORT if arguments.short else STAGES
    for stage in stages:
        folder = arguments.out / stage.name
        done = folder / ("spec.json" if stage.mean_of else "result.csv")
        if done.exists():
            print(f"{folder}: already done", flush=True)
            continue
        if stage.mean_of:
            means = [arguments.out / name for name in stage.mean_of]
            average(means, Path(arguments.data), folder, stage.channels)
            continue
        resume = ["--resume"] if (folder / "run.json").exists() else []
        run("kpdetect.train", *stage.arguments(Path(arguments.data), arguments.out), *resume)
    if arguments.export is not None:
        last = arguments.out / stages[-1].name
        words = ["--formats", "tflite,onnx", "--quantize", "int8,none,fp16", "--overwrite"]
        words += ["--representative", f"youtube-faces:{arguments.data}/youtube_faces,ibug:{arguments.data}/ibug_300w"]
        run("kpdetect.export", str(last), "--out", str(arguments.export), *words)


if __name__ == "__main__":
    main()
