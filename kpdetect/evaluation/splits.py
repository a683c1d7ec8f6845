"""Selection of the faces to evaluate on: all, or those held out of training."""

from kpdetect.core.errors import KpdetectError
from kpdetect.data import Annotations, dataset_of, split_by_rule
from kpdetect.modelfile.spec import Spec


def choose_split(annotations: Annotations, spec: Spec, split: str) -> tuple[Annotations, str]:
    """Returns the faces of a split, and its description for result rows.

    Raises:
        KpdetectError: ``test`` is requested of a model that was trained without a test part.
    """
    rule = spec.split_rule
    trained_on = bool(
        {dataset_of(name) for name in annotations.name.split("+")} & {dataset_of(name) for name in spec.data}
    )
    if split == "all":
        return annotations, "all (includes training faces)" if trained_on else "all"
    if split == "test" and not rule.get("test_fraction"):
        raise KpdetectError(
            "--split test: the model was trained without a test part (train --test-fraction); use --split val"
        )
    _, val, test = split_by_rule(annotations, rule)
    if split == "test":
        return test, "test by subject (looked at after training)"
    return val, f"val by subject ({'checkpoint chosen on it' if trained_on else 'none trained on'})"
