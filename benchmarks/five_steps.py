"""Trains and measures the five steps from `naimish` to `compact` of ``docs/from-student-project.md``.

    python benchmarks/five_steps.py --data youtube-faces:DIR --out runs/five-steps

Each step is a ``kpdetect train`` command that keeps the changes of the steps before it. All have the same faces,
validation people, number of epochs, batch size and seed. A run folder that is finished is not trained again. Then each
model is measured on the validation people, in the boxes of the labels and end to end: with the faces that kpdetect
finds in the photographs. Prints a table, and writes ``five-steps.csv`` and the curves of validation to the folder.

``--dry-run`` prints the commands.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kpdetect import evaluate
from kpdetect.data.labelled_faces import read_history
from kpdetect.evaluation.results import ResultRow, read_rows
from kpdetect.training import RESULT_FILE
from kpdetect.visualization.figures import new_figure, save_figure

COMMON = "--epochs 10 --batch-size 16 --mixed-precision"
HALF_SIZE = "crop.size_hw=112:112 architecture_options.target_px=50:25"
CROP = f"image_side=none crop.margin=1.35 {HALF_SIZE}"
AUGMENTATION = (
    "augmentation.rotation_deg=8 augmentation.scale=0.12 augmentation.shift=0.05 "
    "augmentation.brightness=20 augmentation.contrast=0.2 augmentation.gamma=0.2"
)
ONLY_THE_NETWORK = "optimization.schedule=constant augmentation.blur=0 augmentation.noise=0 augmentation.cut_out=0"
"""Takes back what the recipe `compact-112` has besides its network."""

STEPS = {
    "0-frames": f"--recipe naimish --set image_side=125 {HALF_SIZE}",
    "1-crop": f"--recipe naimish --set {CROP}",
    "2-loss": f"--recipe naimish --loss wing --set loss_unit=100 {CROP}",
    "3-augmentation": f"--recipe naimish --loss wing --set {AUGMENTATION} loss_unit=100 {CROP}",
    "4-batch-norm": (
        f"--recipe naimish --loss wing --set architecture_options.batch_norm=true {AUGMENTATION} loss_unit=100 {CROP}"
    ),
    "5-soft-argmax": (
        f"--recipe compact-112 --optimizer adam --learning-rate 0.001 --set {AUGMENTATION} {ONLY_THE_NETWORK}"
    ),
}
"""The options of each step, by the name of its run folder. The document has the same commands."""

COLUMNS = (
    "step",
    "labels' boxes, %",
    "mirrored, %",
    "constant, %",
    "found, %",
    "not found",
    "parameters, M",
    "MACs, M",
)
CURVES = "five-steps-curves.png"


def command(name: str, data: str, out: Path) -> list[str]:
    """The options of ``kpdetect train`` for one step."""
    return [*COMMON.split(), *STEPS[name].split(), "--data", data, "--out", str(out / name)]


def measure(name: str, data: str, out: Path) -> tuple[str, ...]:
    """The `COLUMNS` of a trained step. Errors in found boxes are measured once, and kept in the run folder."""
    labels: ResultRow = read_rows(out / name / RESULT_FILE)[0]
    file = out / name / "found.json"
    if not file.exists():
        options = [str(out / name), "--data", data, "--split", "val", "--boxes", "finder", "--no-box-jitter"]
        evaluate.main([*options, "--json", str(file)])
    found = json.loads(file.read_text(encoding="utf-8"))
    errors = (labels.nme, labels.nme_mirrored, labels.nme_constant, found["nme"])
    sizes = (f"{labels.parameters / 1e6:.2f}", f"{labels.macs / 1e6:.0f}")
    texts = ("-" if error is None else f"{error:.2f}" for error in errors)
    return (name, *texts, str(found["missed"]), *sizes)


def plot_curves(names: Sequence[str], out: Path) -> None:
    """Draws the validation NME of each epoch, one line per step."""
    figure, (axis,) = new_figure(1, 1, (6.0, 4.0))
    for number, name in enumerate(names):
        errors = [100 * error for error in read_history(str(out / name))["val_nme"]]
        axis.plot(range(1, len(errors) + 1), errors, color=f"C{number}", label=name, marker=".", linewidth=1.2)
    axis.set(xlabel="epoch", ylabel="NME on the validation people, %", yscale="log")
    ticks = (4, 5, 6, 8, 10, 15, 20, 30, 50)
    axis.set_yticks(ticks, [str(tick) for tick in ticks], minor=False)
    axis.set_yticks([], minor=True)
    axis.legend(frameon=False)
    save_figure(figure, out / CURVES)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic:600", help="labelled faces, as for kpdetect train")
    parser.add_argument("--out", type=Path, default=Path("runs/five-steps"), help="folder for the runs")
    parser.add_argument("--steps", default=",".join(STEPS), help="names of steps, by comma")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and train nothing")
    options = parser.parse_args(argv)
    names = options.steps.split(",")
    rows = []
    for name in names:
        words = command(name, options.data, options.out)
        if options.dry_run:
            print(shlex.join(["kpdetect", "train", *words]))
            continue
        if not (options.out / name / RESULT_FILE).exists():
            subprocess.run([sys.executable, "-m", "kpdetect.train", *words, "--overwrite"], check=True)
        rows.append(measure(name, options.data, options.out))
    if options.dry_run:
        return 0
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    with (options.out / "five-steps.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    plot_curves(names, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
