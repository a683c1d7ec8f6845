"""Owns the command ``track``: the faces of a video or a camera, each with its number, as video, JSON or in a window."""

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import image_box
from kpdetect.core.images import Pixels
from kpdetect.core.options import parse_options, run_command
from kpdetect.core.schema import KeypointSchema
from kpdetect.detection import Detector, Face, make_detector
from kpdetect.inference.predictor import Predictor
from kpdetect.tracking import Tracker, TrackOptions, follow, open_source
from kpdetect.tracking.following import Decorate
from kpdetect.visualization import draw_faces


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``track``; ends with 130 where a file was not followed to its end."""
    examples = (
        "python -m kpdetect.track clip.mp4 --out marked.mp4 --json points.jsonl\n  python -m kpdetect.track 0 --show"
    )
    options = parse_options(TrackOptions, argv, "track", examples)
    decorate = _decoration(options.filter)
    video = open_source(options)
    predictor = Predictor(options.model, threads=options.threads)
    tracker = Tracker(predictor, _detector(predictor, options), options.tracker_options())
    return follow(video, tracker, options, decorate)


def _detector(predictor: Predictor, options: TrackOptions) -> Detector:
    """Where to look for faces; a model of whole pictures looks at the whole picture."""
    spec = predictor.model.spec
    _check_box_of_points(spec.schema)
    if spec.crop.around == "image":
        return _whole_picture
    return make_detector(options.detector, spec.face_score is not None, options.min_face)


def _check_box_of_points(schema: KeypointSchema) -> None:
    """Says where the points of a frame cannot give the box of the next.

    Raises:
        KpdetectError: There is only one point, or (as `KeypointSchema.subset` names it) only some of a scheme's, whose
            tight box is not the face box that the model was trained with.
    """
    if schema.num_keypoints < 2 or schema.name.endswith(")"):
        raise KpdetectError(
            f"track: expected a model of all points of a scheme, two or more, whose tight box is the next face box; "
            f"received one of {schema.num_keypoints} of '{schema.name}'; kpdetect predict marks single frames"
        )


def _whole_picture(image_rgb: npt.NDArray[np.uint8]) -> npt.ArrayLike:
    return image_box((image_rgb.shape[0], image_rgb.shape[1]))[None]


def _decoration(filters: Sequence[str]) -> Decorate:
    """What is drawn on each frame: points, or the filters that were asked for."""
    if not filters:
        return draw_faces
    from kpdetect.filters import apply_filters, load_filter  # here, since only few videos wear any

    loaded = [load_filter(name) for name in filters]

    def put_on(image_rgb: Pixels, faces: Sequence[Face]) -> Pixels:
        return apply_filters(image_rgb, faces, loaded)

    return put_on


if __name__ == "__main__":
    sys.exit(run_command(main))
