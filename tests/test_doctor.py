"""The command ``doctor``: one screen, and what a missing extra costs."""

import importlib.util

import pytest

from kpdetect import __main__, doctor
from kpdetect.core import assets


def test_one_screen_with_versions_codecs_and_extras(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    titles = [line.split()[0] for line in lines]
    assert titles[:3] == ["kpdetect", "python", "system"]
    assert {f"[{extra.name}]" for extra in doctor.EXTRAS} <= set(titles)
    (codecs,) = (line for line in lines if line.startswith("codecs"))
    assert "JPEG yes" in codecs
    assert "PNG yes" in codecs


def test_a_missing_extra_says_what_does_not_work(monkeypatch, capsys) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    assert doctor.main([]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("[label]"))
    assert line.split()[1:] == ["without", "ray:", "no", "label"]


def test_a_missing_model_is_named_and_the_status_is_1(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(assets, "PACKAGE", tmp_path / "kpdetect")
    assert doctor.main([]) == 1
    assert "spec.json" in capsys.readouterr().out.splitlines()[-1]
