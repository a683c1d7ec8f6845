"""Result rows, tables and pictures of an evaluation, and the warning about constant predictions."""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kpdetect import visualization
from kpdetect.core.geometry import Floats
from kpdetect.core.schema import KeypointSchema
from kpdetect.data import Annotations
from kpdetect.evaluation.evaluator import Evaluation
from kpdetect.evaluation.metrics import LIMIT, cumulative_error_curve, summary
from kpdetect.evaluation.results import ResultRow, today
from kpdetect.modelfile.spec import Spec

_LOG = logging.getLogger(__name__)

WORST_FACES = 10
SHEET_FACES = 24
MEAN_FACE_SPREAD = 0.2  # share of the labels' shape variation below which predictions count as one shape


def result_row(
    spec: Spec, file: str, annotations: Annotations, measured: Evaluation, split: str, boxes: str, size: int
) -> ResultRow:
    """Returns one evaluation as a result row.

    Args:
        spec: The model's description.
        file: Name of the file that was evaluated.
        annotations: The faces.
        measured: Their errors.
        split: The part of the data, in words.
        boxes: The source of the boxes: ``truth``, ``finder`` or ``haar``.
        size: The file's size in bytes.
    """
    plain = measured.plain
    return ResultRow(
        model=str(spec.extra.get("name", spec.recipe)),
        file=file,
        dataset=annotations.name,
        split=split,
        boxes=boxes,
        n=len(annotations) + measured.missed,
        missed=measured.missed,
        nme=100 * float(np.nanmean(measured.errors)),
        nme_mirrored=None if measured.mirrored is None else 100 * measured.mirrored,
        nme_centred=100 * measured.centred,
        nme_point_centred=100 * measured.point_centred,
        nme_constant=None if measured.constant is None else 100 * measured.constant,
        median=100 * plain.median,
        auc8=plain.auc8,
        fr8=100 * plain.fr8,
        normaliser=spec.schema.normalizer_name,
        parameters=int(spec.extra.get("parameters", 0)),
        macs=int(spec.extra.get("macs", 0)),
        bytes=size,
        seed=int(spec.extra.get("seed", 0)),
        date=today(),
    )


def region_table(regions: dict[str, float]) -> str:
    """Returns the mean error of each group of points as text."""
    return "\n".join(f"  {name:8} {100 * error:6.2f} %" for name, error in regions.items())


def write_evaluation_pictures(
    measured: Evaluation, jitter: dict[str, list[tuple[float, float]]], schema: KeypointSchema, folder: Path
) -> list[Path]:
    """Draws the worst faces, the cumulative error curve and, if it was evaluated, the box-jitter curve.

    Returns:
        The paths of the pictures.
    """
    worst = np.argsort(-np.nan_to_num(measured.errors))[:WORST_FACES]
    sheet, curve, jitter_file = folder / "worst.png", folder / "error_curve.png", folder / "box_jitter.png"
    _draw_predictions(measured, worst, schema, sheet)
    _draw_error_curve("plain", measured.errors, curve)
    if not jitter:
        return [sheet, curve]
    visualization.box_jitter_curve(jitter, jitter_file)
    return [sheet, curve, jitter_file]


def write_training_pictures(
    history: dict[str, list[float]], measured: Evaluation, schema: KeypointSchema, folder: Path
) -> list[Path]:
    """Draws the learning curves, a sheet of validation predictions with labels, and the cumulative error curve.

    Returns:
        The paths of the pictures.
    """
    curves, sheet, errors = folder / "learning_curves.png", folder / "predictions.png", folder / "error_curve.png"
    shown = np.linspace(0, len(measured.errors) - 1, min(SHEET_FACES, len(measured.errors))).astype(int)
    visualization.learning_curves(history, curves)
    _draw_predictions(measured, shown, schema, sheet)
    _draw_error_curve("validation", measured.errors, errors)
    return [curves, sheet, errors]


def _draw_predictions(measured: Evaluation, rows: npt.NDArray[np.int_], schema: KeypointSchema, path: Path) -> None:
    crops, errors = measured.crops[rows], measured.errors[rows]
    visualization.prediction_sheet(
        crops, measured.true_px[rows], measured.predicted_px[rows], errors, path, schema=schema
    )


def _draw_error_curve(name: str, errors: npt.NDArray[np.float64], path: Path) -> None:
    """Draws the cumulative error curve up to the largest error, with a line at the threshold of the failure rate."""
    finite = errors[np.isfinite(errors)]
    limit = max(LIMIT, float(finite.max(initial=0)))
    label = f"{name}: AUC@8 {summary(errors).auc8:.3f}"
    curve = cumulative_error_curve(errors, limit)
    visualization.cumulative_error_curves({label: curve}, path, mark=LIMIT)


def warn_of_mean_face(measured: Evaluation) -> None:
    """Prints a warning if all predictions have nearly the same shape: the network then ignores its input."""
    whole = np.isfinite(measured.true_px).all(axis=(1, 2))  # faces without hidden points
    if whole.sum() < 2:
        return
    spread = shape_spread(measured.predicted_px[whole]) / max(shape_spread(measured.true_px[whole]), 1e-9)
    if spread < MEAN_FACE_SPREAD:
        _LOG.warning(
            f"all predictions are nearly the same shape (they vary {100 * spread:.0f} % as much as the "
            "labels): the network learned the mean face; train longer, or try another --learning-rate"
        )


def shape_spread(points: Floats) -> float:
    """Returns the root mean square deviation of shapes from their mean shape, independent of position and size.

    Args:
        points: (N, K, 2).
    """
    if points.shape[1] == 1:
        return float(points.std())
    centered = points - points.mean(axis=1, keepdims=True)
    shapes = centered / np.sqrt(np.square(centered).mean(axis=(1, 2), keepdims=True))
    return float(np.sqrt(np.square(shapes - shapes.mean(axis=0)).mean()))
