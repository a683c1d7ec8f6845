"""Training in several processes on JAX equals training in one; if one of them ends, the others end with a message."""

import csv
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from messages import lines_with, mentions
from small_models import tiny

from kpdetect import models, tune
from kpdetect.core.errors import KpdetectError
from kpdetect.core.keras_backend import choose_backend, require_tensorflow
from kpdetect.core.options import run_command
from kpdetect.export import export_model
from kpdetect.modelfile.bundle import load_bundle
from kpdetect.recipes import TrainOptions
from kpdetect.train import main
from kpdetect.training import fit
from kpdetect.training.callbacks import DEFAULT_STEPS
from kpdetect.training.distributed.abort_message import AbortMessage
from kpdetect.training.distributed.coordination import connected
from kpdetect.training.distributed.join import joined
from kpdetect.training.distributed.processes import ALONE, Place, place_of

HERE = Path(__file__).resolve().parent
PAIR = {"num_processes": 2, "process_id": 1, "coordinator": "127.0.0.1:9"}
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason='no JAX: pip install "kpdetect[jax]"')


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the run ``one`` of one process, and ``two`` of two processes of which one was killed and resumed."""
    folder = tmp_path_factory.mktemp("processes")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}",
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, str(HERE / "several_processes.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "ends.json").write_text(done.stdout.splitlines()[-1])
    return folder


@pytest.fixture(scope="module")
def ends(runs: Path) -> dict[str, list[dict[str, Any]]]:
    return json.loads((runs / "ends.json").read_text())


def status(ended: list[dict[str, Any]]) -> list[int]:
    return [process["status"] for process in ended]


def losses(run: Path) -> np.ndarray:
    with (run / "history.csv").open() as file:
        return np.array([[float(value) for value in row.values()] for row in csv.DictReader(file)])


@pytest.fixture(autouse=True)
def _trained_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, "compact", tiny)


@pytest.mark.slow
@needs_jax
def test_two_processes_train_like_one_also_after_a_kill(runs: Path, ends: dict[str, Any]) -> None:
    """Includes batch normalization, validation and history; TensorFlow reads the bundles here."""
    assert status(ends["alone"]) == [0], ends["alone"][0]["output"][-2000:]
    assert status(ends["cut"]) == [2, -9], ends["cut"][0]["output"][-2000:]
    assert status(ends["resumed"]) == [0, 0], ends["resumed"][0]["output"][-2000:]
    assert lines_with(ends["resumed"][0]["output"], "epoch 1")
    assert len(losses(runs / "one")) == 3
    np.testing.assert_allclose(losses(runs / "two"), losses(runs / "one"), rtol=1e-4)
    bundles = [load_bundle(runs / name)[0].get_weights() for name in ("one", "two")]
    for one, two in zip(*bundles, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-3)


@pytest.mark.slow
@needs_jax
def test_a_model_trained_on_jax_can_be_exported(runs: Path, tmp_path: Path) -> None:
    written = export_model(runs / "two", tmp_path / "exported", ["tflite"])
    assert written.files["two.tflite"]["max_difference_px"] < 0.01


@pytest.mark.slow
@needs_jax
def test_a_killed_process_is_named_and_the_other_ends(ends: dict[str, Any]) -> None:
    for name in ("killed", "cut"):
        assert status(ends[name]) == [2, -9]
        assert lines_with(ends[name][0]["output"], "kpdetect:", "1", "2", "--resume")
        assert "Traceback" not in ends[name][0]["output"]


@pytest.mark.slow
@needs_jax
def test_the_end_of_process_0_is_reported_by_the_other(ends: dict[str, Any]) -> None:
    first, other = ends["first killed"]
    assert first["status"] == -9
    assert other["status"] not in (0, None, -9)  # it ended by itself
    assert lines_with(other["output"].rstrip().splitlines()[-1], "kpdetect:", "process 0", "--resume")


@pytest.mark.slow
@needs_jax
def test_a_signal_to_one_process_stops_all_after_the_same_step(ends: dict[str, Any]) -> None:
    assert status(ends["stopped"]) == [143, 143]
    assert len({process["output"].splitlines()[-1] for process in ends["stopped"]}) == 1


@pytest.mark.slow
@needs_jax
def test_an_error_in_one_process_is_reported_by_all(ends: dict[str, Any]) -> None:
    assert status(ends["failed"]) == [2, 2]
    assert lines_with(ends["failed"][0]["output"], "1", "2", "faces.csv is not there")
    assert ends["failed"][1]["output"].endswith("kpdetect: faces.csv is not there\n")


@pytest.mark.slow
@needs_jax
def test_different_settings_and_missing_processes_are_reported(ends: dict[str, Any]) -> None:
    assert status(ends["differed"]) == [2, 2]
    for process in ends["differed"]:
        assert lines_with(process["output"], "process 1", "process 0", "seed")
    assert status(ends["not met"]) == [2]
    assert len(lines_with(ends["not met"][0]["output"], "127.0.0.1", "--process-id")) == 1


def test_a_single_process_needs_no_agreement(tmp_path: Path) -> None:
    with joined(TrainOptions()) as processes:
        assert processes.place == ALONE
        assert processes.place.first
        assert processes.shared_file(tmp_path) == tmp_path
        assert processes.agreed(lambda: 15, lambda: 0)() == 15
        processes.check_same({"seed": 0})


def test_several_processes_save_checkpoints_by_steps_not_by_time() -> None:
    for asked, alone, together in ((None, None, DEFAULT_STEPS), (0, 0, 0), (7, 7, 7)):
        options = TrainOptions(checkpoint_every=asked)
        assert (
            fit._steps_between_checkpoints(options, ALONE),
            fit._steps_between_checkpoints(options, Place(1, 2)),
        ) == (alone, together)


def test_incomplete_or_wrong_options_are_reported() -> None:
    with pytest.raises(KpdetectError, match=mentions("--coordinator", "--process-id", "127.0.0.1:9", "2", "None")):
        place_of(TrainOptions(**{**PAIR, "process_id": None}))
    with pytest.raises(KpdetectError, match=mentions("--process-id", "0", "1", "--num-processes", "2")):
        place_of(TrainOptions(**{**PAIR, "process_id": 2}))
    with pytest.raises(KpdetectError, match=mentions("tensorflow", "--backend", "jax")):
        place_of(TrainOptions(**PAIR))
    for address in ("host", "host:", "127.0.0.1:x"):
        with (
            pytest.raises(KpdetectError, match=mentions("--coordinator", address, "HOST:PORT")),
            connected(Place(1, 2, address)),
        ):
            pass
    with (
        pytest.raises(KpdetectError, match=mentions("--coordinator", "no.invalid:9")),
        connected(Place(1, 2, "no.invalid:9")),
    ):
        pass
    with pytest.raises(KpdetectError, match=mentions("--coordinator")):
        tune.main(["--grid", "batch_size=8,16", "--coordinator", "127.0.0.1:9"])


def test_the_backend_is_set_before_keras_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax" else name)
    assert run_command(main, ["--backend", "jax"]) == 2
    assert lines_with(capsys.readouterr().err, "JAX", "pip install", "[jax]")
    monkeypatch.undo()
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(KpdetectError, match=mentions("KERAS_BACKEND", "torch", "tensorflow", "jax")):
        choose_backend(None)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(KpdetectError, match=mentions("jax", "KERAS_BACKEND=tensorflow kpdetect export")):
        require_tensorflow("export", "kpdetect export")


@needs_jax
def test_setting_the_backend_too_late_is_reported() -> None:
    with pytest.raises(KpdetectError, match=mentions("tensorflow", "KERAS_BACKEND=jax")):
        choose_backend("jax")


def test_the_abort_message_is_printed_only_after_an_abort() -> None:
    code = (
        "import os, runpy, sys\n"
        "message = runpy.run_path(sys.argv[2])['AbortMessage']()\n"
        "message.set('earlier'); message.set('it is gone')\n"
        "message.cancel() if sys.argv[1] == 'well' else os.abort()\n"
    )
    file = inspect.getsourcefile(AbortMessage) or ""
    for end, expected in (("well", ""), ("abort", "it is gone\n")):
        done = subprocess.run([sys.executable, "-c", code, end, file], capture_output=True, text=True, timeout=120)
        assert done.stderr == expected
