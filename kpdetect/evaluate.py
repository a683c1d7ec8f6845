"""The command ``evaluate``: evaluates a model on labelled faces and writes a result row, tables and pictures."""

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
from kpdetect.core.schema import KeypointSchema
from kpdetect.data import Annotations, drop_unlabelled, load
from kpdetect.detection import HAAR
from kpdetect.evaluation.end_to_end import evaluate_end_to_end
from kpdetect.evaluation.evaluator import Evaluation, box_jitter_curve, evaluate, match_annotations
from kpdetect.evaluation.reporting import region_table, result_row, write_evaluation_pictures
from kpdetect.evaluation.results import ResultRow, append_row
from kpdetect.evaluation.slices import Slice, slice_errors, slices_table
from kpdetect.evaluation.splits import choose_split
from kpdetect.evaluation.uncertainty import (
    FaceScoreRates,
    Reliability,
    face_score_rates,
    measure_uncertainty,
    reliability_table,
)
from kpdetect.inference.predictor import Predictor
from kpdetect.modelfile import bundle, runtime


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluates a model on labelled faces: plain, mirrored and centred errors, per region, and with wrong boxes."""

    model: str = option(
        dataclasses.MISSING,
        "run or bundle folder, .tflite, .onnx, SavedModel, or a packaged model such as compact-160-v2",
        positional=True,
    )
    data: str = option(dataclasses.MISSING, "labelled faces, such as youtube-faces:DIR, csv:FILE or synthetic:500")
    split: str = option("all", "all faces, or those held out of training: val or test", choices=("all", "val", "test"))
    boxes: str = option(
        "truth",
        "source of the face boxes: the labels, or the detector of predict (end to end), kpdetect's own or OpenCV's",
        choices=("truth", "finder", "haar"),
    )
    json: str | None = option(None, "write the report here, - for stdout", metavar="FILE")
    out: str | None = option(None, "folder for pictures: worst faces, error curve, box-jitter curve", metavar="DIR")
    results: str | None = option(None, "results file (CSV) to add the row to", metavar="FILE")
    box_jitter: bool = option(True, "also evaluate with wrong boxes; takes several times as long")
    threads: int = option(1, "threads of the model's runtime")
    device: str | None = option(None, "where the model runs: cpu, gpu, or gpu:1 for the second GPU", metavar="NAME")
    skip_bad_rows: bool = option(False, "skip invalid rows and report their number")
    untrusted: bool = option(
        False, "the model is from a source that is not trusted: try it in a child process first, refuse SavedModels"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``evaluate``."""
    example = "python -m kpdetect.evaluate runs/compact-112 --data youtube-faces:DIR --split val --out report"
    options = parse_options(EvaluateOptions, argv, "evaluate", example)
    spec = bundle.read_spec(options.model)
    if options.boxes != "truth" and spec.crop.around == "image":
        raise KpdetectError(
            f"--boxes {options.boxes}: the model takes whole pictures, so no faces are detected; leave --boxes out"
        )
    # Wrong data are reported before a runtime starts, which takes seconds for TensorFlow.
    known = match_annotations(spec, drop_unlabelled(load(options.data, options.skip_bad_rows), "evaluate"))
    annotations, split = choose_split(known, spec, options.split)
    with quietly(f"loading {options.model}"):
        model = runtime.load(options.model, options.threads, options.untrusted, options.device)
        model(np.zeros((1, *model.spec.input_shape), np.uint8))  # runtimes print about the machine on the first call
    measured, faces = _measure(model, annotations, options.boxes)
    row = result_row(model.spec, model.path.name, faces, measured, split, options.boxes, model.bytes)
    _report(Report.of(model, faces, measured, row, options.box_jitter), model.spec.schema, options)
    return 0


@dataclass(frozen=True)
class Report:
    """Everything that was evaluated of a model on one set of faces.

    Attributes:
        row: The result row.
        measured: Errors, face by face.
        jitter: Errors with wrong boxes; empty with ``--no-box-jitter``.
        slices: Errors by properties of the faces.
        reliability: Expected and measured errors; empty for a model without uncertainty.
        face_score: How often the face score accepts faces and background; None for a model without one.
    """

    row: ResultRow
    measured: Evaluation
    jitter: dict[str, list[tuple[float, float]]]
    slices: dict[str, list[Slice]]
    reliability: list[Reliability]
    face_score: FaceScoreRates | None

    @classmethod
    def of(
        cls, model: runtime.Runtime, faces: Annotations, measured: Evaluation, row: ResultRow, box_jitter: bool
    ) -> "Report":
        """Evaluates what a row does not contain. The uncertainty is evaluated in the labels' boxes."""
        spec = model.spec
        return cls(
            row=row,
            measured=measured,
            jitter=box_jitter_curve(model, faces, spec) if box_jitter else {},
            slices=slice_errors(faces, measured),
            reliability=measure_uncertainty(model.predict, faces, spec).reliability() if spec.uncertainty else [],
            face_score=face_score_rates(model.predict, faces, spec) if spec.judges_faces else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready description."""
        return {
            **dataclasses.asdict(self.row),
            "regions": self.measured.regions,
            "label_shift": self.measured.label_shift,
            "box_jitter": self.jitter,
            "slices": {name: [dataclasses.asdict(part) for part in group] for name, group in self.slices.items()},
            "reliability": [dataclasses.asdict(row) for row in self.reliability],
            "face_score": None if self.face_score is None else dataclasses.asdict(self.face_score),
        }

    def text(self) -> str:
        """Returns the report as text."""
        lines = [self.row.sentence(), region_table(self.measured.regions)]
        for kind, points in self.jitter.items():
            steps = ", ".join(f"{100 * level:+.0f} %: {100 * error:.2f}" for level, error in points)
            lines.append(f"  NME by box {kind}: {steps}")
        lines.append(slices_table(self.slices))
        if self.measured.label_shift is not None:
            shift = 100 * self.measured.label_shift[0]
            lines.append(f"  label shift: {shift:+.2f} % (positive: the labels lie to the right of the predictions)")
        if self.reliability:
            lines.append(reliability_table(self.reliability, self.row.normaliser))
        if self.face_score is not None:
            rates = self.face_score
            lines.append(f"  face score of 0.5 or more: {100 * rates.faces:.1f} % of the faces")
            if rates.background is not None:
                lines[-1] += f", {100 * rates.background:.1f} % of {rates.num_background} background crops"
        return "\n".join(lines)


def _measure(model: runtime.Runtime, annotations: Annotations, boxes: str) -> tuple[Evaluation, Annotations]:
    """Evaluates in the labels' boxes or end to end; returns the errors and the faces that have one."""
    if boxes == "truth":
        return evaluate(model, annotations, model.spec), annotations
    return evaluate_end_to_end(Predictor(model, detector=HAAR if boxes == HAAR else None), annotations, model.spec)


def _report(report: Report, schema: KeypointSchema, options: EvaluateOptions) -> None:
    out = sys.stderr if options.json == "-" else sys.stdout
    print(report.text(), file=out)
    if options.out:
        for file in write_evaluation_pictures(report.measured, report.jitter, schema, Path(options.out)):
            print(f"  {file}", file=out)
    if options.results:
        append_row(options.results, report.row)
    write_json(options.json, report.to_dict())


if __name__ == "__main__":
    sys.exit(run_command(main))
