"""Tests of command-line options, errors as one line, and atomic writing."""

import dataclasses
import importlib.metadata
import json
import os
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from messages import lines_with, mentions

from kpdetect import __main__ as front
from kpdetect.core import errors
from kpdetect.core.atomic_write import atomic_file, atomic_folder
from kpdetect.core.errors import DataError, KpdetectError, MissingExtra, unknown_name
from kpdetect.core.options import command_line, option, parse_options, run_command


@dataclass(frozen=True)
class Options:
    """Does a thing."""

    places: tuple[str, ...] = option(dataclasses.MISSING, "where", positional=True)
    count: int = option(3, "how many")
    share: float = option(0.5, "which share, at most 1")
    name: str | None = option(None, "how 100 % of them are called", metavar="NAME")
    kinds: tuple[str, ...] = option(("a", "b"), "which kinds")
    mode: str = option("fast", "which way", choices=("fast", "slow"))
    resume: bool = option(False, "go on")
    grid: tuple[str, ...] = option((), "what to try", metavar="NAME=VALUES", words=True)


def parse(*words: str) -> Options:
    return parse_options(Options, words, "thing", "kpdetect thing here")


def test_defaults_are_those_of_the_dataclass():
    assert parse("x") == Options(("x",))


def test_every_kind_of_option_is_read():
    words = "x y --count 7 --share 0.25 --name n --kinds c,d, --mode slow --resume"
    assert parse(*words.split()) == Options(("x", "y"), 7, 0.25, "n", ("c", "d"), "slow", True)
    assert parse("x", "--no-resume").resume is False
    assert parse("x", "--grid", "a=1,2", "b=3", "--resume").grid == ("a=1,2", "b=3")


def test_a_command_line_round_trips():
    options = Options(("x y", "z"), 7, 0.25, "it's", ("c",), "slow", True, ("a=1,2", "b=3"))
    words = shlex.split(command_line(options, "thing"))
    # Positional arguments come first, so that no option consumes them.
    assert words[:4] == ["kpdetect", "thing", "x y", "z"]
    assert parse(*words[2:]) == options
    assert command_line(Options(("x",)), "thing") == "kpdetect thing x"


@pytest.mark.parametrize("words", [[], ["x", "--count", "many"], ["x", "--mode", "wild"], ["x", "--unknown"]])
def test_wrong_arguments_exit_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert ended.value.code == 2
    assert "usage: kpdetect thing" in capsys.readouterr().err


def test_help_has_a_description_defaults_and_an_example(capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--help")
    assert ended.value.code == 0
    page = capsys.readouterr().out
    for words in ("Does a thing.", "(default: 3)", "(default: a,b)", "kpdetect thing here", "100 %", "{fast,slow}"):
        assert words in page


def test_an_expected_error_is_one_line_and_status_2(capsys):
    def main(argv):
        raise KpdetectError("faces.csv: expected a file, found nothing")

    assert run_command(main, []) == 2
    assert capsys.readouterr().err == "kpdetect: faces.csv: expected a file, found nothing\n"


def test_the_exit_status_is_kept_and_is_130_after_ctrl_c():
    def interrupted(argv):
        raise KeyboardInterrupt

    assert run_command(lambda argv: 0, []) == 0
    assert run_command(lambda argv: 5, []) == 5
    assert run_command(interrupted, []) == 130


def test_an_unexpected_error_keeps_its_traceback():
    def main(argv):
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        run_command(main, [])


def test_a_name_that_the_system_rejects_is_one_line(capsys):
    assert run_command(front.main, ["evaluate", "a" * 300, "--data", "synthetic:2"]) == 2
    assert "Traceback" not in capsys.readouterr().err

    def read(_: object) -> int:
        return len(Path("b" * 300).read_bytes())

    assert run_command(read) == 2
    assert lines_with(capsys.readouterr().err, "kpdetect:", "b" * 300)


def test_front_door(capsys):
    assert front.main(["--version"]) == 0
    assert front.main([]) == 0
    assert "predict" in capsys.readouterr().out
    with pytest.raises(KpdetectError, match=mentions("predcit", "predict")):
        front.main(["predcit"])


def test_unknown_names_suggest_the_nearest():
    text = str(unknown_name("recipe", "batchnrm", ["compact", "batchnorm"]))
    names = re.findall("recipe|batchnrm|batchnorm|compact", text)
    assert names == ["recipe", "batchnrm", "batchnorm", "batchnorm", "compact"]  # the nearest, then all names
    text = str(unknown_name("recipe", "zzz", ["compact", "batchnorm"]))
    assert re.findall("recipe|zzz|batchnorm|compact", text) == ["recipe", "zzz", "batchnorm", "compact"]


def test_data_errors_list_some_and_count_all():
    one = DataError(["f.csv:3: bad"])
    assert str(one) == "f.csv:3: bad"
    many = DataError([f"f.csv:{line}: bad" for line in range(50)])
    assert len(many.problems) == 50
    assert "f.csv:19: bad" in str(many)
    assert "f.csv:20: bad" not in str(many)
    assert lines_with(str(many), "30")
    assert lines_with(str(many), "50", "--skip-bad-rows")


def test_a_missing_extra_names_its_install_command():
    """The install command contains the path of this clone."""
    clone = Path(__file__).resolve().parents[1]
    place = "." if Path.cwd() == clone else clone
    assert str(MissingExtra("tensorflow", "train", "training")).endswith(
        f'needs tensorflow: pip install "{place}[train]"'
    )


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, "kpdetect[jax]"),
        ({"url": "file:///wheels/kpdetect.whl"}, "kpdetect[jax] @ file:///wheels/kpdetect.whl"),
        (
            {"url": "https://example.org/kpdetect", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "kpdetect[jax] @ git+https://example.org/kpdetect@abc",
        ),
    ],
)
def test_the_install_command_names_where_kpdetect_was_installed_from(record, expected, tmp_path, monkeypatch):
    class Installed:
        def read_text(self, name):
            assert name == "direct_url.json"
            return record and json.dumps(record)

    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages" / "kpdetect" / "core" / "errors.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed())
    assert errors.install_command("jax") == f'pip install "{expected}"'


def test_an_atomic_file_is_complete_or_absent(tmp_path):
    target = tmp_path / "deep" / "points.json"
    with atomic_file(target) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("first")
        assert not target.exists()
    assert target.read_text() == "first"
    with pytest.raises(ZeroDivisionError), atomic_file(target) as temporary:
        temporary.write_text(f"half {1 // 0}")
    assert target.read_text() == "first"
    assert os.listdir(target.parent) == ["points.json"]


def test_an_atomic_file_has_the_usual_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    with atomic_file(tmp_path / "ours") as temporary:
        temporary.write_text("")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_an_atomic_file_in_an_unwritable_place_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(KpdetectError, match=mentions(str(tmp_path / "file" / "below"))),
        atomic_file(tmp_path / "file" / "below"),
    ):
        pass
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path))), atomic_file(tmp_path):
        pass


def test_an_atomic_folder_is_complete_or_absent(tmp_path):
    target = tmp_path / "model"
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as temporary:
        (temporary / "half").write_text(f"{1 // 0}")
    assert os.listdir(tmp_path) == []
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
    assert (target / "a").read_text() == "1"
    with pytest.raises(KpdetectError, match=mentions(str(target))), atomic_folder(target):
        pass
    with atomic_folder(target, overwrite=True) as temporary:
        (temporary / "b").write_text("2")
    assert os.listdir(target) == ["b"]
    assert os.listdir(tmp_path) == ["model"]
