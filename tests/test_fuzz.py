"""A small fuzzing run of each surface with a fixed seed, and the mutations themselves."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from kpdetect.core.errors import KpdetectError
from tools import fuzz
from tools.fuzz_mutations import mutate
from tools.fuzz_surfaces import SURFACES, Surface

RUNS = {"labels": 400, "pictures": 400, "arrays": 80, "models": 200, "commands": 30}


@pytest.mark.slow
@pytest.mark.parametrize("surface", RUNS)
def test_every_input_gives_a_result_or_an_error_of_the_package(surface) -> None:
    outcome = fuzz.fuzz(surface, RUNS[surface], seed=20)
    assert outcome.failures == []
    assert outcome.runs == RUNS[surface]
    assert 0 < outcome.accepted < RUNS[surface]  # the valid examples are read, but not every input


def test_every_surface_is_run() -> None:
    assert set(RUNS) == set(SURFACES)


def test_the_same_seed_and_number_give_the_same_input() -> None:
    seeds = [b"\0a,b\n1,2\n", bytes(range(200))]
    made = [[fuzz.example(seeds, seed, number) for number in range(50)] for seed in (3, 3, 4)]
    assert made[0] == made[1]
    assert made[0][:2] == seeds
    assert made[0] != made[2]


@pytest.mark.parametrize("data", [b"", b"\0", b"\0a", b"\0x_1,2.5\n-3,nan\n", bytes(1000)])
def test_mutations_change_inputs_of_every_size(data) -> None:
    random = np.random.default_rng(0)
    changed = [mutate(data, [data, b"another"], random) for _ in range(100)]
    assert sum(each != data for each in changed) > 50


def _start(folder: Path):
    def run(data: bytes) -> None:
        if data == b"exception":
            raise ValueError("a fault")
        if data == b"crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if data == b"error":
            raise KpdetectError("an error of the package")

    return run


EXAMPLES = [b"sound", b"exception", b"error", b"crash", b"sound"]


def test_exceptions_and_crashes_are_failures_and_the_run_continues(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(SURFACES, "own", Surface("a surface with faults", lambda folder: EXAMPLES, _start))
    monkeypatch.setattr(fuzz.multiprocessing, "get_context", _forking)  # the surface is not registered in a new process
    outcome = fuzz.fuzz("own", 5, seed=0, out=tmp_path)
    assert [index for index, _ in outcome.failures] == [1, 3]
    assert outcome.failures[0][1].startswith("ValueError: test_fuzz.py:")
    assert outcome.failures[1][1] == f"crash: exit code {-signal.SIGKILL}"
    assert outcome.accepted == 2
    assert (tmp_path / "own-0-3").read_bytes() == b"crash"


def test_no_input_is_begun_after_the_time(monkeypatch) -> None:
    monkeypatch.setitem(SURFACES, "own", Surface("a surface without faults", lambda folder: [b"sound"], _start))
    monkeypatch.setattr(fuzz.multiprocessing, "get_context", _forking)
    assert fuzz.fuzz("own", 10**9, seed=0, seconds=0.2).runs < 10**6


def _forking(method: str):
    import multiprocessing.context

    return multiprocessing.context.ForkContext()
