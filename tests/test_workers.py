"""Training on two workers of Ray equals training in one process, also after a kill, a signal and a resume."""

import csv
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from messages import lines_with, mentions
from small_models import tiny_with_dropout

from kpdetect import models, tune
from kpdetect.core.errors import Interrupted, KpdetectError
from kpdetect.core.keras_backend import choose_backend, require_tensorflow
from kpdetect.core.options import run_command
from kpdetect.export import export_model
from kpdetect.modelfile.bundle import load_bundle
from kpdetect.recipes import TrainOptions
from kpdetect.train import main
from kpdetect.training import fit
from kpdetect.training.callbacks import DEFAULT_STEPS
from kpdetect.training.distributed.options import check_worker_options, read_resources
from kpdetect.training.distributed.processes import ALONE, Place, Processes

HERE = Path(__file__).resolve().parent
ARCHITECTURE = "small_models:tiny_with_dropout"
TRAINING = ["--data", "synthetic:20", "--val-fraction", "0.5", "--batch-size", "6", "--epochs", "4"]
COMMAND = [*TRAINING, "--backend", "jax", "--checkpoint-every", "1", "--architecture", ARCHITECTURE]

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason='no JAX: pip install "kpdetect[jax]"')
needs_ray = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("ray", "pydantic", "jax")),
    reason='no Ray Train or no JAX: pip install "kpdetect[ray]"',
)


def started(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """``kpdetect train`` of a tiny network with dropout and batch normalization."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}",
        "JAX_PLATFORMS": "cpu",
        "KPDETECT_TEST_FOLDER": str(folder.parent),
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # short for tests
    }
    command = [sys.executable, "-m", "kpdetect.train", *COMMAND, "--out", str(folder), *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]", status: int = 0) -> tuple[str, str]:
    """Waits for the end of a command; returns what it printed to stdout and stderr."""
    out, err = process.communicate(timeout=600)  # a busy machine takes minutes
    assert process.returncode == status, err[-3000:]
    assert "Traceback" not in err
    return out, err


def history(run: Path) -> np.ndarray:
    """(epochs, figures)."""
    with (run / "history.csv").open() as file:
        return np.array([[float(value) for value in row.values()] for row in csv.DictReader(file)])


def assert_same_training(run: Path, reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.ARCHITECTURES, ARCHITECTURE, tiny_with_dropout)
    assert len(history(reference)) == 4
    np.testing.assert_allclose(history(run), history(reference), rtol=1e-4)
    for one, other in zip(*(load_bundle(each)[0].get_weights() for each in (run, reference)), strict=True):
        # A bias before batch normalization has rounding errors for a gradient, which Adam scales up.
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, without Ray."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    ended(started(folder))
    return folder


@pytest.mark.slow
@needs_ray
def test_a_killed_worker_is_replaced_and_the_result_is_that_of_one_process(
    one_process: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Includes dropout, batch normalization, validation and history; TensorFlow reads the bundles here."""
    words = ["--workers", "2", "--callbacks", "worker_callbacks:KillSecondWorkerOnce"]
    out, err = ended(started(tmp_path / "two", *words))
    assert (tmp_path / "killed").exists()
    assert lines_with(err, "warning", "process 1", "restart 1 of 3")
    assert lines_with(err, "resuming", "epoch")
    assert lines_with(out.splitlines()[0], "on synthetic", "9 faces")  # nothing else is printed to stdout
    assert_same_training(tmp_path / "two", one_process, monkeypatch)
    written = export_model(tmp_path / "two", tmp_path / "exported", ["tflite"])
    assert written.files["two.tflite"]["max_difference_px"] < 0.01


@pytest.mark.slow
@needs_ray
def test_a_signal_stops_all_workers_and_one_process_resumes(
    one_process: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = started(tmp_path / "two", "--workers", "2", "--callbacks", "worker_callbacks:WaitAfterFirstStep")
    while not (tmp_path / "ready").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = ended(process, 143)
    assert lines_with(err, "SIGTERM", "state saved", "--resume")
    assert not (tmp_path / "two" / "model.weights.h5").exists()
    steps_done = [file.stem for file in (tmp_path / "two" / "checkpoints").glob("epoch*")]
    assert max(steps_done) == "epoch000002_step0000001"  # the fifth step
    _, err = ended(started(tmp_path / "two", "--resume"))
    assert lines_with(err, "resuming", "epoch 2, step 1")
    assert_same_training(tmp_path / "two", one_process, monkeypatch)


@needs_ray
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (KpdetectError("faces.csv is not there"), {"error": "faces.csv is not there"}),
        (Interrupted("stopped after epoch 1", signal.SIGTERM), {"error": "stopped after epoch 1", "signal_number": 15}),
        (
            FileNotFoundError(2, "No such file", "faces.csv"),
            {"error": f"{socket.gethostname()}: faces.csv: No such file"},
        ),
    ],
)
def test_what_a_user_can_fix_ends_a_worker_without_a_restart(
    raised: BaseException, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kpdetect.training.distributed import worker
    from kpdetect.training.distributed.caller import End

    def fails(_: object) -> None:
        raise raised

    monkeypatch.setattr(worker, "_prepare_process", fails)
    assert worker._end_of_training(SimpleNamespace(), Place(0, 2)) == End(**expected)
    raised = IndexError("a bug")
    with pytest.raises(IndexError):  # Ray Train starts the workers again
        worker._end_of_training(SimpleNamespace(), Place(0, 2))


class Answers:
    """Stands for the handle of an actor: `ray.get` of a call is the call's result."""

    def __init__(self, actor: object) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=getattr(self.actor, name))


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> "Answers":
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "get", lambda result: result)
    from kpdetect.training.distributed.caller import Caller

    return Answers(Caller())


@needs_ray
def test_a_restarted_worker_resumes_once_the_run_has_started(caller: Answers) -> None:
    assert not caller.actor.begin()
    assert not caller.actor.begin()  # it died before the settings were written
    caller.actor.run_started()
    assert caller.actor.begin()


@needs_ray
def test_the_output_of_process_0_arrives_complete_and_in_order(caller: Answers) -> None:
    from kpdetect.training.distributed.caller import Relay

    relay = Relay(caller, terminal=True)
    assert relay.isatty()
    for number in range(100):
        print(number, file=relay)
    relay.stop()
    assert caller.actor.news(0).text.split() == [str(number) for number in range(100)]
    assert not caller.actor.news(0).text


class Fitted:
    """A training that ends after some questions."""

    def __init__(self, questions: int, error: BaseException | None = None) -> None:
        self.questions, self.error = questions, error

    def runs(self, seconds: float) -> bool:
        self.questions -= 1
        return self.questions >= 0


@needs_ray
def test_how_a_training_ends(caller: Answers, capsys: pytest.CaptureFixture[str]) -> None:
    from ray.exceptions import RayActorError
    from ray.train import ControllerError, WorkerGroupError

    from kpdetect.training.distributed.caller import End
    from kpdetect.training.distributed.run import _report_of

    with pytest.raises(Interrupted) as stopped:  # no step was made, so nothing is saved
        _report_of(Fitted(9), caller, lambda: signal.SIGTERM, 3)
    assert stopped.value.status == 143
    caller.actor.failed("process 1 ended: out of memory")
    died = WorkerGroupError("", {0: OSError("connection reset"), 1: RayActorError()})
    with pytest.raises(KpdetectError, match=mentions("process 1 ended: ", "--resume")):
        _report_of(Fitted(0, died), caller, lambda: 0, 0)
    bug = WorkerGroupError("Traceback of the worker", {0: IndexError("list index")})
    with pytest.raises(KpdetectError, match=mentions("IndexError: list index")):
        _report_of(Fitted(0, bug), caller, lambda: 0, 0)
    assert "Traceback of the worker" in capsys.readouterr().err
    with pytest.raises(KpdetectError, match=mentions("no storage")):
        _report_of(Fitted(0, ControllerError(OSError("no storage"))), caller, lambda: 0, 0)
    assert caller.actor.signal_number() == 0
    caller.actor.training_started()
    caller.actor.finish(End(error="stopped after epoch 1", signal_number=2))
    caller.actor.finish(End(report="a later end"))
    with pytest.raises(Interrupted, match="epoch 1"):  # steps are being made
        _report_of(Fitted(1), caller, lambda: signal.SIGINT, 3)
    assert caller.actor.signal_number() == signal.SIGINT


@needs_ray
def test_missing_resources_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    from kpdetect.training.distributed.run import warn_of_missing_resources

    warn_of_missing_resources({"CPU": 2.0, "GPU": 1.0}, 4, {"CPU": 8.0, "GPU": 3.0})
    (line,) = capsys.readouterr().err.splitlines()
    assert lines_with(line, "4 workers", "4 GPU", "3")


@needs_ray
def test_the_state_of_ray_train_is_removed(tmp_path: Path) -> None:
    from kpdetect.training.distributed.run import state_folder

    for shared in (False, True):
        with state_folder(tmp_path / "runs" / "mine", shared) as state:
            state.mkdir()
        assert not state.exists()
        assert (state.parent == tmp_path / "runs") == shared


def test_options_of_workers_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    for words, parts in [
        ({"workers": 0}, ["--workers", "1", "0"]),
        ({"workers": 2, "max_failures": -1}, ["--max-failures", "-1"]),
        ({"workers": 2, "backend": "tensorflow"}, ["tensorflow", "--backend jax"]),
        ({"workers": 3, "batch_size": 64}, ["--workers 3", "64", "--batch-size 63"]),
        ({"workers": 2, "resources_per_worker": ("CPU",)}, ["--resources-per-worker", "CPU=2", "'CPU'"]),
        ({"workers": 2, "resources_per_worker": ("GPU=-1",)}, ["--resources-per-worker", "'GPU=-1'"]),
    ]:
        with pytest.raises(KpdetectError, match=mentions(*parts)):
            check_worker_options(TrainOptions(**words))
    assert read_resources(("CPU=2", "GPU=0.5")) == {"CPU": 2.0, "GPU": 0.5}
    with pytest.raises(KpdetectError, match=mentions("--workers")):
        tune.main(["--grid", "batch_size=8,16", "--workers", "2"])


@pytest.mark.parametrize(("module", "package"), [("ray", "Ray"), ("pydantic", "Ray Train"), ("jax", "JAX")])
def test_a_missing_package_names_its_extra(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name) or object())
    assert run_command(main, ["--workers", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert lines_with(line, f"needs {package}", "[ray]", "pip install")


def test_a_training_without_workers_imports_no_ray() -> None:
    code = "import sys, kpdetect.train, kpdetect.training.run; sys.exit('ray' in sys.modules)"
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_a_single_process_needs_no_agreement(tmp_path: Path) -> None:
    processes = Processes()
    assert processes.place == ALONE
    assert processes.place.first
    assert processes.shared_file(tmp_path) == tmp_path
    assert processes.agreed(lambda: 15, lambda: 0)() == 15
    processes.run_started()
    processes.check_same({"seed": 0})


def test_several_processes_save_checkpoints_by_steps_not_by_time() -> None:
    for asked, alone, together in ((None, None, DEFAULT_STEPS), (0, 0, 0), (7, 7, 7)):
        options = TrainOptions(checkpoint_every=asked)
        assert (
            fit._steps_between_checkpoints(options, ALONE),
            fit._steps_between_checkpoints(options, Place(1, 2)),
        ) == (alone, together)


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


CLUSTER = HERE.parent / "examples" / "cluster"


def test_the_cluster_of_ray_up_fits_its_schema() -> None:
    yaml = pytest.importorskip("yaml")
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = util.prepare_config(yaml.safe_load((CLUSTER / "aws.yaml").read_text()))
    util.validate_config(config)
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in command for command in commands if "ray start" in command)


def test_the_cluster_of_kubernetes_is_complete() -> None:
    yaml = pytest.importorskip("yaml")
    volume, cluster = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    spec = cluster["spec"]
    assert (cluster["kind"], spec["authOptions"]) == ("RayCluster", {"mode": "token"})
    pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1
    for pod in pods:
        (claim,) = [each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"]]
        assert claim == volume["metadata"]["name"]
        assert [mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]] == ["data"]
