"""Finds the faces of all photographs in a folder; writes their keypoints to a CSV file and draws them.

    python examples/batch_folder.py photos out

Every row of ``out/faces.csv`` is a face. For millions of photographs, ``kpdetect label`` uses several processes.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from kpdetect import Predictor, draw_faces
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import read_image, write_image


def main(argv: Sequence[str] | None = None) -> None:
    """Reads, predicts and writes; a file that is not a photograph is reported and left out."""
    folder, out = (Path(name) for name in (sys.argv[1:] if argv is None else argv))
    predictor = Predictor()
    names = [f"{name}_{axis}" for name in predictor.model.spec.schema.point_names for axis in "xy"]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "faces.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", *names])
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            try:
                image = read_image(path)
            except KpdetectError as error:
                print(error, file=sys.stderr)
                continue
            faces = predictor(image)
            table.writerows([path.name, *face.keypoints.round(2).ravel().tolist()] for face in faces)
            write_image(out / f"{path.stem}.jpg", draw_faces(image, faces))


if __name__ == "__main__":
    main()
