"""Training on several devices equals training on one; deterministic training is bit-reproducible."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from messages import mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.core.keras_backend import JAX
from kpdetect.recipes import TrainOptions
from kpdetect.training import devices


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    """Losses of each step on one logical device, on two, and on one again."""
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONPATH": str(here.parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(here.with_name("several_devices.py")), str(tmp_path_factory.mktemp("runs"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_devices_train_like_one(losses: list[list[float]]) -> None:
    """Includes batch normalization: each device has half of a batch and normalizes by all of it."""
    one, two, _ = (np.array(run) for run in losses)
    assert len(one) == len(two) >= 10
    assert len(set(one)) == len(one)
    np.testing.assert_allclose(two[:10], one[:10], rtol=1e-4)


def test_jax_needs_batches_that_split_evenly() -> None:
    spread = devices.Devices(4, contextlib.nullcontext, whole_batch=True)
    devices.check_batch_size(8, spread)
    devices.check_batch_size(6, dataclasses.replace(spread, whole_batch=False))
    with pytest.raises(KpdetectError, match=mentions("--batch-size", "4", "6")):
        devices.check_batch_size(6, spread)


@pytest.mark.slow
def test_deterministic_training_is_bit_reproducible(losses: list[list[float]]) -> None:
    assert losses[0] == losses[2]


@pytest.mark.parametrize(
    ("flags", "expected"), [("fpu avx512f avx512_bf16", True), ("fpu amx_bf16", True), ("fpu avx2", False)]
)
def test_bfloat16_support_of_the_processor_is_detected(flags: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert devices.supports_bfloat16(tmp_path / "cpuinfo") is expected
    assert not devices.supports_bfloat16(tmp_path / "nothing")


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_is_used_where_supported_or_requested(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "supports_bfloat16", lambda: has)
    asked = [devices.precision_of(TrainOptions(mixed_precision=asked)) for asked in (None, True, False)]
    assert asked == ["mixed_bfloat16" if has else "float32", "mixed_bfloat16", "float32"]
    assert devices.precision_of(TrainOptions("naimish")) == "float32"  # not measured for this recipe


@pytest.mark.parametrize(
    ("found", "asked_for"),
    [(("CPU", 0), "mixed_bfloat16"), (("TPU", 4), "mixed_bfloat16"), (("GPU", 1), "mixed_float16")],
)
def test_jax_uses_16_bits_only_on_request(
    found: tuple[str, int], asked_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "supports_bfloat16", lambda: True)
    monkeypatch.setattr(devices, "running_backend", lambda: JAX)
    monkeypatch.setattr(devices, "_accelerators", lambda: found)
    asked = [devices.precision_of(TrainOptions(mixed_precision=asked)) for asked in (None, True, False)]
    assert asked == ["float32", asked_for, "float32"]


def test_the_dtype_policy_applies_to_layers_built_within() -> None:
    with devices.dtype_policy("mixed_bfloat16"):
        within = keras.layers.Dense(1)
    assert (within.compute_dtype, keras.layers.Dense(1).compute_dtype) == ("bfloat16", "float32")
