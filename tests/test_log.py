"""Messages: the library logs below ``kpdetect``, its commands print them, and no module prints to stderr by itself."""

import ast
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kpdetect
from kpdetect.core.log import StderrHandler, show_messages
from kpdetect.core.progress import TenthLines, progress
from kpdetect.data import load

ROOT = Path(kpdetect.__file__).resolve().parent

PROGRAMS = {
    "core/log.py",  # prints the messages
    "core/options.py",  # prints a command's error, its last line
    "core/atomic_write.py",  # `--json -`
    "modelfile/trial.py",  # a child process
}
"""Modules that print although they are not commands."""

RESULTS = {"inference/prediction_run.py", "inference/bulk/run.py", "tracking/track_run.py"}
"""The runs of commands, which print results to stdout."""


def printing(file: Path) -> list[ast.Call]:
    """The calls of `print` in a module."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_no_module_of_a_package_prints() -> None:
    modules = {file.relative_to(ROOT).as_posix(): file for file in ROOT.glob("*/**/*.py")}
    assert {name for name, file in modules.items() if printing(file)} <= PROGRAMS | RESULTS


def test_every_logger_has_the_name_of_its_module() -> None:
    for file in ROOT.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if "_LOG." in text:
            assert "_LOG = logging.getLogger(__name__)" in text, file


def test_the_library_prints_warnings_alone_and_a_program_can_choose() -> None:
    code = (
        "import logging, sys\n"
        "if len(sys.argv) > 1: logging.basicConfig(level=sys.argv[1], format='%(name)s %(message)s')\n"
        "for level in ('info', 'warning'): getattr(logging.getLogger('kpdetect.data.sources'), level)(level)\n"
        "import kpdetect.data\n"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code, *level], cwd=ROOT.parent, capture_output=True, text=True).stderr
        for level in ([], ["INFO"], ["ERROR"])
    ]
    name = "kpdetect.data.sources"
    assert [text.split("\n")[:-1] for text in outputs] == [["warning"], [f"{name} info", f"{name} warning"], []]


def test_a_command_prints_a_message_once_although_another_library_logs_too() -> None:
    code = (
        "import logging; logging.basicConfig(level='INFO'); from kpdetect.core.log import show_messages\n"
        "show_messages(); logging.getLogger('kpdetect.data').info('read')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert done.stderr == "kpdetect: read\n"


class TestHandler:
    def test_messages_are_printed_once_and_safely(self, capsys):
        show_messages()
        show_messages()
        logger = logging.getLogger("kpdetect.test")
        logger.info("read %s\nand more", "a\x1b[2Jb.csv")
        logger.warning("lost")
        assert capsys.readouterr().err.splitlines() == [
            "kpdetect: read a\\x1b[2Jb.csv",
            "and more",
            "kpdetect: warning: lost",
        ]
        handlers = logging.getLogger("kpdetect").handlers
        assert len([handler for handler in handlers if isinstance(handler, StderrHandler)]) == 1

    def test_a_level_hides_lower_ones(self, capsys):
        try:
            show_messages(logging.WARNING)
            logging.getLogger("kpdetect.test").info("hidden")
            assert capsys.readouterr().err == ""
        finally:
            show_messages()

    def test_a_message_that_cannot_be_printed_ends_no_program(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", None)
        logging.getLogger("kpdetect.test").warning("no console")


def test_messages_of_a_reader_have_its_module(tmp_path, caplog) -> None:
    faces = load("synthetic:3").select(["nose_tip", "chin"])
    rows = [f"{path},{row[0][0]},{row[0][1]},-1,-1" for path, row in zip("abc", faces.keypoints, strict=True)]
    from kpdetect.core.images import write_image

    for name in "abc":
        write_image(tmp_path / f"{name}.png", np.zeros((400, 400, 3), np.uint8))
    lines = ["image,nose_x,nose_y,chin_x,chin_y", *(row[0] + ".png" + row[1:] for row in rows)]
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(kpdetect.core.errors.KpdetectError):  # one point has no tight box
        load(f"csv:{tmp_path / 'faces.csv'}")
    assert "kpdetect.data.readers.rows" in {record.name for record in caplog.records}


class TestProgress:
    def test_lines_show_the_time_left(self, monkeypatch, capsys):
        clock = iter([0.0, 3.0, 6.0, 9.0, 12.0])
        monkeypatch.setattr("kpdetect.core.progress.time.monotonic", lambda: next(clock))
        lines = TenthLines("reading", total=100)
        for done in (25, 50, 75):
            lines.update(done)
        assert capsys.readouterr().err.splitlines() == [
            "reading: 20 %, 0:09 left",
            "reading: 50 %, 0:06 left",
            "reading: 70 %, 0:03 left",
        ]

    def test_items_are_unchanged(self):
        assert list(progress(iter("abc"), "letters")) == ["a", "b", "c"]
