"""`kpdetect benchmark`: alternating rounds in separate processes, memory, operations, and other libraries."""

import json
from pathlib import Path

import numpy as np
import pytest
from messages import lines_with, mentions
from small_models import small_bundle

from kpdetect import benchmark
from kpdetect.core.errors import KpdetectError
from kpdetect.evaluation.latency.memory import peak_memory_bytes
from kpdetect.evaluation.latency.operations import sum_up
from kpdetect.evaluation.latency.roofline import Peaks, measure_peaks, roofline
from kpdetect.evaluation.latency.rounds import RUNS_PER_TURN, time_in_turns
from kpdetect.evaluation.latency.subjects import Subject, prepare
from kpdetect.evaluation.latency.worker import Loaded, NotInstalled, Worker
from kpdetect.modelfile.bundle import shipped_model

SHIPPED = shipped_model()


@pytest.fixture
def fake_dlib(tmp_path, monkeypatch):
    """Puts a fake dlib module first on the import path, also for child processes."""

    def install(body: str) -> None:
        (tmp_path / "dlib.py").write_text(body)
        weights = tmp_path / "weights.dat"
        weights.write_bytes(b"0" * 123)
        models = f"def pose_predictor_model_location():\n    return {str(weights)!r}\n"
        (tmp_path / "face_recognition_models.py").write_text(models)
        monkeypatch.syspath_prepend(tmp_path)

    return install


WORKING_DLIB = """
from types import SimpleNamespace as Space

def rectangle(*sides):
    assert all(isinstance(side, int) for side in sides)
    return sides

def shape_predictor(file):
    def predict(picture, box):
        assert picture.shape == (256, 256, 3) and picture.dtype == "uint8"
        return Space(parts=lambda: [Space(x=box[0], y=box[1])] * 68)
    return predict
"""


def test_the_command_reports_latency_memory_and_operations(tmp_path, capsys):
    files = [str(SHIPPED / "compact.tflite"), str(Path(__file__).parents[1] / "exported_models/compact/compact.onnx")]
    target = tmp_path / "figures.json"
    assert benchmark.main([*files, "--batch", "2,1", "--runs", "6", "--no-peers", "--json", str(target)]) == 0
    rows = json.loads(target.read_text())["rows"]
    assert [(row["name"], row["kind"], row["batch"]) for row in rows] == [
        (files[0], "tflite", 1),
        (files[1], "onnx", 1),
        (files[0], "tflite", 2),
        (files[1], "onnx", 2),
    ]
    for row in rows:
        assert row["runs"] == 2 * RUNS_PER_TURN  # whole rounds
        assert 0 < row["least_ms"] <= row["median_ms"] <= row["p95_ms"]
        assert row["images_per_second"] == pytest.approx(1000 * row["batch"] / row["median_ms"])
        assert 20e6 < row["base_bytes"] < row["peak_bytes"] < 2e9
        assert row["bytes"] == Path(row["name"]).stat().st_size
    assert rows[0]["operations"] is None
    operations = {part["operation"]: part for part in rows[1]["operations"]}
    assert operations["Conv"]["count"] == 25  # of compact's graph
    assert max(operations.values(), key=lambda part: part["share"]) is operations["Conv"]
    assert sum(part["share"] for part in operations.values()) == pytest.approx(1)
    macs = rows[1]["roofline"]["macs"]
    assert [row["roofline"]["macs"] for row in rows] == [macs, macs, 2 * macs, 2 * macs]
    assert all(0 < row["roofline"]["share_of_bytes"] < row["roofline"]["share_of_macs"] < 5 for row in rows)
    table = capsys.readouterr().out
    assert lines_with(table, "Conv", "25")
    assert lines_with(table, f"{macs / 1e6:,.0f}")
    assert lines_with(table, f"{rows[0]['median_ms']:.2f}")


def test_stdout_has_json_only(capsys):
    benchmark.main([str(SHIPPED), "--runs", "1", "--no-peers", "--json", "-"])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["file"].endswith("compact_int8.tflite")  # the file of a bundle that is run


def test_another_library_is_timed_too(fake_dlib, tmp_path):
    fake_dlib(WORKING_DLIB)
    target = tmp_path / "figures.json"
    benchmark.main([str(SHIPPED), "--runs", "1", "--threads", "1,2", "--json", str(target)])
    told = json.loads(target.read_text())
    assert [(row["threads"], row["bytes"]) for row in told["rows"] if row["name"] == "dlib"] == [(1, 123)]


def test_a_missing_library_is_reported_and_left_out(fake_dlib, capsys):
    fake_dlib("raise ModuleNotFoundError('No module', name='dlib')")
    assert benchmark.main([str(SHIPPED), "--runs", "1", "--threads", "1,2"]) == 0
    printed = capsys.readouterr()
    assert len(lines_with(printed.err, "dlib")) == 1
    assert "dlib" not in printed.out


def test_errors_and_crashes_of_a_worker_are_reported(fake_dlib):
    fake_dlib("raise ValueError('broken wheel')")
    with pytest.raises(RuntimeError, match="broken wheel"):
        Worker(Subject("dlib", 1), [1])
    fake_dlib("import os\nos._exit(7)")
    with pytest.raises(KpdetectError, match=mentions("dlib", "7")):
        Worker(Subject("dlib", 1), [1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.tflite"], ("nowhere.tflite",)),
        ([str(SHIPPED), "--threads", "1,0"], ("--threads", "1,2", "1,0")),
        ([str(SHIPPED), "--batch", "many"], ("--batch", "many")),
        ([str(SHIPPED), "--batch", ","], ("--batch", "1,2")),
        ([str(SHIPPED), "--runs", "0"], ("--runs", "1", "0")),
    ],
)
def test_wrong_arguments_are_errors_before_anything_runs(words, said):
    with pytest.raises(KpdetectError, match=mentions(*said)):
        benchmark.main(words)


def test_a_damaged_file_is_a_one_line_error(tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes((SHIPPED / "compact.tflite").read_bytes()[:100_000])
    with pytest.raises(KpdetectError, match=r"damaged\.tflite"):
        benchmark.main([str(damaged), "--no-peers"])


class FakeWorker:
    """Reports `ms` for each face and records when it was called."""

    def __init__(self, name: str, ms: float, log: list) -> None:
        self.subject, self.ms, self.log = Subject(name, 1), ms, log
        self.loaded = Loaded("tflite", name, 1, 10, {1: 20, 4: 30})

    def turn(self, batch, runs):
        self.log.append((self.subject.name, batch))
        slow = len(self.log) == 1  # one outlier in the first round
        return [batch * self.ms / 1000] * (runs - slow) + [1.0] * slow

    def operations(self, batch):
        return []


def test_workers_alternate_and_statistics_equal_the_values_by_hand():
    log: list = []
    workers = [FakeWorker("a", 2, log), FakeWorker("b", 3, log)]
    rows = time_in_turns(workers, [1, 4], 4 * RUNS_PER_TURN, profile=False)
    assert log == 4 * [("a", 1), ("b", 1), ("a", 4), ("b", 4)]
    assert [row.median_ms for row in rows] == pytest.approx([2, 3, 8, 12])
    assert [row.images_per_second for row in rows] == pytest.approx([500, 1000 / 3, 500, 1000 / 3])
    assert [row.peak_bytes for row in rows] == [20, 20, 30, 30]
    # The 95th percentile of 19 values of 2 and one of 1000 is 0.05 of the way from the 19th to the 20th.
    assert rows[0].p95_ms == pytest.approx(2 + 0.05 * 998)
    assert rows[1].p95_ms == pytest.approx(3)


def test_the_roofline_equals_the_values_by_hand():
    shares = roofline(macs=300, moved=40, seconds=2.0, peaks=Peaks(1000.0, 50.0))
    assert (shares.share_of_macs, shares.share_of_bytes) == pytest.approx((0.15, 0.4))
    assert "memory" in str(shares)
    peaks = measure_peaks(1)
    assert 1e8 < peaks.macs_per_second < 1e13
    assert 1e7 < peaks.bytes_per_second < 1e13


def test_operations_are_summed_without_the_warm_up():
    def event(name: str, microseconds: int) -> dict:
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds, "args": {"op_name": name}}

    def run(first: int, second: int, add: int) -> list[dict]:
        session = {"cat": "Session", "name": "model_run", "dur": 5000, "args": {}}
        return [event("Conv", first), event("Conv", second), event("Add", add), session]

    events = run(9000, 9000, 9000) + run(100, 200, 100) + run(7000, 300, 100) + run(300, 100, 150)
    conv, add = sum_up([{"cat": "Session", "name": "load", "dur": 1}, *events], warm_up=1, runs=3)
    # Medians: 300 and 200 for the two Conv, despite one outlier of the first; 100 for Add.
    assert (conv.operation, conv.count, conv.ms, conv.share) == ("Conv", 2, pytest.approx(0.5), pytest.approx(5 / 6))
    assert (add.operation, add.count, add.ms, add.share) == ("Add", 1, pytest.approx(0.1), pytest.approx(1 / 6))


def test_peak_memory_grows_and_is_measured_per_process():
    block = np.ones(300_000_000, np.uint8)
    during = peak_memory_bytes()
    del block
    assert during > 290_000_000
    assert peak_memory_bytes() > during - 10_000_000  # Linux rounds by a few pages per thread
    with Worker(Subject(str(SHIPPED), 1), [1]) as worker:
        assert worker.loaded.base_bytes < 250_000_000  # not that of the test process


def test_a_bundle_without_tflite_runs_in_keras(tmp_path, monkeypatch):
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "1")  # the worker sets them for its process; restored here
    prepared = prepare(Subject(str(small_bundle(tmp_path / "small")), 1), [3])
    assert prepared.kind == "keras"
    assert prepared.operations is None
    assert prepared.run(3).keypoints.shape == (3, 3, 2)


def test_a_file_that_needs_a_missing_package_is_an_error(monkeypatch):
    def fail(*_):
        raise NotInstalled("onnx")

    monkeypatch.setattr("kpdetect.evaluation.latency.rounds.Worker", fail)
    with pytest.raises(KpdetectError, match=mentions("onnx")):
        benchmark.main([str(SHIPPED), "--no-peers"])
