"""The golden numbers: copies in other languages are those of Python, and an export writes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import small_bundle, small_face_spec

from kpdetect import export
from kpdetect.core.images import read_image, warp_crop
from kpdetect.exporters.golden import GOLDEN_FILE, golden_numbers
from kpdetect.modelfile import bundle, runtime

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[1]
COPIES = sorted(path for path in (ROOT / "web", ROOT / "examples") for path in path.rglob(GOLDEN_FILE))


def apart(first: Any, second: Any) -> float:
    """The greatest difference of two documents of numbers; infinite if their structure differs."""
    if isinstance(first, dict) and isinstance(second, dict):
        same = first.keys() == second.keys()
        return max((apart(first[name], second[name]) for name in first), default=0.0) if same else np.inf
    if isinstance(first, list) and isinstance(second, list):
        same = len(first) == len(second)
        return max((apart(a, b) for a, b in zip(first, second, strict=True)), default=0.0) if same else np.inf
    if isinstance(first, int | float) and isinstance(second, int | float):
        return abs(first - second)
    return 0.0 if first == second else np.inf


@pytest.mark.parametrize(
    "path", [path for path in COPIES if "node_modules" not in path.parts], ids=lambda p: p.parts[-3]
)
def test_committed_numbers_are_those_of_python(path: Path) -> None:
    numbers = json.loads(json.dumps(golden_numbers()))
    difference = apart(json.loads(path.read_text(encoding="utf-8")), numbers)
    assert difference <= 1.0, "run: python tools/golden.py"  # grey levels may round otherwise


def test_an_export_writes_them_with_photographs_and_points(tmp_path: Path) -> None:
    small_bundle(tmp_path / "source", spec=small_face_spec())
    arguments = [str(tmp_path / "source"), "--out", str(tmp_path / "out"), "--formats", "tflite", "--golden"]
    assert export.main(arguments) == 0
    golden = json.loads((tmp_path / "out" / "golden" / GOLDEN_FILE).read_text(encoding="utf-8"))
    model = runtime.load(tmp_path / "out" / golden["model"])
    for one in golden["photographs"]:
        picture = read_image(tmp_path / "out" / "golden" / one["image"])
        crop = warp_crop(picture, model.spec.crop.matrix(one["box"]), model.spec.crop.size_hw, model.spec.channels)
        np.testing.assert_allclose(model(crop[None])[0], one["keypoints_relative"], atol=2e-3)
    assert f"golden/{GOLDEN_FILE}" in bundle.read_spec(tmp_path / "out").files
