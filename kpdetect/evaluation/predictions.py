"""Predictions of a model for labelled faces, with their errors, for sheets and error pictures."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, to_pixels
from kpdetect.core.images import Pixels
from kpdetect.data import Annotations
from kpdetect.data.crops import evaluation_crops
from kpdetect.data.labelled_faces import finite_mean, nan_where_invisible, select_evenly
from kpdetect.evaluation.evaluator import ErrorMeasure, match_annotations, predict_batches
from kpdetect.evaluation.metrics import nme_per_point, summary
from kpdetect.evaluation.splits import choose_split
from kpdetect.modelfile import runtime


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for labelled faces, in the labels' boxes.

    Attributes:
        faces: The faces.
        caption: Model, data, mean error and protocol, in two lines.
        crops: (N, H, W, C) uint8, the model's input.
        true_px: (N, K, 2) in pixels of the crop; NaN where a point is not visible.
        predicted_px: (N, K, 2) in pixels of the crop.
        per_face: (N,) errors, fractions of the normaliser.
        per_point: (K,) mean errors; NaN where no face shows the point.
    """

    faces: Annotations
    caption: str
    crops: Pixels
    true_px: Floats
    predicted_px: Floats
    per_face: npt.NDArray[np.float64]
    per_point: npt.NDArray[np.float64]


def predictions_of(path: str, annotations: Annotations, split: str, count: int | None = None) -> Predictions:
    """Runs a model on labelled faces.

    Args:
        path: A model file or folder, or the name of a packaged model.
        annotations: The faces.
        split: ``all`` or ``val``, as in `kpdetect evaluate`.
        count: Number of faces, spread evenly over the split; None takes all.

    Raises:
        KpdetectError: There is no such model, its scheme differs from the data's, or there is no face.
    """
    model = runtime.load(path)
    known = match_annotations(model.spec, annotations)
    faces, split_in_words = choose_split(known, model.spec, split)
    faces = select_evenly(faces, len(faces) if count is None else count)
    size_hw = model.spec.crop.size_hw
    crops, relative, _ = evaluation_crops(faces, model.spec.crop, model.spec.channels)
    truth, predicted = to_pixels(relative, size_hw), to_pixels(predict_batches(model, crops), size_hw)
    errors = nme_per_point(truth, predicted, faces.visible, faces.schema, float(size_hw[1]))
    per_face = ErrorMeasure(faces, model.spec).per_face(truth, predicted)
    return Predictions(
        faces=faces,
        caption=f"{path} on {len(faces)} faces of {faces.name}, split: {split_in_words}; boxes: truth\n"
        f"NME {100 * summary(per_face).mean:.2f} % ({faces.schema.normalizer_name})",
        crops=crops,
        true_px=nan_where_invisible(truth, faces),
        predicted_px=predicted,
        per_face=per_face,
        per_point=finite_mean(errors).astype(np.float64),
    )
