"""The command ``track``: tracks the faces of a video or a camera, and writes a video, JSON, or shows a window."""

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
from kpdetect.tracking import Tracker, TrackOptions, open_source, track_video
from kpdetect.tracking.track_run import Draw
from kpdetect.visualization import draw_faces


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``track``.

    Args:
        argv: The words after ``track``; None takes those of the process.

    Returns:
        The exit status: 130 if a file was not tracked to its end, otherwise 0.

    Raises:
        KpdetectError: There is no such video, or a file cannot be written.

    Example:
        >>> main(["clip.mp4", "--json", "points.jsonl"])  # doctest: +SKIP
        0
    """
    examples = (
        "python -m kpdetect.track clip.mp4 --out marked.mp4 --json points.jsonl\n  python -m kpdetect.track 0 --show"
    )
    options = parse_options(TrackOptions, argv, "track", examples)
    draw = _make_draw(options.filter)
    video = open_source(options)
    predictor = Predictor(options.model, threads=options.threads, untrusted=options.untrusted, device=options.device)
    tracker = Tracker(predictor, _detector(predictor, options), options.tracker_options())
    return track_video(video, tracker, options, draw)


def _detector(predictor: Predictor, options: TrackOptions) -> Detector:
    """The detector; for a model of whole pictures a function that returns the whole picture."""
    spec = predictor.model.spec
    _check_box_of_points(spec.schema)
    if spec.crop.around == "image":
        return _whole_picture
    return make_detector(options.detector, spec.judges_faces, options.min_face)


def _check_box_of_points(schema: KeypointSchema) -> None:
    """Checks that the keypoints of one frame give the face box of the next.

    Raises:
        KpdetectError: There is only one keypoint, or (as `KeypointSchema.subset` names it) only some of a scheme's,
            whose tight box is not the face box that the model was trained with.
    """
    if schema.num_keypoints < 2 or schema.name.endswith(")"):
        raise KpdetectError(
            f"track: expected a model of all points of a scheme, two or more, since their tight box is the next face "
            f"box; received {schema.num_keypoints} of '{schema.name}'; kpdetect predict works with single frames"
        )


def _whole_picture(image_rgb: npt.NDArray[np.uint8]) -> npt.ArrayLike:
    return image_box((image_rgb.shape[0], image_rgb.shape[1]))[None]


def _make_draw(filters: Sequence[str]) -> Draw:
    """The function that draws the faces of a frame: keypoints, or filters."""
    if not filters:
        return draw_faces
    from kpdetect.filters import apply_filters, load_filter  # here, since most runs have no filter

    loaded = [load_filter(name) for name in filters]

    def draw(image_rgb: Pixels, faces: Sequence[Face]) -> Pixels:
        return apply_filters(image_rgb, faces, loaded)

    return draw


if __name__ == "__main__":
    sys.exit(run_command(main))
