"""Bulk labelling: Parquet output equal to single predictions, bad photographs, failing workers and resuming."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from messages import lines_with, mentions

pa = pytest.importorskip("pyarrow", reason='needs PyArrow: pip install "kpdetect[label]"')
pq = pytest.importorskip("pyarrow.parquet")

from kpdetect import label as command  # noqa: E402
from kpdetect.core.atomic_write import atomic_file  # noqa: E402
from kpdetect.core.errors import KpdetectError  # noqa: E402
from kpdetect.core.images import read_image, write_image  # noqa: E402
from kpdetect.core.options import run_command  # noqa: E402
from kpdetect.core.schema import user_schema  # noqa: E402
from kpdetect.data import load  # noqa: E402
from kpdetect.detection import Face  # noqa: E402
from kpdetect.inference.bulk import run  # noqa: E402
from kpdetect.inference.bulk.folder import LabelFolder  # noqa: E402
from kpdetect.inference.bulk.options import LabelOptions  # noqa: E402
from kpdetect.inference.bulk.sources import Columns, EncodedPhoto, FilesPart, Part, TablePart, find_parts  # noqa: E402
from kpdetect.inference.bulk.tables import Counts, LabelResult, faces_table  # noqa: E402
from kpdetect.inference.bulk.worker import LabelJob, Labeller, PartResult, PredictorOptions  # noqa: E402
from kpdetect.predict import Predictor  # noqa: E402

OPTIONS = PredictorOptions(model=None, detector=None, mirror=False, min_score=0.5, max_megapixels=250)


def in_this_process(parts: Sequence[tuple[int, Part]], job: LabelJob, workers: int) -> Iterator[PartResult]:
    labeller = Labeller(job)
    return (labeller.label(number, part) for number, part in parts)


@contextmanager
def engine(workers: int, address: str | None = None):
    """A local engine in place of Ray."""
    yield in_this_process


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven synthetic faces at two folder levels, a photograph without a face, a bad file and another file."""
    folder, faces = tmp_path_factory.mktemp("photos"), load("synthetic:7:3")
    for number, path in enumerate(faces.paths):
        write_image(folder / ("deep/er" if number % 2 else ".") / f"{number}.png", faces.read(path))
    write_image(folder / "empty.png", np.full((64, 64, 3), 90, np.uint8))
    (folder / "bad.jpg").write_bytes(b"no photograph")
    (folder / "notes.txt").write_text("left alone")
    return folder


@pytest.fixture(scope="module")
def table(photos: Path) -> Path:
    """Four of the photographs as a Parquet file of two row groups, and a row without bytes."""
    files = [*sorted(photos.glob("deep/er/*.png")), photos / "0.png"]
    data = [file.read_bytes() for file in files]
    rows = pa.table({"jpg": [*data, None], "url": [*(f"page/{file.name}" for file in files), "page/none"]})
    pq.write_table(rows, photos.parent / f"{photos.name}.parquet", row_group_size=3)
    return photos.parent / f"{photos.name}.parquet"


def label(places: Sequence[object], out: Path, **options: object) -> int:
    return run.label(LabelOptions(tuple(map(str, places)), str(out), **{"part": 2, "batch": 3, **options}), engine)


def counts_in(out: str) -> list[int]:
    """The numbers of the last line before its first path: photographs, those done before, faces."""
    return [int(number) for number in re.findall(r"\d+", out.splitlines()[-1].split("/")[0])]


def read(out: Path, kind: str) -> list[dict]:
    return pq.read_table(out / kind).to_pylist()


def assert_equal_to_the_predictor(rows: list[dict], photographs: dict[str, np.ndarray | str]) -> None:
    """Compares the rows of each photograph with a single prediction."""
    predictor = Predictor()
    for name, image in photographs.items():
        found, own = predictor(image), [row for row in rows if row["image"] == name]
        assert len(own) == len(found), name
        for row, face in zip(own, found, strict=True):
            np.testing.assert_allclose(row["box"], face.box, atol=1e-4)
            np.testing.assert_allclose(row["keypoints"], face.keypoints, atol=1e-3)
            np.testing.assert_allclose(row["uncertainty"], face.uncertainty, rtol=1e-3)
            assert row["score"] == pytest.approx(face.score, abs=1e-5)
    assert {row["image"] for row in rows} <= set(photographs)


class TestParts:
    def test_every_photograph_is_listed_once_in_a_fixed_order(self, photos, tmp_path):
        places = [str(photos), str(photos / "0.png"), f"{photos}/**/*.png"]
        parts = find_parts(places, 4, Columns(), tmp_path)
        assert [len(part) for part in parts] == [4, 4, 1]
        names = [encoded.name for part in parts for encoded in part.photographs()]
        assert sorted(names) == sorted(str(file) for file in photos.rglob("*.*g"))
        assert parts == find_parts(places, 4, Columns(), tmp_path)

    def test_files_left_out_of_a_folder_are_counted(self, photos, tmp_path, caplog):
        find_parts([str(photos)], 4, Columns(), tmp_path)
        (record,) = caplog.records
        assert lines_with(record.getMessage(), str(photos), "1 file", "1 .txt")

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
    def test_parts_of_a_table_are_independent_of_its_row_groups(self, table, tmp_path, size):
        parts = find_parts([str(table)], size, Columns("jpg", "url"), tmp_path)
        names = [encoded.name for part in parts for encoded in part.photographs()]
        assert names == ["page/1.png", "page/3.png", "page/5.png", "page/0.png", "page/none"]
        assert all(len(part) <= size and len(list(part.photographs())) == len(part) for part in parts)

    def test_rows_without_names_are_named_by_their_number(self, table, tmp_path):
        parts = find_parts([str(table)], 2, Columns("jpg"), tmp_path)
        names = [encoded.name for part in parts for encoded in part.photographs()]
        assert names == [f"{table}#{row}" for row in range(5)]

    def test_images_of_hugging_face_are_structs(self, photos, tmp_path):
        rows = [{"bytes": (photos / "0.png").read_bytes(), "path": None}]
        pq.write_table(pa.table({"image": rows}), tmp_path / "faces.parquet")
        (part,) = find_parts([str(tmp_path)], 8, Columns(), tmp_path / "labels")
        (encoded,) = part.photographs()
        np.testing.assert_array_equal(encoded.read(max_pixels=10**6), read_image(photos / "0.png"))

    def test_label_files_among_photographs_are_ignored(self, photos, tmp_path):
        write_image(tmp_path / "a.png", read_image(photos / "0.png"))
        for _ in range(2):
            assert label([tmp_path], tmp_path / "labels") == 0

    @pytest.mark.parametrize(
        ("place", "parts"),
        [("nothing", ["empty/nothing"]), ("", ["empty", ".parquet"]), ("*.jpg", ["empty/*.jpg"])],
    )
    def test_folders_without_photographs_are_errors(self, tmp_path, place, parts):
        (tmp_path / "empty").mkdir()
        with pytest.raises(KpdetectError, match=mentions(*parts)):
            find_parts([f"{tmp_path}/empty/{place}".rstrip("/")], 4, Columns(), tmp_path / "out")

    def test_tables_without_photographs_are_errors(self, table, tmp_path):
        with pytest.raises(KpdetectError, match=mentions("image", "--column", "jpg", "url")):
            find_parts([str(table)], 4, Columns(), tmp_path)
        with pytest.raises(KpdetectError, match=mentions("site", "--name-column")):
            find_parts([str(table)], 4, Columns("jpg", "site"), tmp_path)
        with pytest.raises(KpdetectError, match=mentions("url", "string")):
            find_parts([str(table)], 4, Columns("url"), tmp_path)
        (tmp_path / "no.parquet").write_text("no table")
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "no.parquet"))):
            find_parts([str(tmp_path)], 4, Columns(), tmp_path / "out")
        pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "no.parquet")
        with pytest.raises(KpdetectError, match="photographs"):
            find_parts([str(tmp_path)], 4, Columns(), tmp_path / "out")


class TestLabels:
    def test_labels_equal_single_predictions(self, photos, tmp_path, capsys):
        assert label([photos], tmp_path / "out") == 0
        images = {str(file): str(file) for file in photos.rglob("*.png")}
        assert_equal_to_the_predictor(read(tmp_path / "out", "faces"), images)
        (bad,) = read(tmp_path / "out", "errors")
        assert bad["image"] == str(photos / "bad.jpg")
        assert bad["reason"]
        assert counts_in(capsys.readouterr().out) == [9, 7]

    def test_a_parquet_table_is_labelled(self, photos, table, tmp_path):
        assert label([table], tmp_path / "out", column="jpg", name_column="url") == 0
        images = {f"page/{file.name}": str(file) for file in [*photos.glob("deep/er/*.png"), photos / "0.png"]}
        assert_equal_to_the_predictor(read(tmp_path / "out", "faces"), images)
        (bad,) = read(tmp_path / "out", "errors")
        assert bad["image"] == "page/none"
        assert bad["reason"]

    def test_the_metadata_names_the_points(self, photos, tmp_path):
        assert label([photos / "0.png"], tmp_path / "out") == 0
        metadata = pq.read_schema(tmp_path / "out" / "faces" / "part-000000.parquet").metadata
        assert metadata[b"scheme"] == b"ibug68"
        assert json.loads(metadata[b"point_names"]) == list(Predictor().model.spec.schema.point_names)

    def test_models_without_score_and_uncertainty(self):
        scheme = user_schema(["left", "right"])
        untold = Face(np.float32([[1, 2], [3, 4]]), scheme)
        told = Face(untold.keypoints, scheme, 0.25, np.float32([5, 6]), np.float32([0, 1, 2, 3]))
        rows = faces_table(
            [LabelResult("a", (10, 20), [untold, told]), LabelResult("b", (1, 1), [])], scheme
        ).to_pylist()
        shared = {"image": "a", "width": 20, "height": 10, "box": [1, 2, 3, 4], "keypoints": [[1, 2], [3, 4]]}
        assert rows == [
            {**shared, "detection_box": None, "score": None, "uncertainty": None},
            {**shared, "detection_box": [0, 1, 2, 3], "score": 0.25, "uncertainty": [5, 6]},
        ]

    def test_a_failing_photograph_does_not_affect_others_of_its_batch(self, photos, tmp_path, monkeypatch):
        real = Predictor.batch

        def choke(self, images, **options):
            if any(image.shape[0] == 64 for image in images):
                raise KpdetectError("this one chokes the model")
            return real(self, images, **options)

        monkeypatch.setattr(Predictor, "batch", choke)
        assert label([photos], tmp_path / "out", batch=9, part=9) == 0
        assert len(read(tmp_path / "out", "faces")) == 7
        reasons = {Path(row["image"]).name: row["reason"] for row in read(tmp_path / "out", "errors")}
        assert reasons.keys() == {"bad.jpg", "empty.png"}
        assert reasons["empty.png"] == "this one chokes the model"

    def test_photographs_above_the_size_limit_are_bad(self, photos, tmp_path):
        assert label([photos], tmp_path / "out", max_megapixels=0.01) == 0
        large = [row for row in read(tmp_path / "out", "errors") if "at most 0.01 megapixels" in row["reason"]]
        assert len(large) == 7

    def test_a_worker_loads_its_model_once(self, photos, tmp_path, monkeypatch):
        loaded, real = [], PredictorOptions.predictor
        monkeypatch.setattr(PredictorOptions, "predictor", lambda options: loaded.append(options) or real(options))
        assert label([photos], tmp_path / "out", part=1) == 0
        assert len(loaded) == 2  # by the command, as a check, and by the worker

    def test_only_bad_photographs_exit_with_status_2(self, photos, tmp_path):
        assert label([photos / "bad.jpg"], tmp_path / "out") == 2


class TestGoingOn:
    def test_resuming_labels_only_missing_parts(self, photos, tmp_path, capsys):
        assert label([photos], tmp_path / "whole") == label([photos], tmp_path / "cut") == 0
        faces = sorted((tmp_path / "cut" / "faces").iterdir())
        faces[1].unlink()
        left_by_a_killed_process(tmp_path / "cut" / "faces" / "part-000001.parquet")
        before = {file: file.stat().st_mtime_ns for file in faces if file.exists()}
        capsys.readouterr()
        assert label([photos], tmp_path / "cut", workers=2, batch=1) == 0  # these two do not change labels
        assert counts_in(capsys.readouterr().out) == [9, 7, 7]
        assert all(file.stat().st_mtime_ns == when for file, when in before.items())
        assert sorted((tmp_path / "cut" / "faces").iterdir()) == faces
        cut, whole = read(tmp_path / "cut", "faces"), read(tmp_path / "whole", "faces")
        assert [row["image"] for row in cut] == [row["image"] for row in whole]
        np.testing.assert_allclose([row["keypoints"] for row in cut], [row["keypoints"] for row in whole], atol=1e-3)

    def test_no_worker_starts_if_all_parts_are_done(self, photos, tmp_path, monkeypatch, capsys):
        assert label([photos], tmp_path / "out") == 0
        monkeypatch.setattr("test_label.engine", None)
        assert label([photos], tmp_path / "out") == 0
        assert counts_in(capsys.readouterr().out) == [9, 9, 7]

    def test_resuming_with_other_settings_is_an_error_that_names_them(self, photos, tmp_path):
        assert label([photos / "0.png"], tmp_path / "out") == 0
        with pytest.raises(KpdetectError, match=mentions("min_score", "0.5", "0.7")):
            label([photos / "0.png"], tmp_path / "out", min_score=0.7)
        with pytest.raises(KpdetectError, match=mentions("photographs", "1", "9", "list_sha256")):
            label([photos], tmp_path / "out")

    def test_a_folder_with_other_files_is_an_error(self, photos, tmp_path):
        (tmp_path / "diary.txt").write_text("mine")
        for place in (tmp_path, tmp_path / "diary.txt"):
            with pytest.raises(KpdetectError, match=mentions(str(place))):
                label([photos], place)
        (tmp_path / "settings.json").write_text('{"volume": 11}')
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "settings.json"))):
            label([photos], tmp_path)

    def test_a_damaged_part_is_named(self, photos, tmp_path):
        assert label([photos], tmp_path / "out") == 0
        (tmp_path / "out" / "faces" / "part-000002.parquet").write_bytes(b"PAR1")
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "out" / "faces" / "part-000002.parquet"))):
            label([photos], tmp_path / "out")

    def test_a_failed_part_does_not_affect_others_and_exits_with_status_2(self, photos, table, tmp_path, capsys):
        whole = table.read_bytes()
        part = TablePart(str(table), 0, 5, Columns("jpg"))
        job = LabelJob(OPTIONS, LabelFolder(tmp_path / "out"), 3)
        damaged = tmp_path / "damaged.parquet"
        damaged.write_bytes(whole[:4] + bytes(100) + whole[104:])
        outcomes = list(in_this_process([(0, TablePart(str(damaged), 0, 5, part.columns)), (1, part)], job, 1))
        assert outcomes[0].counts is None
        assert lines_with(outcomes[0].problem, str(damaged), "0", "4")
        assert run.sum_results(outcomes, 0, 10) == (Counts(5, 4, 1), 1)
        assert job.folder.done().keys() == {1}
        assert lines_with(capsys.readouterr().err, "part 0", str(damaged))

    def test_parts_that_fail_one_after_another_end_the_run(self):
        outcomes = iter(
            [PartResult(number, None, "no space left on device") for number in range(run.FAILED_IN_A_ROW + 1)]
        )
        with pytest.raises(KpdetectError, match=mentions("3", "no space left on device")):
            run.sum_results(outcomes, 0, 10)
        assert len(list(outcomes)) == 1


class KillsItsWorker(FilesPart):
    """A part that kills the worker that reads it, like a segmentation fault or the out-of-memory killer."""

    def photographs(self) -> Iterator[EncodedPhoto]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield from ()


class KillsItsWorkerOnce(FilesPart):
    """A part that kills only the first worker that reads it."""

    def photographs(self) -> Iterator[EncodedPhoto]:
        mark = Path(self.files[0]).with_suffix(".killed")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().photographs()


@pytest.fixture(scope="module")
def on_ray() -> Iterator[object]:
    """Two workers in processes of their own; Ray is started once for all tests."""
    ray = pytest.importorskip("ray", reason='needs Ray: pip install "kpdetect[label]"')
    from kpdetect.inference.bulk.workers import started

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the classes above
    with started(2) as label_parts:
        yield label_parts


def listening(processes: set[int]) -> set[str]:
    """The addresses that processes listen on, in the hexadecimal form of Linux."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                sockets[fields[9]] = fields[1].partition(":")[0]
    found = set()
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").glob("*"):
            with suppress(OSError):
                found.add(sockets.get(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"), ""))
    return found - {""}


def processes_of(word: str) -> set[int]:
    """The processes whose command line contains a word."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if word.encode() in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ray_listens_on_loopback_only_and_a_killed_run_leaves_no_files(photos, tmp_path):
    pytest.importorskip("ray", reason='needs Ray: pip install "kpdetect[label]"')
    folders = Path("/tmp") if len(tempfile.gettempdir()) > 20 else Path(tempfile.gettempdir())
    words = ["-m", "kpdetect.label", str(photos), "--out", str(tmp_path / "out"), "--part", "1"]
    run_process = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    session = f"kpdetect-ray-{run_process.pid}-"
    try:
        assert waits_for(lambda: list((tmp_path / "out").glob("faces/*")), 120)
        rays = processes_of(session)
        assert len(rays) >= 2  # gcs_server and raylet
        heard = listening(rays | {run_process.pid})
        assert heard
        assert heard <= LOOPBACK
    finally:
        run_process.kill()
        run_process.wait()
    assert waits_for(lambda: not processes_of(session), 30)
    assert list(folders.glob(f"{session}*"))
    from kpdetect.core.ray_cluster import session_folder

    with session_folder() as own:
        assert not list(folders.glob(f"{session}*"))
        with session_folder():
            assert own.is_dir()  # the file of a running process is kept
    assert not own.exists()


def waits_for(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def left_by_a_killed_process(file: Path) -> Path:
    """A temporary file of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with atomic_file(file) as own:
        assert f"-{os.getpid()}." in own.name
        stale = file.with_name(own.name.replace(f"-{os.getpid()}.", f"-{ended.pid}."))
        stale.touch()
    file.unlink()
    return stale


def test_temporary_files_of_a_running_process_are_kept(photos, tmp_path):
    """Only temporary files of processes that have ended are removed."""
    assert label([photos / "0.png"], tmp_path / "out") == 0
    faces = tmp_path / "out" / "faces"
    with atomic_file(faces / "part-000007.parquet") as live:
        stale = left_by_a_killed_process(faces / "part-000008.parquet")
        assert label([photos / "0.png"], tmp_path / "out") == 0
        assert live.exists()
        assert not stale.exists()


@pytest.mark.slow
class TestOnRay:
    def test_labels_of_two_workers_equal_single_predictions(self, on_ray, photos, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("kpdetect.inference.bulk.workers.started", lambda workers, address: nullcontext(on_ray))
        words = [str(photos), "--out", str(tmp_path / "out"), "--part", "1", "--workers", "2"]
        assert run_command(command.main, words) == 0
        images = {str(file): str(file) for file in photos.rglob("*.png")}
        assert_equal_to_the_predictor(read(tmp_path / "out", "faces"), images)
        assert [row["image"] for row in read(tmp_path / "out", "errors")] == [str(photos / "bad.jpg")]
        assert counts_in(capsys.readouterr().out) == [9, 7]

    def test_a_killed_worker_is_replaced_and_a_part_that_kills_two_is_named(self, on_ray, photos, tmp_path):
        job = LabelJob(OPTIONS, LabelFolder(tmp_path / "out"), 2)
        write_image(tmp_path / "once.png", read_image(photos / "0.png"))
        parts = [
            KillsItsWorker(("deadly.png",)),
            KillsItsWorkerOnce((str(tmp_path / "once.png"),)),
            *(FilesPart((str(photos / name),)) for name in ("0.png", "2.png", "4.png")),
        ]
        outcomes = {outcome.number: outcome for outcome in on_ray(list(enumerate(parts)), job, 2)}
        assert {number for number, outcome in outcomes.items() if outcome.counts == Counts(1, 1, 0)} == {1, 2, 3, 4}
        assert lines_with(outcomes[0].problem, "deadly.png", "2")
        assert outcomes[0].problem.count("\n") == 0
        assert job.folder.done().keys() == {1, 2, 3, 4}

    def test_published_photographs(self, on_ray, shared_data, tmp_path):
        files = [str(file) for file in sorted((shared_data / "youtube_faces" / "test").glob("*.jpg"))[:3]]
        job = LabelJob(OPTIONS, LabelFolder(tmp_path / "out"), 2)
        parts = enumerate(find_parts(files, 2, Columns(), tmp_path))
        assert sum((outcome.counts for outcome in on_ray(list(parts), job, 2)), Counts()).photographs == 3
        rows = read(tmp_path / "out", "faces")
        assert rows
        assert_equal_to_the_predictor(rows, {file: file for file in files})


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--workers", "0"], ["--workers", "1", "0"]),
        (["--batch", "-1"], ["--batch", "1", "-1"]),
        (["--part", "0"], ["--part", "1", "0"]),
        (["--max-megapixels", "nan"], ["--max-megapixels", "0", "nan"]),
        (["--min-score", "2"], ["min_score", "0", "1"]),
        (["--model", "gone.tflite"], ["gone.tflite"]),
        (["--address", "127.0.0.1:9"], ["--address", "127.0.0.1:9", "Ray"]),
        (["--detector", "gone.onnx"], ["gone.onnx", "YuNet"]),
    ],
)
def test_invalid_options_are_errors_without_labels(words, parts, photos, tmp_path, capsys):
    pytest.importorskip("ray", reason='needs Ray: pip install "kpdetect[label]"')
    assert run_command(command.main, [str(photos), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert lines_with(error, *parts)
    (line,) = [line for line in error.splitlines() if "left out 1 file" not in line]  # the folder has notes.txt, too
    assert line.startswith("kpdetect: ")
    assert not (tmp_path / "out" / "faces").exists()


@pytest.mark.parametrize(("module", "package"), [("pyarrow", "PyArrow"), ("ray", "Ray")])
def test_a_missing_package_names_its_extra(module, package, photos, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name) or object())
    assert run_command(command.main, [str(photos), "--out", str(tmp_path / "out")]) == 2
    assert lines_with(capsys.readouterr().err, package, "[label]", "pip install")


def test_importing_the_command_needs_neither_pyarrow_nor_ray():
    code = "import sys, kpdetect.label; sys.exit(bool({'ray', 'pyarrow', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
