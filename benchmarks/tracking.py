"""Measures tracking: jitter and lag of the One Euro filter, time per frame, and the test for lost faces.

    python benchmarks/tracking.py [DATA_FOLDER] [--faces N] [--frames N] [--video FILE]

Drawn faces with known keypoints move over a background of 640x480 pixels, with new camera noise in each frame, at 30
frames per second. *Jitter* is the mean motion of the keypoints from frame to frame on a face that does not move, in per
cent of the eye distance. *Lag* is the distance of the smoothed keypoints from the unsmoothed ones on a face that moves
at constant speed, in frames. With the data folder, an argument or KPDETECT_DATA, it also measures what
`kpdetect.tracking.plausible` uses to distinguish faces from other boxes: the distance between the keypoints of two
predictions, and the score.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import Floats, apply_matrix, tight_box, translation
from kpdetect.core.images import Pixels, cv2, read_image
from kpdetect.core.schema import IBUG68
from kpdetect.data import load
from kpdetect.data.synthetic import render
from kpdetect.detection import make_detector
from kpdetect.predict import Predictor
from kpdetect.tracking import (
    OneEuroFilter,
    OneEuroOptions,
    Tracker,
    TrackerOptions,
    TrackOptions,
    plausible,
    video_writer,
)

RATE = 30.0
SIZE_HW = (480, 640)
FACE_PX = 256  # side of the drawn picture; the face covers about half of it
NOISE = 3.0  # standard deviation of the camera noise, in grey levels
SPEEDS = (1.0, 3.0, 10.0)  # per cent of the eye distance per frame: slow, walking, jumping
GRID_CUTOFF_HZ = (0.5, 1.0, 2.0)
GRID_BETA = (0.0, 10.0, 30.0, 100.0)
SETTLED = 15  # frames at the start that are not counted

Way = Callable[[int], tuple[float, float]]
"""The place (x, y) of the drawn picture's corner, in pixels, by the number of the frame."""


@dataclass(frozen=True)
class Scene:
    """A synthetic face (side, side, 3), its keypoints (68, 2), its opacity, and the background."""

    picture: Pixels
    keypoints: Floats
    alpha: Floats
    background: Pixels

    @property
    def eye_distance(self) -> float:
        """The distance of the outer eye corners in pixels."""
        return float(IBUG68.normalizers(self.keypoints[None])[0])

    def frame(self, corner_xy: tuple[float, float], noise: Floats) -> tuple[Pixels, Floats]:
        """A frame (480, 640, 3) with the face at a place and noise added, and the keypoints in it."""
        matrix, size_wh = translation(*corner_xy), SIZE_HW[::-1]
        face = cv2.warpAffine(self.picture, matrix[:2], size_wh).astype(np.float32)
        alpha = cv2.warpAffine(self.alpha, matrix[:2], size_wh)[..., None]
        mixed = alpha * face + (1 - alpha) * self.background + noise
        return np.clip(mixed + 0.5, 0, 255).astype(np.uint8), apply_matrix(matrix, self.keypoints)


def scene(index: int) -> Scene:
    """A face with a soft edge over a blurred background."""
    picture, keypoints = render(3, index, FACE_PX)
    y, x = np.mgrid[:FACE_PX, :FACE_PX] / (FACE_PX - 1) * 2 - 1
    alpha = np.clip((1 - np.hypot(x, y)) / 0.15, 0, 1).astype(np.float32)
    random = np.random.default_rng(index)
    cells = random.integers(40, 200, (6, 8, 3), dtype=np.uint8)
    background = cv2.resize(cells, SIZE_HW[::-1], interpolation=cv2.INTER_CUBIC)
    return Scene(picture, keypoints, alpha, np.asarray(background, np.uint8))


def frames(which: Scene, path: Way, count: int) -> Iterator[tuple[Pixels, Floats]]:
    """The frames along a path, and the true keypoints."""
    random = np.random.default_rng(1)
    # Parts of one large noise image: new noise for each frame would take longer than tracking.
    sheet = NOISE * random.standard_normal((2 * SIZE_HW[0], 2 * SIZE_HW[1], 3), np.float32)
    for number in range(count):
        top, left = random.integers(0, SIZE_HW)
        yield which.frame(path(number), sheet[top : top + SIZE_HW[0], left : left + SIZE_HW[1]])


def still(_: int) -> tuple[float, float]:
    """A face in the middle that does not move."""
    return 190.3, 110.6


def moving(step_px: float) -> Way:
    """A face that moves right and left, 60 frames each, at constant speed."""

    def path(number: int) -> tuple[float, float]:
        there, back = number % 120, 120 - number % 120
        return 30.3 + step_px * min(there, back), 110.6

    return path


def tracked(which: Scene, path: Way, count: int, predictor: Predictor) -> tuple[Floats, Floats]:
    """The unsmoothed and the true keypoints of the frames in which the face is tracked, (n, 68, 2) each."""
    # The true box of the first frame replaces the detector, which is not measured here.
    box = tight_box(apply_matrix(translation(*path(0)), which.keypoints))[None]
    tracker = Tracker(predictor, lambda _: box, TrackerOptions(one_euro=None))
    raw, truth = [], []
    for number, (pixels, points) in enumerate(frames(which, path, count)):
        faces = tracker(pixels, number / RATE)
        if faces:
            raw.append(faces[0].raw_keypoints)
            truth.append(points)
    return np.reshape(raw, (-1, 68, 2)), np.reshape(truth, (-1, 68, 2))


def smoothed(raw: Floats, options: OneEuroOptions) -> Floats:
    """The smoothed keypoints (n, 68, 2)."""
    smooth = OneEuroFilter(options)
    sides = plausible.longer_sides(plausible.face_boxes(raw))
    return np.stack([smooth(points, at / RATE, float(sides[at])) for at, points in enumerate(raw)])


def jitter(points: Floats, eye_distance: float) -> float:
    """Mean motion from frame to frame, in per cent of the eye distance."""
    steps = np.linalg.norm(np.diff(points[SETTLED:], axis=0), axis=-1)
    return float(100 * steps.mean() / eye_distance)


def lag(raw: Floats, smooth: Floats, step_px: float) -> float:
    """The lag of the smoothed keypoints in frames, once the filter has settled."""
    behind = (raw - smooth)[SETTLED:60, :, 0]
    return float(behind.mean() / step_px)


def measure_filter(scenes: list[Scene], count: int, predictor: Predictor) -> None:
    """Prints jitter, lag and error for a grid of filter options."""
    at_rest = [tracked(one, still, count, predictor)[0] for one in scenes]
    on_the_way = {
        speed: [tracked(one, moving(speed / 100 * one.eye_distance), 60, predictor) for one in scenes]
        for speed in SPEEDS
    }
    found = np.mean([len(raw) / count for raw in at_rest])
    moving_found = [np.mean([len(raw) / 60 for raw, _ in ways]) for ways in on_the_way.values()]
    print(
        f"faces {len(scenes)}; tracked at rest {found:.0%}, at the speeds {[f'{share:.0%}' for share in moving_found]}"
    )
    print("min cut-off, beta | jitter at rest | " + " | ".join(f"{s:.0f} %/frame: lag, error" for s in SPEEDS))
    _print_row("no filter", scenes, at_rest, on_the_way, None)
    default = OneEuroOptions()
    for cutoff in GRID_CUTOFF_HZ:
        for beta in GRID_BETA:
            options = OneEuroOptions(cutoff, beta)
            name = f"{cutoff:.1f} Hz, {beta:.0f}" + " (default)" * (options == default)
            _print_row(name, scenes, at_rest, on_the_way, options)


def _print_row(
    name: str,
    scenes: list[Scene],
    at_rest: list[Floats],
    on_the_way: dict[float, list[tuple[Floats, Floats]]],
    options: OneEuroOptions | None,
) -> None:
    def filtered(raw: Floats) -> Floats:
        return raw if options is None or not len(raw) else smoothed(raw, options)

    trembles = [jitter(filtered(raw), one.eye_distance) for raw, one in zip(at_rest, scenes, strict=True)]
    cells = [f"{np.mean(trembles):.3f} %"]
    for speed, ways in on_the_way.items():
        lags, errors = [], []
        for (raw, truth), one in zip(ways, scenes, strict=True):
            if len(raw) == 60:
                smooth = filtered(raw)
                lags.append(lag(raw, smooth, speed / 100 * one.eye_distance))
                off = np.linalg.norm(smooth - truth, axis=-1)[SETTLED:].mean()
                errors.append(100 * off / one.eye_distance)
        cells.append(f"{np.mean(lags):.2f} frames, {np.mean(errors):.2f} %")
    print(f"{name:20} | " + " | ".join(cells))


def measure_time(which: Scene, predictor: Predictor, count: int) -> None:
    """Prints milliseconds per frame of 640x480 pixels: with detection in each frame, and with tracking."""
    pictures = [pixels for pixels, _ in frames(which, moving(2.0), count)]
    detector = make_detector(judged=True, min_face=TrackOptions("").min_face)
    each = Predictor(predictor.model, detector=detector)
    tracker = Tracker(predictor, detector)
    detecting, tracking = [], []
    for pixels in pictures:
        start = time.perf_counter()
        each(pixels)
        detecting.append(1000 * (time.perf_counter() - start))
    for number, pixels in enumerate(pictures):
        start = time.perf_counter()
        tracker(pixels, number / RATE)
        tracking.append(1000 * (time.perf_counter() - start))
    print(
        f"ms per frame of 640x480, one face: detection in each frame {np.median(detecting):.1f} (median); tracked "
        f"{np.median(tracking):.1f} (median), {np.mean(tracking):.1f} mean with {tracker.detections} detections in "
        f"{count} frames"
    )


def measure_plausibility(data: Path, predictor: Predictor, count: int) -> None:
    """Prints scores and disagreements of two predictions, on labelled faces and on random boxes without a face."""
    sets = {
        "YouTube Faces": f"youtube-faces:{data / 'youtube_faces'}",
        "300-W": f"ibug:{data / 'ibug_300w' / 'labels_ibug_300W_train.xml'}",
        "AFW, whole": f"ibug:{data / 'afw_photos' / 'labels.xml'}",
    }
    for name, spec in sets.items():
        labelled = load(spec)
        rows = np.linspace(0, len(labelled.paths) - 1, min(count, len(labelled.paths))).astype(int)
        found = [predictions_of(read_image(labelled.paths[row]), labelled.boxes[row][None], predictor) for row in rows]
        _print_plausibility(name, np.concatenate(found, axis=1))
    random = np.random.default_rng(0)
    nothing = []
    for file in sorted((data / "photos" / "no_face").iterdir()):
        pixels = read_image(file)
        extent = np.array(pixels.shape[1::-1])
        half = random.uniform(0.04, 0.25, (count, 1)) * extent.min()
        center = random.uniform(0, 1, (count, 2)) * extent
        nothing.append(predictions_of(pixels, np.concatenate([center - half, center + half], axis=1), predictor))
    _print_plausibility("random boxes without a face", np.concatenate(nothing, axis=1))


def predictions_of(pixels: Pixels, boxes: npt.NDArray[np.floating], predictor: Predictor) -> Floats:
    """Disagreement and score, (2, n), of those boxes (N, 4) whose keypoints are as large as the tracker requires."""
    for _ in range(2):
        boxes = plausible.face_boxes([face.keypoints for face in predictor(pixels, boxes=boxes)])
        boxes = boxes[plausible.plausible_boxes(boxes, pixels.shape[:2])]
        if not len(boxes):
            return np.zeros((2, 0), np.float32)
    faces, again = predictor(pixels, boxes=boxes), predictor(pixels, boxes=plausible.displaced_boxes(boxes))
    apart = plausible.disagreement([face.keypoints for face in faces], [face.keypoints for face in again])
    return np.stack([apart, np.array([np.nan if face.score is None else face.score for face in faces], np.float32)])


def _print_plausibility(name: str, measured: Floats) -> None:
    apart, scores = measured
    percent = np.percentile(100 * apart, [1, 50, 95, 99])
    agree, scored = (apart <= plausible.MOST_DISAGREEMENT).mean(), (scores >= plausible.LEAST_SCORE).mean()
    print(
        f"{name:26} n {len(apart):4}: disagreement 1, 50, 95, 99 % quantiles "
        f"{', '.join(f'{value:.1f}' for value in percent)} % of the side; accepted by it {agree:.1%}, "
        f"by the score {scored:.1%}"
    )


def write_video(file: str, which: Scene, count: int) -> None:
    """Writes a video of a moving face."""
    with video_writer(file, RATE) as write:
        for pixels, _ in frames(which, moving(0.05 * which.eye_distance), count):
            write(pixels)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("KPDETECT_DATA"))
    parser.add_argument("--faces", type=int, default=4, help="drawn faces (default: %(default)s)")
    parser.add_argument(
        "--frames", type=int, default=90, help="frames of a face that does not move (default: %(default)s)"
    )
    parser.add_argument("--video", metavar="FILE", help="only write a video of a moving face")
    options = parser.parse_args()
    scenes = [scene(index) for index in range(options.faces)]
    if options.video is not None:
        write_video(options.video, scenes[0], options.frames)
        return
    predictor = Predictor()
    measure_filter(scenes, options.frames, predictor)
    measure_time(scenes[0], predictor, options.frames)
    if options.folder is not None:
        measure_plausibility(Path(options.folder), predictor, 150)


if __name__ == "__main__":
    main()
