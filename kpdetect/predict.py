"""The command ``predict``: finds faces and their keypoints in photographs or in a data set.

`Predictor` can be imported from here as well as from `kpdetect`.
"""

import sys
from collections.abc import Sequence

from kpdetect.core.options import parse_options, run_command
from kpdetect.inference.predictor import Predictor

__all__ = ["Predictor", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``predict``.

    Args:
        argv: The words after ``predict``; None takes those of the process.

    Returns:
        The exit status: 2 if a photograph could not be predicted, otherwise 0.

    Raises:
        KpdetectError: Nothing could be predicted or written.

    Example:
        >>> main(["photo.jpg", "--json", "faces.json"])  # doctest: +SKIP
        0
    """
    from kpdetect.inference import prediction_run  # importing `Predictor` needs no data sets and no drawing

    examples = (
        "python -m kpdetect.predict photo.jpg --draw marked.jpg --json points.json\n"
        "  python -m kpdetect.predict photos --csv points.csv --crop-faces chips\n"
        "  python -m kpdetect.predict photo.jpg --draw party.jpg --filter sunglasses,hat,moustache\n"
        "  python -m kpdetect.predict --data ibug:DIR/labels_ibug_300W_test_parsed.xml --competition-csv points.csv"
    )
    options = parse_options(prediction_run.PredictOptions, argv, "predict", examples)
    tasks = prediction_run.collect_tasks(options)
    predictor = Predictor(
        options.model,
        options.detector,
        threads=options.threads,
        mirror=options.mirror,
        min_score=options.min_score,
        untrusted=options.untrusted,
        device=options.device,
    )
    return prediction_run.predict_photographs(predictor, tasks, options)


if __name__ == "__main__":
    sys.exit(run_command(main))
