"""Networks of the student projects equal PyTorch values written by ``benchmarks/students_parity.py``."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

# Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[1]
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "students_golden.json").read_text(encoding="utf-8"))
STUDENTS = ["fourconv", "batchnorm", "twoconv", "naimish", "imm-nose", "imm-full", "ibug-large"]


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    """`benchmarks/students_parity.py` as a module."""
    spec = importlib.util.spec_from_file_location("students_parity", ROOT / "benchmarks/students_parity.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_student_project_has_reference_values(parity: ModuleType) -> None:
    assert list(GOLDEN) == STUDENTS == list(parity.STUDENTS)


@pytest.mark.parametrize("name", STUDENTS)
def test_outputs_gradients_and_losses_equal_pytorch(name: str, parity: ModuleType) -> None:
    model, loss, recipe = parity.small_student(name)
    images, targets = (part[:3] for part in parity.seeded_batches(parity.SMALL_HW[name]))
    ours, expected = parity.keras_numbers(model, loss, recipe, (images, targets)), GOLDEN[name]
    np.testing.assert_allclose(ours["outputs"][:2], expected["outputs"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours["losses"], expected["losses"][:3], rtol=1e-3)
    assert ours["losses"][0] == pytest.approx(expected["losses"][0], rel=1e-5)
    norms = expected["gradient_norms"]
    assert set(norms) == {key for key in ours if "/" in key}
    for kernel in (key for key in norms if key.endswith("/0")):
        assert np.linalg.norm(ours[kernel]) == pytest.approx(norms[kernel], rel=1e-3), kernel
        bias = f"{kernel[:-1]}1"  # a bias before batch normalisation has only rounding errors as gradient
        assert np.linalg.norm(ours[bias]) == pytest.approx(norms[bias], rel=1e-3, abs=1e-4 * norms[kernel]), bias


def test_the_comparison_detects_a_wrong_weight(parity: ModuleType) -> None:
    model, loss, recipe = parity.small_student("imm-nose")
    kernel, bias = model.get_layer("conv2").get_weights()
    model.get_layer("conv2").set_weights([kernel[::-1], bias])
    images, targets = (part[:1] for part in parity.seeded_batches(parity.SMALL_HW["imm-nose"]))
    ours = parity.keras_numbers(model, loss, recipe, (images, targets))
    assert np.abs(ours["outputs"][:2] - GOLDEN["imm-nose"]["outputs"]).max() > 1e-3


def test_the_table_of_a_training_has_its_last_epoch(parity: ModuleType) -> None:
    rows = np.stack([np.arange(1, 8), *(np.full(7, value) for value in (0.5, 0.25, 12.34, 56.78))], 1)
    lines = parity.table_of_training("imm-nose", rows).splitlines()
    assert lines == [f"| `imm-nose` | {epoch} | 0.5 | 0.25 | 12.3 | 56.8 |" for epoch in (1, 2, 3, 5, 7)]


def test_trainings_are_plotted_from_their_files(parity: ModuleType, tmp_path: Path) -> None:
    for name in ("naimish", "imm-nose"):
        (tmp_path / f"{name}.csv").write_text(",".join(parity.COLUMNS) + "\n1,2,3,40,50\n2,1,2,20,30\n")
    parity.plot_trainings(tmp_path)
    assert (tmp_path / parity.PLOT).read_bytes().startswith(b"\x89PNG")
