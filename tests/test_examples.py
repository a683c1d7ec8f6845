"""The short programs in ``examples/`` run and stay short; `test_minimal_litert` tests the one for app developers."""

import ast
import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from kpdetect import Predictor
from kpdetect.core.images import read_image, write_image
from kpdetect.data import load, synthetic

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = ("nose_tip", "left_eye_outer", "right_eye_outer")


def example(name: str) -> ModuleType:
    module_spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def write_csv(folder: Path, count: int) -> Path:
    faces = load(f"synthetic:{count}").select(NAMES)
    rows = [["image", *(f"{name}_{axis}" for name in NAMES for axis in "xy")]]
    for row, path in enumerate(faces.paths.tolist()):
        write_image(folder / f"{row}.png", faces.read(path))
        rows.append([f"{row}.png", *faces.keypoints[row].ravel().tolist()])
    with (folder / "faces.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "faces.csv"


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_is_short_and_documented(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    limit = 60 if file.stem == "minimal_litert" else 39
    assert len(source.splitlines()) <= limit
    assert f"python examples/{file.name}" in ast.get_docstring(ast.parse(source))


def test_a_folder_of_photographs_becomes_a_table_and_drawings(tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    for index in range(2):
        write_image(photos / f"{index}.png", synthetic.render(seed=9, index=index, size=300)[0])
    (photos / "notes.txt").write_text("no photograph")
    example("batch_folder").main([str(photos), str(out)])
    with (out / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["0.png", "1.png"]
    (face,) = Predictor()(photos / "1.png")
    assert float(rows[1]["nose_tip_x"]) == pytest.approx(face.point("nose_tip")[0], abs=0.01)
    assert (read_image(out / "1.jpg") != read_image(photos / "1.png")).any()
    assert "notes.txt" in capsys.readouterr().err


def test_the_webcam_example_runs_until_q_is_pressed(tmp_path, monkeypatch):
    image = synthetic.render(seed=9, index=1, size=320)[0]
    clip = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 320))
    for shift in range(4):
        clip.write(np.roll(image, shift, axis=1)[..., ::-1])
    clip.release()
    shown, keys = [], iter([0, 0, ord("q")])
    monkeypatch.setattr(cv2, "imshow", lambda title, frame: shown.append(frame))
    monkeypatch.setattr(cv2, "waitKey", lambda wait_ms: next(keys))
    assert example("webcam").main([str(tmp_path / "clip.avi")]) == 3
    green = [(frame[..., 1].astype(int) - frame[..., 2] > 100).sum() for frame in shown]
    assert min(green) > 100  # keypoints are drawn on every frame


@pytest.mark.slow
def test_a_model_of_custom_points_is_trained_and_used(tmp_path, monkeypatch, capsys):
    from kpdetect.recipes import TrainOptions

    module = example("train_on_my_csv")
    small = ("crop.size_hw=32:32", "architecture_options.widths=4:4:8:8")
    monkeypatch.setattr(module, "TrainOptions", lambda **options: TrainOptions(set=small, batch_size=8, **options))
    photo = tmp_path / "photo.png"
    write_image(photo, synthetic.render(seed=9, index=1, size=300)[0])
    module.main([str(write_csv(tmp_path, 24)), str(photo), "--epochs", "1", "--out", str(tmp_path / "mine")])
    assert "'nose_tip': [" in capsys.readouterr().out
    assert (read_image(tmp_path / "mine" / "photo.png") != read_image(photo)).any()


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_trackers_get_the_figures_of_each_epoch(tracker, monkeypatch):
    """The tracker is a stand-in that records its calls; a training calls ``fit`` once per stage."""
    import keras

    calls = []

    class Recorder(ModuleType):
        def __getattr__(self, name):
            def called(*arguments, **options):
                calls.append((name, arguments, options))
                return self

            return called

    monkeypatch.setitem(sys.modules, tracker, Recorder(tracker))
    report = example(f"log_to_{tracker}").Report()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25), "mse")
    pictures, labels = np.ones((4, 2)), np.ones((4, 1))
    model.fit(pictures, labels, callbacks=[report], epochs=1, verbose=0)
    model.fit(pictures, labels, callbacks=[report], epochs=2, initial_epoch=1, verbose=0)
    sent = [(arguments[0], options) for name, arguments, options in calls if name in ("log", "log_metrics")]
    assert [options["step"] for _, options in sent] == [1, 2]
    assert all(figures["learning_rate"] == 0.25 and figures["loss"] > 0 for figures, _ in sent)
    assert [name for name, *_ in calls].count({"wandb": "init", "mlflow": "start_run"}[tracker]) == 1
