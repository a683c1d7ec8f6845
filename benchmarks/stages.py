"""Times each stage from a file to keypoints, for kpdetect, dlib and MediaPipe: one face, one thread, interleaved runs.

    python benchmarks/stages.py [PHOTO] [--repeats N] [--size 640x480]

dlib and MediaPipe are optional and need an environment of their own (see benchmarks/peers.py); a missing one is
left out. PHOTO is by default the example of the model card. The photograph is scaled and written as JPEG first, and
every run starts from these bytes. *Tracked* is a decoded frame of a video whose face is known from the frame before;
for kpdetect it is `kpdetect.tracking.Tracker` with its filter.

The stages of MediaPipe are its TFLite files, run as in its graph; *tracked* is its FaceMesh, which starts its own
threads. dlib's predictor cuts no crop and does not track, so these stages are missing.
"""

import argparse
import functools
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from peers import MESH_POINTS

from kpdetect.core.geometry import apply_matrix, invert, to_pixels
from kpdetect.core.images import Pixels, cv2, decode_image, read_image, to_channels, warp_crop
from kpdetect.detection import HAAR, make_detector
from kpdetect.evaluation.latency.peers import MESH_CROP, dlib_predictor, mediapipe_mesh
from kpdetect.modelfile import bundle
from kpdetect.modelfile.runtime import load
from kpdetect.predict import Predictor
from kpdetect.tracking import Tracker

EXAMPLE = Path(__file__).resolve().parents[1] / "exported_models" / "compact" / "example.jpg"
STAGES = ("decode", "detect", "crop", "model", "back-projection", "tracked")

Run = Callable[[], Iterator[str]]
"""One run: yields the name of each stage when it is done; an empty name is not counted."""


def kpdetect_run(encoded: Pixels, detector_name: str | None = None) -> Run:
    """The shipped model and a detector, in the stages of `Predictor` without its second look."""
    model, detector = load(bundle.shipped_model()), make_detector(detector_name, judged=True)
    spec, clock = model.spec, itertools.count()
    tracker = Tracker(Predictor(), detector)

    def run() -> Iterator[str]:
        photograph = _decoded(encoded)
        yield "decode"
        boxes = np.asarray(detector(photograph))
        yield "detect"
        matrix = spec.crop.matrix(boxes[:1])[0]
        crop = warp_crop(to_channels(photograph, spec.channels), matrix, spec.crop.size_hw)
        yield "crop"
        prediction = model.predict(crop[None])
        yield "model"
        apply_matrix(invert(matrix), to_pixels(prediction.keypoints[0], spec.crop.size_hw))
        yield "back-projection"
        if next(clock) == 0:
            tracker(photograph, 0.0)  # the frame before
            yield ""
        tracker(photograph, next(clock) / 30)
        yield "tracked"

    return run


def dlib_run(encoded: Pixels) -> Run:
    """The frontal detector of dlib (HOG) and its predictor of 68 points."""
    mark, _ = dlib_predictor()
    import dlib

    detector = dlib.get_frontal_face_detector()

    def run() -> Iterator[str]:
        photograph = _decoded(encoded)
        yield "decode"
        found = detector(photograph, 0)[0]
        yield "detect"
        mark(photograph, np.array([found.left(), found.top(), found.right(), found.bottom()], np.float32))
        yield "model"

    return run


def mediapipe_run(encoded: Pixels) -> Run:
    """MediaPipe's short-range detector and face mesh."""
    mesh, mesh_file = mediapipe_mesh()
    from mediapipe.python.solutions.face_mesh import FaceMesh

    detect = _tflite(mesh_file.parents[1] / "face_detection" / "face_detection_short_range.tflite")
    tracked = FaceMesh(static_image_mode=False, max_num_faces=1)
    matrix = MESH_CROP.matrix(Predictor()(_decoded(encoded))[0].box[None])[0]

    def run() -> Iterator[str]:
        photograph = _decoded(encoded)
        yield "decode"
        detect(cv2.resize(photograph, (128, 128)) / np.float32(127.5) - 1)
        yield "detect"
        crop = warp_crop(photograph, matrix, MESH_CROP.size_hw)
        yield "crop"
        points = mesh(crop)
        yield "model"
        apply_matrix(invert(matrix), points[list(MESH_POINTS)] - 0.5)
        yield "back-projection"
        tracked.process(photograph)
        yield "tracked"

    return run


def _decoded(encoded: Pixels) -> Pixels:
    return decode_image(encoded.tobytes(), "the photograph")


def _tflite(file: Path) -> Callable[[np.ndarray], None]:
    """A TFLite model with one image as its input."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]["index"]

    def call(picture: np.ndarray) -> None:
        interpreter.set_tensor(image, picture[None].astype(np.float32))
        interpreter.invoke()

    return call


PEERS: dict[str, Callable[[Pixels], Run]] = {
    "kpdetect": kpdetect_run,
    "kpdetect, haar": functools.partial(kpdetect_run, detector_name=HAAR),
    "dlib": dlib_run,
    "MediaPipe": mediapipe_run,
}


def scaled(photograph: Pixels, size_wh: tuple[int, int]) -> Pixels:
    """A photograph scaled into a size, with black borders, as the bytes of a JPEG."""
    height, width = photograph.shape[:2]
    factor = min(size_wh[0] / width, size_wh[1] / height)
    small = cv2.resize(photograph, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    right, below = size_wh[0] - small.shape[1], size_wh[1] - small.shape[0]
    whole = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT)
    return np.asarray(cv2.imencode(".jpg", cv2.cvtColor(whole, cv2.COLOR_RGB2BGR))[1], np.uint8)


def time_all(runs: dict[str, Run], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each stage of each program; the programs take turns, and the first run of each is not counted."""
    seconds: dict[str, dict[str, list[float]]] = {peer: {} for peer in runs}
    for repeat in range(repeats + 1):
        for peer, run in runs.items():
            start = time.perf_counter()
            for stage in run():
                if repeat:
                    seconds[peer].setdefault(stage, []).append(time.perf_counter() - start)
                start = time.perf_counter()
    return seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", nargs="?", default=str(EXAMPLE), help="a photograph of one face")
    parser.add_argument("--repeats", type=int, default=50, help="runs (default: %(default)s)")
    parser.add_argument("--size", default="640x480", help="width and height in pixels (default: %(default)s)")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    encoded = scaled(read_image(options.photo), (width, height))
    cv2.setNumThreads(1)
    runs = {}
    for peer, make in PEERS.items():
        try:
            runs[peer] = make(encoded)
        except ModuleNotFoundError as error:
            print(f"{peer}: left out, {error.name} is not installed (see benchmarks/peers.py)", file=sys.stderr)
    seconds = time_all(runs, options.repeats)
    print(f"{options.photo} at {options.size}, medians of {options.repeats} runs, ms")
    print(f"{'':14}" + "".join(f"{stage:>17}" for stage in STAGES))
    for peer, stages in seconds.items():
        medians = [
            f"{1000 * statistics.median(stages[stage]):17.2f}" if stage in stages else f"{'-':>17}" for stage in STAGES
        ]
        print(f"{peer:14}" + "".join(medians))


if __name__ == "__main__":
    main()
