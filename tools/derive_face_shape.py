"""Derives the statistical face shape of `kpdetect.data.synthetic` from labelled faces.

The command that made ``face_shape.json``, where DIR contains the ``.pts`` files of 300-W at any depth::

    python -m tools.derive_face_shape kpdetect/data/synthetic/face_shape.json --data DIR
"""

import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.options import option, parse_options, run_command
from kpdetect.core.schema import IBUG68
from kpdetect.data.synthetic.face_shape import ShapeModel

Complexes = npt.NDArray[np.complex128]

FRONTAL_SHARE = 0.5  # the most symmetric half of the faces, because pose is added in 3-D
NUM_MODES = 25  # 95 % of the variance; the rest is mostly noise of the labels
ALIGNMENT_ROUNDS = 10  # converges after three or four


@dataclass(frozen=True)
class Options:
    """Derives the statistical face shape from 68-point .pts files and writes it as JSON."""

    out: str = option(dataclasses.MISSING, "the JSON file to write", positional=True)
    data: str = option(dataclasses.MISSING, "a folder with .pts files at any depth", metavar="DIR")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Raises:
        KpdetectError: The folder contains too few faces of 68 points.
    """
    example = "python -m tools.derive_face_shape face_shape.json --data ibug_300w"
    options = parse_options(Options, argv, "derive_face_shape", example)
    faces = read_faces(Path(options.data))
    model = derive(faces)
    _write(model, Path(options.out), f"300-W training labels (AFW, HELEN, LFPW), {len(faces)} faces")
    print(f"{options.out}: {len(model.deviations)} modes from {len(faces)} faces")
    return 0


def derive(faces: npt.ArrayLike) -> ShapeModel:
    """A principal component analysis of the frontal faces and their mirror images, after similarity alignment.

    The mirror images make the mean exactly symmetric, and each mode symmetric or antisymmetric.

    Args:
        faces: (N, 68, 2) in any unit, any place, any roll.
    """
    points = np.asarray(faces, np.float64)
    shapes = points[..., 0] + 1j * points[..., 1]  # with complex numbers, a similarity is a x + b
    shapes = np.concatenate([shapes, _mirrored(shapes)])
    aligned = _aligned(shapes)
    asymmetry = np.abs(aligned - _mirrored(aligned)).mean(axis=1)
    frontal = _aligned(shapes[asymmetry <= np.quantile(asymmetry, FRONTAL_SHARE)])
    mean = frontal.mean(axis=0)
    mean = (mean + _mirrored(mean)) / 2
    frontal = frontal - mean
    rows = np.stack([frontal.real, frontal.imag], axis=-1).reshape(len(frontal), -1)
    _, spread, modes = np.linalg.svd(rows, full_matrices=False)
    deviations = spread[:NUM_MODES] / np.sqrt(len(rows))
    return ShapeModel(
        np.stack([mean.real, mean.imag], axis=-1).astype(np.float32),
        modes[:NUM_MODES].reshape(-1, points.shape[1], 2).astype(np.float32),
        deviations.astype(np.float32),
    )


def _mirrored(shapes: Complexes) -> Complexes:
    """Mirror images about the y axis, with left and right points exchanged."""
    return np.asarray(-np.conj(shapes[..., list(IBUG68.flip_permutation or ())]))


def _aligned(shapes: Complexes) -> Complexes:
    """Generalised Procrustes alignment: moves, rotates and scales each shape onto the mean.

    The mean is upright, with a distance of 1 between the outer eye corners.

    Args:
        shapes: (N, K), including the mirror image of every shape.
    """
    centered = shapes - shapes.mean(axis=1, keepdims=True)
    mean = centered[0]
    right, left = IBUG68.normalizer_points or (0, 1)
    for _ in range(ALIGNMENT_ROUNDS):
        mean = mean / (mean[left] - mean[right])
        factors = (centered.conj() @ mean) / (np.abs(centered) ** 2).sum(axis=1)
        mean = (centered * factors[:, None]).mean(axis=0)
    unit = 1 / (mean[left] - mean[right])
    return np.asarray(centered * factors[:, None] * unit)


def read_faces(folder: Path) -> npt.NDArray[np.float64]:
    """Reads the points of every 68-point .pts file; alignment removes differences of the origin."""
    faces = [_numbers(path) for path in sorted(folder.rglob("*.pts"))]
    whole = [face.reshape(-1, 2) for face in faces if face.size == 2 * IBUG68.num_keypoints]
    if len(whole) <= NUM_MODES:
        raise KpdetectError(f"{folder}: expected more than {NUM_MODES} .pts files of 68 points, found {len(whole)}")
    return np.stack(whole)


def _numbers(path: Path) -> npt.NDArray[np.float64]:
    text = re.sub(r"version.*|n_points.*|[{}]", "", path.read_text(encoding="utf-8"))
    return np.array(text.split(), np.float64)


def _write(model: ShapeModel, path: Path, source: str) -> None:
    """Writes one mode per line, with five decimals."""
    modes = ",\n".join(json.dumps(_rounded(mode)) for mode in model.modes)
    text = (
        f'{{"source": {json.dumps(source)},\n"mean": {json.dumps(_rounded(model.mean))},\n'
        f'"deviations": {json.dumps(_rounded(model.deviations))},\n"modes": [\n{modes}\n]}}\n'
    )
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _rounded(values: npt.NDArray[np.float32]) -> list[float]:
    return [round(float(value), 5) + 0.0 for value in values.ravel()]


if __name__ == "__main__":
    sys.exit(run_command(main))
