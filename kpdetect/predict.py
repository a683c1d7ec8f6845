"""The command ``predict``: finds faces and their keypoints in photographs or in a data set.

`Predictor` can be imported from here as well as from `kpdetect`.
"""

import sys
from collections.abc import Sequence

from kpdetect.core.options import parse_options, run_command
from kpdetect.inference.predictor import Predictor

__all__ = ["Predictor", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``predict``; returns 2 if a photograph could not be processed."""
    from kpdetect.inference import prediction_run  # importing `Predictor` needs no data sets and no drawing

    examples = (
        "python -m kpdetect.predict photo.jpg --draw marked.jpg --json points.json\n"
        "  python -m kpdetect.predict photos --csv points.csv --crop-faces chips\n"
        "  python -m kpdetect.predict photo.jpg --draw party.jpg --filter sunglasses,hat,moustache\n"
        "  python -m kpdetect.predict --data ibug:DIR/labels_ibug_300W_test_parsed.xml --competition-csv points.csv"
    )
    options = parse_options(prediction_run.PredictOptions, argv, "predict", examples)
    work = prediction_run.gather(options)
    predictor = Predictor(
        options.model, options.detector, threads=options.threads, mirror=options.mirror, min_score=options.min_score
    )
    return prediction_run.predict_photographs(predictor, predictor.model.spec.schema, work, options)


if __name__ == "__main__":
    sys.exit(run_command(main))
