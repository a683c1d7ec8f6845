"""Calibrates the outputs of a model that ``tools/train_any_face.py`` trained, and writes a bundle to export.

    python tools/calibrate_compact.py RUN/model DATA_FOLDER --out RUN/calibrated [--share 0.5] [--score-at 0.8]

``--share`` is the share of the weights that the training started from, in a mean with the trained ones: such a mean
keeps the accuracy on frontal faces. The expected errors are scaled on validation faces of 300-W. ``--score-at`` is the
score that becomes 0.5, the threshold of a face: it is chosen on held-out scenes and photographs of masks
(``benchmarks/wild.py``).
"""

import argparse
import dataclasses
from pathlib import Path

import keras
import numpy as np

from kpdetect import models
from kpdetect.data import load, split_by_rule
from kpdetect.data.annotations import concatenate
from kpdetect.modelfile import bundle
from kpdetect.models.heads import SCORE_LOGIT
from kpdetect.training.uncertainty_calibration import calibrate

WILD = ("wild:cfp", "wild:mtfl", "wild:ages", "wild:portraits", "wild:masks", "wild:scenes")
WILD_TERMS = (
    "Celebrities in Frontal-Profile (Sengupta et al., WACV 2016), MTFL (Zhang et al., ECCV 2014), UTKFace (Zhang "
    "et al., CVPR 2017), RWMFD (Wang et al., arXiv:2003.09093): for research, as far as terms are stated. "
    "MEBeauty (Lebedeva et al., 2021) and BSDS500 (Arbelaez et al., PAMI 2011): for non-commercial research. Labels of "
    "teachers: MediaPipe 0.10.21, Apache License 2.0."
)
"""Sets and terms beside those of the model that the training started from."""


def average(network: keras.Model, start: keras.Model, share: float) -> None:
    """Replaces the weights that both networks have by their mean; the running statistics too.

    Source: Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903.
    """
    for layer in start.layers:
        if layer.weights:
            own = network.get_layer(layer.name)
            pairs = zip(own.get_weights(), layer.get_weights(), strict=True)
            own.set_weights([(1 - share) * new + share * old for new, old in pairs])


def main() -> None:
    """Averages, calibrates and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="the data folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", default="compact", help="the model that the training started from")
    parser.add_argument("--share", type=float, default=0.0, help="of the start's weights in the mean, in [0, 1]")
    parser.add_argument("--score-at", type=float, default=0.5, help="in (0, 1) (default: %(default)s)")
    arguments = parser.parse_args()
    network, spec = bundle.load_bundle(arguments.model)
    average(network, bundle.load_bundle(arguments.start)[0], arguments.share)
    faces = [load(f"ibug:{arguments.data}/ibug_300w/{part}") for part in ("helen", "lfpw")]
    validation = concatenate([split_by_rule(part, spec.split_rule)[1] for part in faces])
    spec = calibrate(network, validation, spec)
    kernel, bias = network.get_layer(SCORE_LOGIT).get_weights()
    shift = np.log(arguments.score_at / (1 - arguments.score_at))
    network.get_layer(SCORE_LOGIT).set_weights([kernel, bias - np.float32(shift)])
    size = {"parameters": models.count_parameters(network), "macs": models.count_macs(network)}
    training = {"tool": "tools/train_any_face.py", "start": arguments.start, "share": arguments.share}
    extra = {**spec.extra, **size, "name": "compact", "seed": 0, "training": training}
    before = bundle.read_spec(arguments.start)
    terms = before.terms if WILD_TERMS in before.terms else f"{before.terms} {WILD_TERMS}"
    described = dataclasses.replace(spec, data=tuple(dict.fromkeys((*before.data, *WILD))), terms=terms, extra=extra)
    bundle.save_bundle(network, described, arguments.out, overwrite=True)
    print(f"{arguments.out}: {size}")


if __name__ == "__main__":
    main()
