"""The scripts in ``tools/`` and ``benchmarks/``: help texts, and short runs of those without a data set."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kpdetect.core.images import read_image, write_image
from kpdetect.data import synthetic
from kpdetect.filters import load_filter

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = {
    "canvas",
    "docs_examples",
    "compact_batches",
    "docs_hooks",
    "face_proportions",
    "first_step",
    "fuzz_mutations",
    "fuzz_surfaces",
    "hat",
    "moustache",
    "sunglasses",
}
"""Modules that are imported and not run."""

NEEDS = {"training_torch": "torch", "students_torch": "torch"}
"""Packages that kpdetect does not install."""


def scripts(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    return [file for file in files if file.stem != "__init__" and file.stem not in LIBRARIES]


def run(file: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Runs a script in this process, as ``python FILE WORDS`` does."""
    if file.stem in NEEDS:
        pytest.importorskip(NEEDS[file.stem])
    for folder in (ROOT, file.parent):
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "argv", [str(file), *words])
    monkeypatch.delenv("KPDETECT_DATA", raising=False)
    module_spec = importlib.util.spec_from_file_location(f"script_{file.stem}", file)
    module = importlib.util.module_from_spec(module_spec)
    monkeypatch.setitem(sys.modules, module_spec.name, module)  # dataclasses look up their module
    module_spec.loader.exec_module(module)
    assert module.main() in (None, 0)


def shows_help(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(file, monkeypatch, "--help")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("file", scripts("tools"), ids=lambda file: file.stem)
def test_a_tool_shows_its_help(file, monkeypatch, capsys):
    shows_help(file, monkeypatch, capsys)


@pytest.mark.parametrize("file", scripts("benchmarks"), ids=lambda file: file.stem)
def test_a_benchmark_shows_its_help(file, monkeypatch, capsys):
    shows_help(file, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("name", "words", "printed"),
    [
        ("filters", ["--repeats", "1"], ["sunglasses", "all three"]),
        ("measures", ["--faces", "20"], ["head_pose", "20 drawn faces of known pose"]),
        ("stages", ["--repeats", "1", "--size", "320x240"], ["detect", "kpdetect"]),
        pytest.param(
            "pipeline",
            ["--batches", "1", "--repeats", "1", "--batch-size", "4", "--side", "32"],
            ["full augmentation"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "tracking", ["--faces", "1", "--frames", "20"], ["no filter", "ms per frame"], marks=pytest.mark.slow
        ),
    ],
)
def test_a_benchmark_without_data_runs(name, words, printed, monkeypatch, capsys):
    run(ROOT / "benchmarks" / f"{name}.py", monkeypatch, *words)
    output = capsys.readouterr().out
    assert all(text in output for text in printed)


def test_throughput_is_measured_for_a_folder(tmp_path, monkeypatch, capsys):
    faces = synthetic.annotations(3, size=96)
    for number, path in enumerate(faces.paths):
        write_image(tmp_path / f"{number}.png", faces.read(path))
    run(ROOT / "benchmarks" / "throughput.py", monkeypatch, str(tmp_path), "--rounds", "1")
    output = capsys.readouterr().out
    assert all(text in output for text in ("3 photographs", "ms per megapixel", "factor"))


@pytest.mark.slow
def test_the_gpu_check_runs_without_tensorflow(tmp_path):
    """On this machine's CPU, in new processes that cannot import TensorFlow."""
    pytest.importorskip("jax")
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "tensorflow.py").write_text("raise ImportError('blocked')\n")
    words = ["--data", "synthetic:12", "--steps", "1", "--networks", "compact-112", "--out", str(tmp_path / "report")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(blocked), str(ROOT)]), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "gpu_check.py"), *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [row["precision"] for row in rows] == ["float32", "mixed_bfloat16"]
    assert rows[0]["difference"] < 1e-3
    assert all(row["images_per_second"] > 0 and row["peak_bytes"] > 1e8 for row in rows)
    assert "compact-112" in (tmp_path / "report" / "report.md").read_text()


def test_the_committed_filters_equal_those_of_the_tool(tmp_path, monkeypatch):
    run(ROOT / "tools" / "filter_drawings" / "generate.py", monkeypatch, "--only", "sunglasses", "--out", str(tmp_path))
    drawn, kept = load_filter(tmp_path / "sunglasses.json"), load_filter("sunglasses")
    assert (drawn.anchors, drawn.warp, len(drawn.arms)) == (kept.anchors, kept.warp, len(kept.arms))
    for pair in zip((drawn.levels[0], drawn.arms[0].levels[0]), (kept.levels[0], kept.arms[0].levels[0]), strict=True):
        np.testing.assert_array_equal(*pair)


def test_the_face_shape_is_derived_from_pts_files(tmp_path, monkeypatch, capsys):
    for index in range(40):
        _, points = synthetic.render(seed=1, index=index, size=64)
        lines = [f"{x:.2f} {y:.2f}" for x, y in points]
        text = "\n".join(["version: 1", "n_points: 68", "{", *lines, "}"])
        (tmp_path / f"{index}.pts").write_text(text)
    target = tmp_path / "shape.json"
    run(ROOT / "tools" / "derive_face_shape.py", monkeypatch, str(target), "--data", str(tmp_path))
    shape = json.loads(target.read_text())
    assert len(shape["mean"]) == 136
    assert len(shape["deviations"]) == 25
    assert "40 faces" in capsys.readouterr().out


def test_the_stages_of_compact_are_valid_train_commands(monkeypatch):
    from kpdetect.core.options import parse_options
    from kpdetect.recipes import TrainOptions, choose_recipe

    monkeypatch.syspath_prepend(str(ROOT))
    from tools.train_compact import SHORT, STAGES

    for stage in (*STAGES, *SHORT):
        if not stage.mean_of:
            options = parse_options(TrainOptions, stage.arguments(Path("data"), Path("runs")), "train", "")
            assert choose_recipe(options).name == stage.recipe


def test_a_benchmark_of_files_needs_their_folder(monkeypatch, capsys):
    for name in ("quantization", "peers", "mistakes"):
        words = ["exported"] if name == "quantization" else []
        with pytest.raises(SystemExit) as ended:
            run(ROOT / "benchmarks" / f"{name}.py", monkeypatch, *words)
        assert ended.value.code == 2
        assert "KPDETECT_DATA" in capsys.readouterr().err


@pytest.mark.slow
def test_tracking_writes_a_video_of_a_moving_face(tmp_path, monkeypatch):
    from kpdetect.tracking import open_video

    file = tmp_path / "moving.mp4"
    words = ["--faces", "1", "--frames", "5", "--video", str(file)]
    run(ROOT / "benchmarks" / "tracking.py", monkeypatch, *words)
    video = open_video(str(file))
    assert len(list(video)) == 5
    video.close()


def test_pictures_of_the_filters_are_in_the_package():
    folder = ROOT / "kpdetect" / "filters" / "pictures"
    for description in folder.glob("*.json"):
        names = [json.loads(description.read_text())["picture"]]
        names += [arm["picture"] for arm in json.loads(description.read_text()).get("arms", ())]
        assert all(os.path.isfile(folder / name) for name in names)
        assert read_image(folder / names[0]).shape[1] == 512
