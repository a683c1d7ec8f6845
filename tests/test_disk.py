"""Full disks, and temporary files of killed processes."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpdetect.core import atomic_write
from kpdetect.core.atomic_write import atomic_file, atomic_folder, is_disk_full, remove_leftovers
from kpdetect.core.errors import KpdetectError
from kpdetect.core.options import run_command

ROOT = Path(__file__).resolve().parents[1]
SMALL = [
    *("--data", "synthetic:24", "--batch-size", "8", "--val-fraction", "0.25", "--epochs", "1", "--set"),
    *("architecture_options.widths=8:8:12:16", "architecture_options.blocks=1:1:1", "crop.size_hw=32:32"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, free: int) -> None:
    """Leaves `free` bytes on the disk."""
    disk.joinpath("filler").unlink(missing_ok=True)
    status = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(max(status.f_bavail * status.f_frsize - free, 0)))


def kpdetect(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-m", "kpdetect", *words],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not re.findall(r"(?i).*(?:onednn|absl|cuda|xnnpack|cpu_feature_guard).*", done.stderr)
    return done


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 8_192, 200_000])
def test_training_on_a_full_disk_is_a_one_line_error_and_keeps_older_files(small_disk: Path, free: int) -> None:
    older = small_disk / "run"
    older.mkdir()
    (older / "run.json").write_text("{}")
    fill(small_disk, free)
    before = files(older)
    done = kpdetect("train", *SMALL, "--out", str(small_disk / "new"))
    errors = [line for line in done.stderr.splitlines() if "cannot" in line]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1
    assert errors[0].startswith("kpdetect: ")
    assert "No space left" in errors[0]
    assert "Traceback" not in done.stderr
    assert files(older) == before


@pytest.mark.slow
def test_a_search_on_a_full_disk_stops_and_can_be_resumed(small_disk: Path) -> None:
    fill(small_disk, 60_000)
    words = ["tune", *SMALL, "--grid", "learning_rate=1e-3,1e-2", "--out", str(small_disk / "search")]
    done = kpdetect(*words)
    assert done.returncode == 2, done.stderr
    assert "No space left" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "failed" not in (small_disk / "search" / "trials.csv").read_text()
    (small_disk / "filler").unlink()
    assert kpdetect(*words, "--resume").returncode == 0
    assert (small_disk / "search" / "trials.csv").read_text().count(",done,") == 2


def test_a_full_disk_is_an_error_that_keeps_the_older_file(small_disk: Path) -> None:
    older = small_disk / "table.csv"
    older.write_text("older")
    with (
        pytest.raises(KpdetectError, match=r"table\.csv") as raised,
        atomic_file(small_disk / "table.csv") as temporary,
    ):
        temporary.write_bytes(bytes(5 << 20))
    assert is_disk_full(raised.value)
    with pytest.raises(KpdetectError, match="folder") as raised, atomic_folder(small_disk / "folder") as temporary:
        (temporary / "weights").write_bytes(bytes(5 << 20))
    assert is_disk_full(raised.value)
    assert files(small_disk) == {"table.csv": b"older"}


def test_any_error_of_a_full_disk_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "video.mp4")

    assert run_command(fail) == 2
    assert capsys.readouterr().err.splitlines() == [
        "kpdetect: video.mp4: cannot be written: No space left on device. Free space and try again"
    ]


WRITER = """
import sys, time
from kpdetect.core.atomic_write import atomic_file, atomic_folder
with (atomic_file if sys.argv[1] == "file" else atomic_folder)(sys.argv[2]):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_temporary_file_of_a_killed_process_is_removed_by_the_next(kind: str, tmp_path: Path) -> None:
    target = tmp_path / ("table.csv" if kind == "file" else "bundle")
    command = [sys.executable, "-c", WRITER, kind, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        remove_leftovers(tmp_path)
        assert len(os.listdir(tmp_path)) == 1  # its process is running
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(os.listdir(tmp_path)) == 1
    with atomic_file(tmp_path / "other.csv") as temporary:
        temporary.write_text("")
    assert os.listdir(tmp_path) == ["other.csv"]


def test_leftovers_of_other_hosts_are_removed_after_a_day(tmp_path: Path) -> None:
    new, old, others = (tmp_path / name for name in (".a.01234567-1.abcdefgh.csv", ".b.01234567-1.abcdefgh", ".c.csv"))
    for file in (new, old, others):
        file.write_text("")
    os.utime(old, times=(time.time() - 2 * 86400,) * 2)
    os.utime(others, times=(time.time() - 2 * 86400,) * 2)
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([new.name, others.name])


def test_a_folder_that_was_being_replaced_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "weights").write_text("older")
    replace, calls = os.replace, []

    def killed(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(atomic_write.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "bundle", overwrite=True):
        pass
    monkeypatch.undo()
    assert not (tmp_path / "bundle").exists()
    monkeypatch.setattr(atomic_write, "is_running", lambda process: False)
    remove_leftovers(tmp_path)
    assert files(tmp_path) == {"bundle/weights": b"older"}
