"""Measures size, error and time of the files of an exported model, in their number formats.

    python benchmarks/quantization.py EXPORTED_FOLDER [DATA_FOLDER] [--split val]

For each TFLite and ONNX file of a bundle: its size, its error on labelled faces of the validation or test split and the
change from the first file, the mean and largest distance of its keypoints from those of the first file in pixels of the
crop, and its time for one crop on one thread. The files are timed in turns. The data folder, an argument or
KPDETECT_DATA, contains youtube_faces/ and ibug_300w/.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np

from kpdetect.core.geometry import Floats, to_pixels
from kpdetect.core.images import Pixels
from kpdetect.data import Annotations, drop_unlabelled, load
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.evaluator import ErrorMeasure, match_annotations, predict_batches
from kpdetect.evaluation.splits import choose_split
from kpdetect.modelfile import runtime
from kpdetect.modelfile.bundle import read_spec

SETS = ("youtube-faces:{0}/youtube_faces", "ibug:{0}/ibug_300w/helen,ibug:{0}/ibug_300w/lfpw")
ROUNDS, CALLS = 200, 3  # a round times each file; several calls in a row warm its caches


def median_ms(models: list[runtime.Runtime], crop: Pixels) -> list[float]:
    """The median time of each file for one crop, in milliseconds."""
    times: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for model, taken in zip(models, times, strict=True):
            start = time.perf_counter()
            for _ in range(CALLS):
                model(crop[None])
            taken.append((time.perf_counter() - start) / CALLS)
    return [1e3 * statistics.median(taken) for taken in times]


def compare(models: list[runtime.Runtime], faces: Annotations, title: str) -> None:
    """Prints the errors of all files on a set of faces, and their distances from the first file."""
    spec = models[0].spec
    crops, relative, _ = evaluation_crops(faces, spec.crop, spec.channels)
    truth, measure = to_pixels(relative, spec.crop.size_hw), ErrorMeasure(faces, spec)
    print(f"{faces.name}, {title}, {len(faces)} faces")
    first: tuple[float, Floats] | None = None
    for model in models:
        points = to_pixels(predict_batches(model, crops), spec.crop.size_hw)
        error = 100 * float(np.nanmean(measure.per_face(truth, points)))
        first = first or (error, points)
        distance = np.linalg.norm(points - first[1], axis=-1)
        print(
            f"  {model.path.name:24} NME {error:.3f} % ({error - first[0]:+.3f}), distance from the first: mean "
            f"{distance.mean():.3f} px, largest {distance.max():.2f} px"
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exported", type=Path, help="folder that kpdetect export wrote")
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument(
        "--split", choices=("val", "test"), default="val", help="use val to choose, and test once for the result"
    )
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give the data folder, or set KPDETECT_DATA")
    names = [name for name in read_spec(arguments.exported).files if name.endswith((".tflite", ".onnx"))]
    if not names:
        parser.error(f"{arguments.exported}: expected TFLite or ONNX files beside spec.json, found none")
    models = [runtime.load(arguments.exported / name) for name in names]
    spec = models[0].spec
    for data in SETS:
        faces = match_annotations(spec, drop_unlabelled(load(data.format(arguments.data)), "measure"))
        compare(models, *choose_split(faces, spec, arguments.split))
    crop = np.random.default_rng(0).integers(0, 256, spec.input_shape, dtype=np.uint8)
    print("one crop, one thread")
    times = median_ms(models, crop)
    for model, taken in zip(models, times, strict=True):
        print(f"  {model.path.name:24} {model.bytes:8} bytes, {taken:.2f} ms, {taken / times[0]:.2f} times the first")


if __name__ == "__main__":
    main()
