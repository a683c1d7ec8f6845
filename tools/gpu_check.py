"""Checks a machine's accelerator: trains two networks with Keras on JAX, and compares losses and speed with its CPU.

    python tools/gpu_check.py --out gpu_report [--data SPEC] [--steps 300] [--networks compact-112,batchnorm]

It needs Keras, JAX for the accelerator and kpdetect, not TensorFlow, and takes less than five minutes on a GPU. Faces
are cut once into one array file, ``faces.npz`` (a file of another machine is used with ``--faces FILE``). Then each
network trains from that file in new processes: some steps on the CPU, the same steps on the accelerator, and
``--steps`` more for its speed, in float32 and in mixed precision. The report, ``report.json`` and ``report.md``, has

- the largest relative difference of the first losses from those of the CPU in float32. The weights and the dropout are
  the same, so float32 differs by rounding (TensorFloat-32: some tenths of a per cent) and 16 bits by more;
- images per second, peak memory, and the mean utilisation that ``nvidia-smi`` shows, where it is installed.

The exit status is 1 if a difference exceeds `TOLERANCE`.
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kpdetect.core.geometry import CropRule
from kpdetect.data import drop_unlabelled, load
from kpdetect.data.crops import evaluation_crops
from kpdetect.recipes import TrainOptions, choose_recipe

SIDE = 224
COMPARED_STEPS = 8
WARM_UP_STEPS = 20  # compilation, and the first use of memory
TOLERANCE = {"float32": 0.01, "mixed": 0.1}
"""Largest relative difference of a loss from the CPU's in float32."""

Report = dict[str, Any]


def write_faces(spec: str, file: Path, count: int) -> None:
    """Writes the faces of a data set to an array file.

    Args:
        spec: The data, as for ``kpdetect train``.
        file: Written: crops (N, 224, 224, 1) uint8, keypoints (N, K, 2) relative to the crop, and visible (N, K).
        count: The largest number of faces, evenly spaced.
    """
    faces = drop_unlabelled(load(spec), "train")
    faces = faces.take(np.unique(np.linspace(0, len(faces) - 1, min(count, len(faces))).astype(int)))
    crops, keypoints, _ = evaluation_crops(faces, CropRule((SIDE, SIDE), 1.5), channels=1)
    np.savez(file, crops=crops, keypoints=keypoints, visible=faces.visible.astype(np.float32), spec=spec)


def reduced(crops: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Reduces crops (N, 224, 224, 1) to another side that divides theirs, by the means of blocks."""
    block = SIDE // side
    if block * side != SIDE:
        raise ValueError(f"expected a side that divides {SIDE}, received {side}")
    shaped = crops.reshape(len(crops), side, block, side, block, 1)
    return np.asarray(np.rint(shaped.mean(axis=(2, 4), dtype=np.float32)), np.uint8)


def train(network: str, file: Path, mixed: bool, steps: int) -> Report:
    """Trains a network from an array file, on the device that JAX chooses. Called in a process of its own.

    Returns:
        The device, the precision, the losses of the first steps, and, if there are further `steps`, their speed.
    """
    began = time.perf_counter()
    import jax  # with Keras, only in this process
    import keras

    from kpdetect import models
    from kpdetect.core.schema import SCHEMAS
    from kpdetect.training.compile import compile_model

    recipe = choose_recipe(TrainOptions(network))
    with np.load(file) as arrays:
        crops, keypoints, visible = (arrays[name] for name in ("crops", "keypoints", "visible"))
    schema = next(schema for schema in SCHEMAS.values() if schema.num_keypoints == keypoints.shape[1])
    size_hw = recipe.crop.size_hw
    images = reduced(crops, size_hw[0])
    kind = jax.default_backend()
    precision = ("mixed_float16" if kind == "gpu" else "mixed_bfloat16") if mixed else "float32"

    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(precision)
    network_model = models.build(recipe.architecture, schema.num_keypoints, (*size_hw, 1))
    model = models.for_training(network_model)
    compile_model(model, recipe, schema, total_steps=10_000, jit_compile=True)

    class Steps(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
        """Notes the mean loss after each of the first steps, and the end of every step."""

        def __init__(self) -> None:
            super().__init__()
            self.means: list[float] = []
            self.ends: list[float] = []

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            """Called by Keras."""
            if len(self.means) < COMPARED_STEPS:
                self.means.append(float((logs or {})["loss"]))
            self.ends.append(time.perf_counter())

    noted, size = Steps(), recipe.batch_size
    total = COMPARED_STEPS + (WARM_UP_STEPS + steps if steps else 0)
    rows = np.arange(total * size) % len(images)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras has no types
        """The batches in their order."""

        def __len__(self) -> int:
            return total

        def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], ...]:
            taken = rows[index * size : (index + 1) * size]
            return images[taken].astype(np.float32), keypoints[taken], visible[taken]

    with utilisation() as used:
        model.fit(Batches(), shuffle=False, verbose=0, callbacks=[noted])
        jax.block_until_ready([variable.value for variable in model.trainable_variables])
    finished = time.perf_counter()
    means = np.array(noted.means) * np.arange(1, COMPARED_STEPS + 1)
    memory = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    report: Report = {
        "network": network,
        "device": str(jax.local_devices()[0].device_kind),
        "precision": precision,
        "batch_size": size,
        "parameters": models.count_parameters(model),
        "losses": np.diff(means, prepend=0.0).tolist(),
        "peak_bytes": memory or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "seconds_to_first_step": noted.ends[0] - began,
    }
    if steps:
        seconds = finished - noted.ends[-steps - 1]
        report |= {"images_per_second": steps * size / seconds, "steps_per_second": steps / seconds, **used}
    return report


@contextlib.contextmanager
def utilisation() -> Iterator[Report]:
    """Samples ``nvidia-smi`` while the block runs; yields a dict that has the mean afterwards. Empty without it."""
    found: Report = {}
    if shutil.which("nvidia-smi") is None:
        yield found
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
    samples: list[list[float]] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.5):
            answer = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[0]
            with contextlib.suppress(ValueError):
                samples.append([float(part) for part in answer.split(",")])

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        busy = samples[len(samples) // 2 :]  # the first half compiles
        if busy:
            found["utilisation_percent"] = statistics.mean(part[0] for part in busy)
            found["memory_in_use_mb"] = max(part[1] for part in busy)


def in_new_process(network: str, faces: Path, mixed: bool, steps: int, cpu: bool) -> Report:
    """Runs `train` in a new process, so that memory and devices are its own."""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    if cpu:
        environment["JAX_PLATFORMS"] = "cpu"
    words = ["--faces", str(faces), "--train", network, "--steps", str(steps), *["--mixed"] * mixed]
    done = subprocess.run([sys.executable, __file__, *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{network}: the training failed:\n{done.stderr[-3000:]}")
    report: Report = json.loads(done.stdout.strip().split("\n")[-1])
    return report


def difference(losses: Sequence[float], reference: Sequence[float]) -> float:
    """The largest relative difference of two lists of losses.

    >>> difference([1.0, 2.2], [1.0, 2.0])
    0.10000000000000009
    """
    return max(abs(one - other) / abs(other) for one, other in zip(losses, reference, strict=True))


def check(networks: Sequence[str], faces: Path, steps: int) -> list[Report]:
    """Trains all networks on the CPU and on the device of JAX; returns a row for each network and precision."""
    rows = []
    for network in networks:
        print(f"{network}: the CPU's losses", file=sys.stderr)
        reference = in_new_process(network, faces, mixed=False, steps=0, cpu=True)["losses"]
        for mixed in (False, True):
            print(f"{network}: {'mixed precision' if mixed else 'float32'}", file=sys.stderr)
            row = in_new_process(network, faces, mixed, steps, cpu=False)
            row["difference"] = difference(row["losses"], reference)
            row["cpu_losses"] = reference
            rows.append(row)
    return rows


def as_markdown(rows: Sequence[Report]) -> str:
    """The report as a table."""
    lines = [
        "| network | device | precision | images/s | steps/s | peak memory, GB | utilisation | difference of losses |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        busy = f"{row['utilisation_percent']:.0f} %" if "utilisation_percent" in row else "-"
        lines.append(
            f"| {row['network']} | {row['device']} | {row['precision']} | {row['images_per_second']:,.0f} | "
            f"{row['steps_per_second']:.1f} | {row['peak_bytes'] / 1e9:.2f} | {busy} | {row['difference']:.2%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs the check and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_report"), help="folder of the report")
    parser.add_argument("--data", default="synthetic:512", help="as for kpdetect train, with 68 points")
    parser.add_argument("--faces", type=Path, help="an array file of an earlier run, instead of --data")
    parser.add_argument("--count", type=int, default=1024, help="largest number of faces")
    parser.add_argument("--steps", type=int, default=300, help="timed steps")
    parser.add_argument("--networks", default="compact-112,batchnorm")
    parser.add_argument("--train", metavar="NETWORK", help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--mixed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(train(options.train, options.faces, options.mixed, options.steps)))
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        faces = options.faces or Path(folder) / "faces.npz"
        if options.faces is None:
            write_faces(options.data, faces, options.count)
            shutil.copy(faces, options.out / "faces.npz")
        rows = check(options.networks.split(","), faces, options.steps)
    (options.out / "report.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.out / "report.md").write_text(as_markdown(rows))
    print(as_markdown(rows), end="")
    limits = [TOLERANCE["float32" if row["precision"] == "float32" else "mixed"] for row in rows]
    return int(any(row["difference"] > limit for row, limit in zip(rows, limits, strict=True)))


if __name__ == "__main__":
    sys.exit(main())
