"""The names that `kpdetect` offers, and what importing them loads."""

import subprocess
import sys

import pytest

import kpdetect

HEAVY = {"tensorflow", "keras", "matplotlib", "pandas", "pyarrow", "ray", "ai_edge_litert", "onnxruntime", "tqdm"}


def modules_after(code: str) -> set[str]:
    """The modules that some code loads in a new interpreter."""
    script = f"import importlib, sys; before = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_the_package_loads_nothing_else() -> None:
    assert modules_after("import kpdetect") == {"kpdetect"}


def test_the_names_for_prediction_load_no_training_library() -> None:
    loaded = modules_after("from kpdetect import Predictor, Face, Tracker, KeypointSchema, draw_faces, measure")
    assert "kpdetect.inference.predictor" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", [name for name in kpdetect.__all__ if name != "__version__"])
def test_each_name_is_the_object_of_its_module(name: str) -> None:
    assert getattr(kpdetect, name).__name__ == name


def test_the_names_are_listed_before_they_are_used() -> None:
    listed = subprocess.run(
        [sys.executable, "-c", "import kpdetect; print(*dir(kpdetect))"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(kpdetect.__all__) <= set(listed)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Predicter"):
        kpdetect.Predicter  # type: ignore[attr-defined]  # noqa: B018


def test_names_are_exported_by_star() -> None:
    namespace: dict[str, object] = {}
    exec("from kpdetect import *", namespace)
    assert set(kpdetect.__all__) <= set(namespace)
