"""Model cards: a README with the metadata that model hubs read, from a model's ``spec.json``."""

import json
from collections.abc import Mapping
from typing import Any

from kpdetect.core.text import printable
from kpdetect.modelfile.spec import Spec

_BOXES = {"truth": "boxes of the labels"}
_RUNTIMES = {".tflite": ("tflite", "litert"), ".onnx": ("onnx",), ".h5": ("keras",), ".npz": ("keras",)}


def model_card(spec: Spec, name: str, address: str) -> str:
    """Writes the model card of a bundle, in Markdown with YAML metadata as Hugging Face defines them.

    >>> from kpdetect.core.geometry import CropRule
    >>> from kpdetect.core.schema import IBUG68
    >>> card = model_card(Spec(IBUG68, "compact", {}, CropRule((160, 160), 1.2), channels=1), "mine", "hf://me/mine")
    >>> card.splitlines()[1:3]
    ['library_name: kpdetect', 'pipeline_tag: keypoint-detection']

    Args:
        spec: The model's description.
        name: Name of the model, for the heading.
        address: Where the model will be, such as ``hf://user/name``, for the example.

    Returns:
        The text of ``README.md``.
    """
    height, width = spec.crop.size_hw
    tags = ["facial-landmarks", "face-alignment"]
    for file in spec.files:
        tags += [
            tag for suffix, names in _RUNTIMES.items() if file.endswith(suffix) for tag in names if tag not in tags
        ]
    lines = ["---", "library_name: kpdetect", "pipeline_tag: keypoint-detection", f"tags: {json.dumps(tags)}"]
    if spec.terms:
        lines += ["license: other", "license_name: terms-of-the-data"]
    if spec.errors:
        index = [{"name": name, "results": [_result(row, spec.num_keypoints) for row in spec.errors]}]
        lines += [f"model-index: {json.dumps(index)}"]  # JSON is YAML
    kind = "RGB" if spec.channels == 3 else "grey"
    around = "a face" if spec.crop.around == "face" else "a whole picture"
    lines += [
        "---",
        "",
        f"# {name}",
        "",
        f"Predicts {spec.num_keypoints} keypoints (scheme `{spec.schema.name}`) from {kind} crops of {width}x{height} "
        f"pixels around {around}. Architecture `{spec.architecture}`, recipe `{spec.recipe or 'unknown'}`, written by "
        f"kpdetect {spec.kpdetect_version}.",
        "",
        "```python",
        "from kpdetect import Predictor",
        "",
        f'faces = Predictor("{address}")("photo.jpg")',
        "```",
        "",
        "## Data",
        "",
        f"Trained on: {', '.join(spec.data) or 'not recorded'}.",
    ]
    lines += ["", spec.terms] if spec.terms else []
    if spec.errors:
        lines += [
            "",
            "## Errors",
            "",
            "| data | split | boxes | faces | NME, % | divided by |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['dataset']} | {row['split']} | {row['boxes']} | {row['n']} | {row.get('nme', '')} "
            f"| {row['normaliser']} |"
            for row in spec.errors
        ]
    lines += ["", "## Files", "", "| file | bytes | sha256 |", "|---|---|---|"]
    lines += [f"| `{file}` | {record['bytes']} | {record['sha256'][:12]}… |" for file, record in spec.files.items()]
    lines += ["", "`spec.json` describes input, crop, outputs and the points in their order."]
    return "\n".join(printable(line) for line in lines) + "\n"


def _result(row: Mapping[str, Any], num_keypoints: int) -> dict[str, Any]:
    """An entry of Hugging Face's ``model-index`` for a result row."""
    boxes = _BOXES.get(row["boxes"], f"end to end, faces found by {row['boxes']}")
    name = f"NME ({row['normaliser']}), {boxes}, {row['n']} faces, %"
    return {
        "task": {"type": "keypoint-detection", "name": f"{num_keypoints} keypoints"},
        "dataset": {"type": row["dataset"], "name": row["dataset"], "split": row["split"]},
        "metrics": [{"type": "nme", "name": name, "value": row.get("nme")}],
    }
