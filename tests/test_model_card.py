"""The metadata of the model card for model hubs: its errors equal ``results.csv``."""

import re
from pathlib import Path

import pytest

from kpdetect.evaluation.results import read_rows
from kpdetect.modelfile.registry import SHIPPED_MODELS

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[1]
DATASETS = {"ibug-300w": "ibug:helen+ibug:lfpw", "youtube-faces": "youtube-faces"}


def test_the_metadata_contain_the_errors_of_the_results() -> None:
    text = (ROOT / "exported_models" / SHIPPED_MODELS[0].folder / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("kpdetect", "keypoint-detection")
    (model,) = metadata["model-index"]
    assert model["name"] == SHIPPED_MODELS[0].name
    rows = {
        (row.dataset, row.boxes): row
        for row in read_rows(ROOT / "exported_models" / "results.csv")
        if row.model == "compact" and row.file == "compact_int8.tflite"
    }
    seen = set()
    for result in model["results"]:
        for metric in result["metrics"]:
            boxes = "finder" if "end to end" in metric["name"] else "truth"
            row = rows[DATASETS[result["dataset"]["type"]], boxes]
            assert metric["value"] == round(row.nme, 2)
            assert int(re.search(r"(\d+) faces", metric["name"])[1]) == row.n
            assert row.normaliser in metric["name"]
            assert row.split.startswith(result["dataset"]["split"])
            seen.add((row.dataset, boxes))
    assert len(seen) == 4
