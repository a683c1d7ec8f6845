"""Trains a model on a CSV file of your own points, and draws its predictions on a photograph.

    python examples/train_on_my_csv.py my_faces.csv photo.jpg --epochs 40

The first line of the CSV file names the points, for example ``image,nose_x,nose_y,chin_x,chin_y``; each other line is
one face, in pixels of its photograph. The model, its errors and its learning curves are written to ``runs/mine``.
"""

import argparse
from collections.abc import Sequence

from kpdetect import Predictor, draw_faces
from kpdetect.core.images import read_image, write_image
from kpdetect.core.log import show_messages
from kpdetect.recipes import TrainOptions
from kpdetect.training import train


def main(argv: Sequence[str] | None = None) -> None:
    """Trains, then draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", help="labelled faces")
    parser.add_argument("photo", help="a photograph with a face")
    parser.add_argument("--epochs", type=int, help="passes over the data; the recipe's number by default")
    parser.add_argument("--out", default="runs/mine", help="folder of the model (default: %(default)s)")
    options = parser.parse_args(argv)

    show_messages()  # of the training
    folder = train(TrainOptions(data=f"csv:{options.csv}", epochs=options.epochs, out=options.out, overwrite=True))
    image = read_image(options.photo)
    faces = Predictor(folder)(image)
    for face in faces:
        print({name: face.point(name).round(1).tolist() for name in face.schema.point_names})
    write_image(f"{folder}/photo.png", draw_faces(image, faces))


if __name__ == "__main__":
    main()
