"""Imports without optional packages, and the backend that Keras is configured for."""

import gc
import importlib
import json
import sys
from pathlib import Path

import pytest

from kpdetect.core.fast_imports import fast_imports
from kpdetect.core.keras_backend import configured_backend


def test_an_unused_package_is_missing_within_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with fast_imports("colorsys", "json"):
        assert not gc.isenabled()
        with pytest.raises(ImportError):
            importlib.import_module("colorsys")
        assert importlib.import_module("json") is json  # imported before, so it stays
    assert gc.isenabled()
    assert importlib.import_module("colorsys").rgb_to_hsv


def test_an_error_restores_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(ValueError, match="inside"), fast_imports("colorsys"):
        raise ValueError("inside")
    assert gc.isenabled()
    assert "colorsys" not in sys.modules


def test_the_configured_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert configured_backend() == "tensorflow"
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert configured_backend() == "jax"
    (tmp_path / "keras.json").write_text("[")
    assert configured_backend() == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert configured_backend() == "jax"
