"""Measures what tracking gives and costs: jitter and lag of the One Euro filter, time per frame, and second looks.

    python benchmarks/tracking.py [DATA_FOLDER] [--faces N] [--frames N] [--video FILE]

Drawn faces of known truth move over a background of 640x480, with a camera's noise new in each frame, 30 frames a
second. *Jitter* is the mean motion of the points from frame to frame while the face stands still, in per cent of the
eye distance. *Lag* is how far the smoothed points stand behind the model's own on the way of a face that moves evenly,
in frames. With the data folder (see KPDETECT_DATA), it also measures how far a second look's points lie from the
first's, and how the model scores them, on labelled faces and on boxes where there is no face: what
`kpdetect.tracking.plausible` tells them apart by.
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
FACE_PX = 256  # the side of the drawn picture, whose face is about half of it
NOISE = 3.0  # grey levels of the camera's noise, one standard deviation
SPEEDS = (1.0, 3.0, 10.0)  # per cent of the eye distance per frame: a slow turn, a walk, a jump
GRID_CUTOFF_HZ = (0.5, 1.0, 2.0)
GRID_BETA = (0.0, 10.0, 30.0, 100.0)
SETTLED = 15  # frames at the start that do not count

Way = Callable[[int], tuple[float, float]]
"""A frame's number to where the drawn picture's corner is, (x, y) in pixels."""


@dataclass(frozen=True)
class Scene:
    """A drawn face (side, side, 3), its points (68, 2), how much of each pixel belongs to it, and what is behind."""

    picture: Pixels
    keypoints: Floats
    alpha: Floats
    background: Pixels

    @property
    def eye_distance(self) -> float:
        """Between the outer eye corners, in pixels."""
        return float(IBUG68.normalizers(self.keypoints[None])[0])

    def frame(self, corner_xy: tuple[float, float], noise: Floats) -> tuple[Pixels, Floats]:
        """The picture (480, 640, 3) with the face at a place and noise (480, 640, 3) on it, and its points in it."""
        matrix, size_wh = translation(*corner_xy), SIZE_HW[::-1]
        face = cv2.warpAffine(self.picture, matrix[:2], size_wh).astype(np.float32)
        alpha = cv2.warpAffine(self.alpha, matrix[:2], size_wh)[..., None]
        mixed = alpha * face + (1 - alpha) * self.background + noise
        return np.clip(mixed + 0.5, 0, 255).astype(np.uint8), apply_matrix(matrix, self.keypoints)


def scene(index: int) -> Scene:
    """A face with a soft edge over a wall out of focus."""
    picture, keypoints = render(3, index, FACE_PX)
    y, x = np.mgrid[:FACE_PX, :FACE_PX] / (FACE_PX - 1) * 2 - 1
    alpha = np.clip((1 - np.hypot(x, y)) / 0.15, 0, 1).astype(np.float32)
    random = np.random.default_rng(index)
    cells = random.integers(40, 200, (6, 8, 3), dtype=np.uint8)
    background = cv2.resize(cells, SIZE_HW[::-1], interpolation=cv2.INTER_CUBIC)
    return Scene(picture, keypoints, alpha, np.asarray(background, np.uint8))


def frames(which: Scene, path: Way, count: int) -> Iterator[tuple[Pixels, Floats]]:
    """The frames of a way, and the true points."""
    random = np.random.default_rng(1)
    # A piece of a larger sheet each time: to draw all of it anew would take longer than to track the face.
    sheet = NOISE * random.standard_normal((2 * SIZE_HW[0], 2 * SIZE_HW[1], 3), np.float32)
    for number in range(count):
        top, left = random.integers(0, SIZE_HW)
        yield which.frame(path(number), sheet[top : top + SIZE_HW[0], left : left + SIZE_HW[1]])


def still(_: int) -> tuple[float, float]:
    """Stands in the middle."""
    return 190.3, 110.6


def moving(step_px: float) -> Way:
    """Goes to and fro, 60 frames each way, evenly; a large face that is fast leaves the picture, and does not count."""

    def path(number: int) -> tuple[float, float]:
        there, back = number % 120, 120 - number % 120
        return 30.3 + step_px * min(there, back), 110.6

    return path


def tracked(which: Scene, path: Way, count: int, predictor: Predictor) -> tuple[Floats, Floats]:
    """The raw points and the true ones of the frames where the face was found, (n, 68, 2) each."""
    # The true box of the first frame stands for the detector, which is not what is measured here.
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
    """Points (n, 68, 2) as the filter gives them."""
    smooth = OneEuroFilter(options)
    sides = plausible.longer_sides(plausible.face_boxes(raw))
    return np.stack([smooth(points, at / RATE, float(sides[at])) for at, points in enumerate(raw)])


def jitter(points: Floats, eye_distance: float) -> float:
    """Mean motion from frame to frame, in per cent of the eye distance."""
    steps = np.linalg.norm(np.diff(points[SETTLED:], axis=0), axis=-1)
    return float(100 * steps.mean() / eye_distance)


def lag(raw: Floats, smooth: Floats, step_px: float) -> float:
    """How far the smooth points are behind, in frames, after the filter settled on the way there."""
    behind = (raw - smooth)[SETTLED:60, :, 0]
    return float(behind.mean() / step_px)


def measure_filter(scenes: list[Scene], count: int, predictor: Predictor) -> None:
    """Prints jitter, lag and error for a grid of the filter's options."""
    at_rest = [tracked(one, still, count, predictor)[0] for one in scenes]
    on_the_way = {
        speed: [tracked(one, moving(speed / 100 * one.eye_distance), 60, predictor) for one in scenes]
        for speed in SPEEDS
    }
    found = np.mean([len(raw) / count for raw in at_rest])
    moving_found = [np.mean([len(raw) / 60 for raw, _ in ways]) for ways in on_the_way.values()]
    print(
        f"faces {len(scenes)}; tracked at rest {found:.0%}, at each speed {[f'{share:.0%}' for share in moving_found]}"
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
    """Prints milliseconds per frame of 640x480: detection in each, tracking, and a tracked frame alone."""
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
        f"ms per frame of 640x480, one face: detection in each {np.median(detecting):.1f} (median); tracked "
        f"{np.median(tracking):.1f} (median), {np.mean(tracking):.1f} with its {tracker.detections} searches in "
        f"{count} frames (mean)"
    )


def measure_second_looks(data: Path, predictor: Predictor, count: int) -> None:
    """Prints scores, and how second looks disagree, on labelled faces and on boxes at random where there is no face."""
    sets = {
        "YouTube Faces": f"youtube-faces:{data / 'youtube_faces'}",
        "300-W": f"ibug:{data / 'ibug_300w' / 'labels_ibug_300W_train.xml'}",
        "AFW, whole": f"ibug:{data / 'afw_photos' / 'labels.xml'}",
    }
    for name, spec in sets.items():
        labelled = load(spec)
        rows = np.linspace(0, len(labelled.paths) - 1, min(count, len(labelled.paths))).astype(int)
        found = [looks(read_image(labelled.paths[row]), labelled.boxes[row][None], predictor) for row in rows]
        _print_looks(name, np.concatenate(found, axis=1))
    random = np.random.default_rng(0)
    nothing = []
    for file in sorted((data / "photos" / "no_face").iterdir()):
        pixels = read_image(file)
        extent = np.array(pixels.shape[1::-1])
        half = random.uniform(0.04, 0.25, (count, 1)) * extent.min()
        center = random.uniform(0, 1, (count, 2)) * extent
        nothing.append(looks(pixels, np.concatenate([center - half, center + half], axis=1), predictor))
    _print_looks("no face, boxes at random", np.concatenate(nothing, axis=1))


def looks(pixels: Pixels, boxes: npt.NDArray[np.floating], predictor: Predictor) -> Floats:
    """Disagreement and score, (2, n), of the boxes (N, 4) that settle on anything large enough, as the tracker asks."""
    for _ in range(2):
        boxes = plausible.face_boxes([face.keypoints for face in predictor(pixels, boxes=boxes)])
        boxes = boxes[plausible.plausible_boxes(boxes, pixels.shape[:2])]
        if not len(boxes):
            return np.zeros((2, 0), np.float32)
    faces, again = predictor(pixels, boxes=boxes), predictor(pixels, boxes=plausible.displaced_boxes(boxes))
    apart = plausible.disagreement([face.keypoints for face in faces], [face.keypoints for face in again])
    return np.stack([apart, np.array([np.nan if face.score is None else face.score for face in faces], np.float32)])


def _print_looks(name: str, looked: Floats) -> None:
    apart, scores = looked
    percent = np.percentile(100 * apart, [1, 50, 95, 99])
    agree, scored = (apart <= plausible.MOST_DISAGREEMENT).mean(), (scores >= plausible.LEAST_SCORE).mean()
    print(
        f"{name:26} n {len(apart):4}: disagreement 1, 50, 95, 99 % quantiles "
        f"{', '.join(f'{value:.1f}' for value in percent)} % of the side; taken for a face by it {agree:.1%}, "
        f"by the score {scored:.1%}"
    )


def write_video(file: str, which: Scene, count: int) -> None:
    """Writes the moving face, to be tracked by the command."""
    with video_writer(file, RATE) as write:
        for pixels, _ in frames(which, moving(0.05 * which.eye_distance), count):
            write(pixels)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=os.environ.get("KPDETECT_DATA"))
    parser.add_argument("--faces", type=int, default=4, help="how many drawn faces (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=90, help="of the still face (default: %(default)s)")
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
        measure_second_looks(Path(options.folder), predictor, 150)


if __name__ == "__main__":
    main()
