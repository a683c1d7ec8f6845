"""Atomic writing: files are complete or absent; links, pipes and devices are written to and never replaced."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from messages import lines_with, mentions

from kpdetect.core.atomic_write import atomic_file, atomic_folder
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import read_image, write_image


def write(path: Path, text: str = "new") -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text)


def test_a_link_is_kept_and_its_target_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real" / "file.json", tmp_path / "link.json"
    file.write_text("old")
    link.symlink_to(file)
    write(link)
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert os.listdir(tmp_path / "real") == ["file.json"]
    assert sorted(os.listdir(tmp_path)) == ["link.json", "real"]


def test_a_dangling_link_creates_its_target(tmp_path):
    (tmp_path / "link.json").symlink_to("deep/file.json")
    write(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "deep" / "file.json").read_text() == "new"


def test_a_failed_block_keeps_the_target_of_a_link(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "link"):
        _ = 1 // 0
    assert (tmp_path / "link").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_circular_links_are_an_error_and_are_kept(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "a"))):
        write(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


def test_a_linked_folder_is_replaced_and_the_link_is_kept(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old").touch()
    (tmp_path / "link").symlink_to("real")
    with atomic_folder(tmp_path / "link", overwrite=True) as folder:
        (folder / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert os.listdir(tmp_path / "real") == ["new"]


def test_a_pipe_receives_the_content(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    write(pipe, "through the pipe")
    reader.join()
    assert received == ["through the pipe"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_dev_null_stays_a_device():
    before = os.stat("/dev/null")
    write(Path("/dev/null"))
    after = os.stat("/dev/null")
    assert stat.S_ISCHR(after.st_mode)
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="makes a device node, which needs root")
def test_a_new_device_node_is_written_to(tmp_path):
    os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    write(tmp_path / "null")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)


CODE = """
import sys
from kpdetect.core.atomic_write import atomic_file
print("before", flush=False)
with atomic_file(sys.argv[1]) as temporary:
    temporary.write_text("content\\n")
print("after")
"""


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("into", ["pipe", "file"])
def test_stdout_receives_the_content_in_order(name, into, tmp_path):
    """Also if stdout is redirected to a file, which must not be replaced."""
    command = [sys.executable, "-c", CODE, name]
    if into == "pipe":
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        with (tmp_path / "out").open("w") as file:
            subprocess.run(command, stdout=file, check=True)
        out = (tmp_path / "out").read_text()
        assert os.listdir(tmp_path) == ["out"]
    assert out.split() == ["before", "content", "after"]


def test_an_open_descriptor_receives_the_content():
    read_end, write_end = os.pipe()
    write(Path(f"/dev/fd/{write_end}"), "descriptor")
    os.close(write_end)
    with os.fdopen(read_end) as stream:
        assert stream.read() == "descriptor"


def test_a_pipe_without_a_reader_is_an_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(KpdetectError, match=mentions(f"/dev/fd/{write_end}")):
        write(Path(f"/dev/fd/{write_end}"), "x" * 100_000)
    os.close(write_end)


def test_the_temporary_name_of_a_long_name_fits_the_limit(tmp_path):
    name = "n" * 250 + ".txt"
    write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_a_picture_is_written_to_the_target_of_a_link(tmp_path):
    (tmp_path / "link.png").symlink_to("file.png")
    write_image(tmp_path / "link.png", np.full((4, 5, 3), 9, np.uint8))
    assert read_image(tmp_path / "file.png").shape == (4, 5, 3)
    assert (tmp_path / "link.png").is_symlink()


LIMITED = """
import resource, sys
from kpdetect.core.options import run_command
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
import importlib
sys.exit(run_command(importlib.import_module(f"kpdetect.{sys.argv[2]}").main, sys.argv[3:]))
"""


def small_disk(tmp_path: Path, kilobytes: int) -> Path:
    """A small file system (tmpfs), unmounted by `unmounted`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs")
    return disk


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 512 KB with 400 KB free in which every output has an older version, or None for a limit on files."""
    disk = small_disk(tmp_path, 512)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Synthetic faces on noise, which no format compresses."""
    from kpdetect.data import load

    folder, faces = tmp_path_factory.mktemp("photographs"), load("synthetic:3:1")
    random = np.random.default_rng(0)
    for number, path in enumerate(faces.paths):
        picture = np.repeat(np.repeat(faces.read(path), 3, axis=0), 3, axis=1)
        noise = random.integers(-25, 26, picture.shape)
        write_image(folder / f"{number}.png", np.clip(picture + noise, 0, 255).astype(np.uint8))
    return folder


def run(words, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a separate process, optionally with a limit on file size in bytes."""
    command = [sys.executable, "-c", LIMITED, str(2**40 if limit is None else limit), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def clip_of(folder: Path, photographs: Path) -> Path:
    from kpdetect.tracking import video_writer

    picture = read_image(photographs / "0.png")
    with video_writer(str(folder / "clip.avi"), 25.0) as write_frame:
        for step in range(30):
            write_frame(np.roll(picture, step, axis=1))
    return folder / "clip.avi"


OUTPUTS = {
    "predict --json": lambda out, photos, clip: (["predict", photos, "--json", out / "o.json"], "o.json"),
    "predict --csv": lambda out, photos, clip: (["predict", photos, "--csv", out / "o.csv"], "o.csv"),
    "predict --draw": lambda out, photos, clip: (["predict", photos / "0.png", "--draw", out / "o.png"], "o.png"),
    "predict --draw FOLDER": lambda out, photos, clip: (["predict", photos, "--draw", out], "0.png"),
    "predict --crop-faces": lambda out, photos, clip: (["predict", photos, "--crop-faces", out], "0_1.png"),
    "track --json": lambda out, photos, clip: (["track", clip, "--json", out / "o.jsonl"], "o.jsonl"),
    "track --out .mp4": lambda out, photos, clip: (["track", clip, "--out", out / "o.mp4"], "o.mp4"),
    "track --out .avi": lambda out, photos, clip: (["track", clip, "--out", out / "o.avi"], "o.avi"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tmpfs", "limit"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_full_disk_is_a_one_line_error_and_the_older_file_is_kept(name, kind, photographs, tmp_path, request):
    """Uses a small full disk, or a limit on file size if no disk can be mounted."""
    out = request.getfixturevalue("full_disk") if kind == "tmpfs" else tmp_path / "out"
    out.mkdir(exist_ok=True)
    clip = clip_of(tmp_path, photographs) if "track" in name else None
    words, file = OUTPUTS[name](out, photographs, clip)
    (out / file).write_bytes(b"older")
    if kind == "tmpfs":
        (out / "filling").write_bytes(bytes(507 * 1024))
    done = run(words, None if kind == "tmpfs" else 2000)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("kpdetect: ") and file in line]
    assert lines_with("\n".join(errors), str(out / file))
    assert (out / file).read_bytes() == b"older"
    assert {entry.name for entry in out.iterdir()} <= {file, "filling"}


@pytest.mark.slow
def test_a_full_disk_stops_labelling(photographs, tmp_path, full_disk):
    pytest.importorskip("ray", reason='needs Ray: pip install "kpdetect[label]"')
    (full_disk / "filling").write_bytes(bytes(503 * 1024))
    done = run(["label", photographs, "--out", full_disk / "labels", "--part", "1"])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(lines_with(done.stderr, "No space left on device")) == 1
    assert not list(full_disk.glob("labels/faces/*"))
