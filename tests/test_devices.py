"""Several processors train as one does, and a deterministic training tells the same losses to the last digit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    """Of each step: on one logical processor, on two, and on one again."""
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONPATH": str(here.parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(here.with_name("several_devices.py")), str(tmp_path_factory.mktemp("runs"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_two_processors_learn_as_one_does(losses: list[list[float]]) -> None:
    """Batch normalisation included: each sees half of a batch, and normalises by the whole of it."""
    one, two, _ = (np.array(run) for run in losses)
    assert len(one) == len(two) >= 10
    assert len(set(one)) == len(one)
    np.testing.assert_allclose(two[:10], one[:10], rtol=1e-4)


def test_a_deterministic_training_repeats_itself_to_the_last_digit(losses: list[list[float]]) -> None:
    assert losses[0] == losses[2]
