"""The predicted cost of labelling: worked out by hand, and the table of the documentation."""

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kpdetect.core.images import write_image
from kpdetect.data import synthetic

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def growth() -> ModuleType:
    spec = importlib.util.spec_from_file_location("growth", ROOT / "benchmarks" / "growth.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["growth"] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def constants(growth: ModuleType):
    """A photograph of 2 megapixels with 3 faces takes 0.1 seconds."""
    return growth.Constants(0.001, 0.01, 0.019, 0.005, 0.014, 0.00266666, 1000.0, 10.0)


def test_the_cost_of_a_job_is_that_worked_out_by_hand(growth, constants):
    assert growth.seconds_per_photograph(constants, 2.0, 3.0) == pytest.approx(0.1, rel=1e-4)
    job = growth.Job(36e6, 2.0, 3.0, 1.0, machines=10, cores=10, price=0.05, megabytes_per_second=200, part=200)
    cost = growth.predict(constants, job)
    assert cost.photographs_per_second == pytest.approx(1000, rel=1e-4)
    # 10 hours, 10 seconds of start, and half of the last part of 20 seconds
    assert cost.hours == pytest.approx(10 + 20 / 3600, rel=1e-4)
    assert cost.core_hours == pytest.approx(1000, rel=1e-3)
    assert cost.money == pytest.approx(50, rel=1e-3)
    assert cost.gigabytes == pytest.approx(108)
    assert cost.limit == "cores"


def test_the_storage_limits_the_speed(growth, constants):
    job = growth.Job(1e6, 2.0, 3.0, megabytes=1.0, machines=10, cores=10, megabytes_per_second=50)
    cost = growth.predict(constants, job)
    assert (cost.photographs_per_second, cost.limit) == (pytest.approx(500), "storage")


def test_lost_machines_cost_time(growth, constants):
    job = growth.Job(36e6, 2.0, 3.0, machines=10, cores=10, part=700)
    usual = growth.predict(constants, job)
    lossy = growth.predict(constants, dataclasses.replace(job, losses_per_hour=8.0))  # half a part and a start: 45 s
    assert lossy.hours / usual.hours == pytest.approx(1 / 0.9, rel=0.01)


def test_the_documentation_has_the_table_and_the_constants(growth):
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    table = growth.table(growth.Constants(), growth.Job(), growth.PHOTOGRAPHS, growth.MACHINES)
    assert table in page
    for value in dataclasses.astuple(growth.Constants())[1:6]:
        assert f"{value:.4f}" in page


@pytest.mark.slow
def test_constants_can_be_measured(growth, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason='needs PyArrow: pip install "kpdetect[label]"')
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the process that measures
    write_image(tmp_path / "face.jpg", synthetic.render(seed=9, index=1, size=300)[0])
    measured = growth.measure([tmp_path / "face.jpg"], workers=1, seconds=0.1)
    for name in ("read", "decode_per_mp", "find", "mark", "write", "bytes_per_face"):
        assert getattr(measured, name) > 0, name
