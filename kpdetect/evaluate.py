"""Owns the command that measures a model on labelled faces: one result row, tables, and pictures of what went wrong."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.atomic_write import write_json
from kpdetect.core.errors import KpdetectError
from kpdetect.core.options import option, parse_options, quietly, run_command
from kpdetect.data import Annotations, drop_unlabelled, load
from kpdetect.detection import HAAR
from kpdetect.evaluation.end_to_end import evaluate_end_to_end
from kpdetect.evaluation.evaluator import Evaluation, as_model_sees, box_jitter_curve, evaluate
from kpdetect.evaluation.reporting import region_table, result_row, write_evaluation_pictures
from kpdetect.evaluation.results import ResultRow, append_row
from kpdetect.evaluation.slices import Part, breakdown, breakdown_table
from kpdetect.evaluation.splits import choose_split
from kpdetect.evaluation.uncertainty import Reliability, judge, reliability_table, shares_taken_for_faces
from kpdetect.inference.predictor import Predictor
from kpdetect.modelfile import runtime


@dataclass(frozen=True)
class EvaluateOptions:
    """Measures a model on labelled faces: plain, mirrored and centred, per group of points, and as boxes go wrong."""

    model: str = option(
        dataclasses.MISSING,
        "run or bundle folder, .tflite, .onnx, SavedModel, or a packaged model such as compact-160-v1",
        positional=True,
    )
    data: str = option(dataclasses.MISSING, "labelled faces, such as youtube-faces:DIR, csv:FILE or synthetic:500")
    split: str = option("all", "every face, or the subjects held out of training", choices=("all", "val", "test"))
    boxes: str = option(
        "truth",
        "from the labels; or end to end, as predict finds and marks faces by itself or with OpenCV's cascades",
        choices=("truth", "finder", "haar"),
    )
    json: str | None = option(None, "write everything measured here, - for stdout", metavar="FILE")
    out: str | None = option(None, "folder for pictures: worst faces, error curve, box-jitter curve", metavar="DIR")
    results: str | None = option(None, "results file (CSV) to add the row to", metavar="FILE")
    box_jitter: bool = option(True, "also measure with boxes that are off, which takes several times as long")
    threads: int = option(1, "threads of the model's runtime")
    skip_bad_rows: bool = option(False, "go on without rows that are wrong, and say how many")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``evaluate``."""
    example = "python -m kpdetect.evaluate runs/compact --data youtube-faces:DIR --split val --out report"
    options = parse_options(EvaluateOptions, argv, "evaluate", example)
    with quietly(f"loading {options.model}"):
        model = runtime.load(options.model, threads=options.threads)
        model(np.zeros((1, *model.spec.input_shape), np.uint8))  # runtimes tell of the machine when they first run
    if options.boxes != "truth" and model.spec.crop.around == "image":
        raise KpdetectError(
            f"--boxes {options.boxes}: the model takes whole pictures, so no boxes are looked for; leave it out"
        )
    known = as_model_sees(model.spec, drop_unlabelled(load(options.data, options.skip_bad_rows), "evaluate"))
    annotations, split = choose_split(known, model.spec, options.split)
    measured, faces = _measure(model, annotations, options.boxes)
    row = result_row(model.spec, model.path.name, faces, measured, (split, options.boxes), model.bytes)
    _report(Report.of(model, faces, measured, row, options.box_jitter), options)
    return 0


@dataclass(frozen=True)
class Report:
    """All that was measured of a model on one set of faces.

    Attributes:
        row: The result row.
        measured: Errors, face by face.
        jitter: Errors as boxes go wrong; empty where nobody asked.
        parts: Errors by what the faces are like.
        reliability: Said and real errors; empty for a model that tells no uncertainty.
        taken: Which share of the faces, and of so many crops beside them, has a score of a face; None without one.
    """

    row: ResultRow
    measured: Evaluation
    jitter: dict[str, list[tuple[float, float]]]
    parts: dict[str, list[Part]]
    reliability: list[Reliability]
    taken: tuple[float, float | None, int] | None

    @classmethod
    def of(
        cls, model: runtime.Runtime, faces: Annotations, measured: Evaluation, row: ResultRow, box_jitter: bool
    ) -> "Report":
        """Measures what a row does not hold; uncertainty in the labels' boxes."""
        spec = model.spec
        return cls(
            row=row,
            measured=measured,
            jitter=box_jitter_curve(model, faces, spec) if box_jitter else {},
            parts=breakdown(faces, measured),
            reliability=judge(model.predict, faces, spec).reliability() if spec.uncertainty else [],
            taken=shares_taken_for_faces(model.predict, faces, spec) if spec.face_score is not None else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description."""
        return {
            **dataclasses.asdict(self.row),
            "regions": self.measured.regions,
            "label_shift": self.measured.label_shift,
            "box_jitter": self.jitter,
            "parts": {name: [dataclasses.asdict(part) for part in group] for name, group in self.parts.items()},
            "reliability": [dataclasses.asdict(row) for row in self.reliability],
            "taken_for_faces": self.taken,
        }

    def text(self) -> str:
        """For people."""
        lines = [self.row.sentence(), region_table(self.measured.regions)]
        for kind, points in self.jitter.items():
            steps = ", ".join(f"{100 * level:+.0f} %: {100 * error:.2f}" for level, error in points)
            lines.append(f"  box {kind} off by {steps}")
        lines.append(breakdown_table(self.parts))
        if self.measured.label_shift is not None:
            shift = 100 * self.measured.label_shift[0]
            lines.append(f"  the labels stand {shift:+.2f} % to the right of what the model sees")
        if self.reliability:
            lines.append(reliability_table(self.reliability, self.row.normaliser))
        if self.taken is not None:
            seen, mistaken, beside = self.taken
            others = f", {100 * mistaken:.1f} % of {beside} crops beside them" if mistaken is not None else ""
            lines.append(f"  taken for a face: {100 * seen:.1f} % of the faces{others}")
        return "\n".join(lines)


def _measure(model: runtime.Runtime, annotations: Annotations, boxes: str) -> tuple[Evaluation, Annotations]:
    """Measures in the labels' boxes, or end to end; gives the faces that have errors as well."""
    if boxes == "truth":
        return evaluate(model, annotations, model.spec), annotations
    return evaluate_end_to_end(Predictor(model, detector=HAAR if boxes == HAAR else None), annotations, model.spec)


def _report(report: Report, options: EvaluateOptions) -> None:
    out = sys.stderr if options.json == "-" else sys.stdout
    print(report.text(), file=out)
    if options.out:
        for file in write_evaluation_pictures(report.measured, report.jitter, Path(options.out)):
            print(f"  {file}", file=out)
    if options.results:
        append_row(options.results, report.row)
    write_json(options.json, report.to_dict())


if __name__ == "__main__":
    sys.exit(run_command(main))
