"""Compares the speed of training with PyTorch student projects: the same faces, networks, batches and losses.

    python -m venv peer && peer/bin/pip install torch==2.13.0 numpy "opencv-python-headless<5"
    python benchmarks/training.py [DATA_FOLDER] --torch-python peer/bin/python [--networks NAMES]

PyTorch is optional and needs an environment of its own; without it only kpdetect is measured. The data folder, an
argument or KPDETECT_DATA, contains ``youtube_faces``. Each program runs in its own process (``training_torch.py``,
``training_ours.py``), and they take turns. The time to the first step and the first epoch of the input pipeline are
measured in new processes (``--starts``). Then, in every round (``--rounds``), each runs an epoch of its input pipeline,
some steps on one batch, and some steps on new batches. Results are medians. Memory is the resident memory of a process
and its children, with shared pages counted once; it is measured on Linux only.

kpdetect runs with its defaults, and also in float32 where that is not the default. PyTorch runs with its defaults:
float32, its own number of threads, and two workers.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpdetect.core.errors import KpdetectError
from kpdetect.data import Annotations
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training.devices import precision_of
from kpdetect.training.faces import load_faces

HERE = Path(__file__).resolve().parent
INSTALL = 'python -m venv peer && peer/bin/pip install torch==2.13.0 numpy "opencv-python-headless<5"'
OURS, OURS_FLOAT32, THEIRS = "kpdetect", "kpdetect, float32", "PyTorch"
BATCHES_AT_HAND = 16  # read before an epoch is timed, because a pipeline prefetches some
STEPS_BEFORE = 4  # batches that a `DataLoader` of two workers has ready
SAMPLE_SECONDS = 0.5


@dataclass
class Subject:
    """A training in its own process.

    Attributes:
        name: Its name in the table.
        process: Reads requests and writes replies, one line each.
        ready_seconds: From its start to its first answer.
        description: The first answer: the network, its size and precision.
        rates: Images per second of each turn, by the operation.
        peak_bytes: The largest memory of the process and its children.
    """

    name: str
    process: "subprocess.Popen[str]"
    ready_seconds: float = 0.0
    description: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: int = 0

    def turn(self, run: str, before: int, count: int, label: str | None = None) -> None:
        """Runs an operation and records its rate."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([run, before, count]) + "\n")
        self.process.stdin.flush()
        answer = self.receive()
        rate = answer["images"] / answer["seconds"]
        self.rates.setdefault(label or run, []).append(rate)
        print(f"  {self.name}, {label or run}: {rate:.1f} images/s", file=sys.stderr, flush=True)

    def receive(self) -> dict[str, Any]:
        """Waits for an answer and measures the memory meanwhile.

        Raises:
            KpdetectError: The process ended.
        """
        assert self.process.stdout is not None
        done = threading.Event()
        watching = threading.Thread(target=self._watch, args=(done,))
        watching.start()
        line = self.process.stdout.readline()
        done.set()
        watching.join()
        if not line:
            raise KpdetectError(f"{self.name}: its process ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, sum(map(resident_bytes, family(self.process.pid))))


def family(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from family(int(child))


def resident_bytes(pid: int) -> int:
    """The resident memory of a process, with its share of shared pages; 0 if unknown."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def start(name: str, command: Sequence[str]) -> Subject:
    """Starts a process and waits until it is ready."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    threading.Thread(target=_keep_end, args=(process,), daemon=True).start()
    subject = Subject(name, process)
    subject.description = subject.receive()
    subject.ready_seconds = time.perf_counter() - began
    return subject


def _keep_end(process: "subprocess.Popen[str]") -> None:
    """Reads the stderr of a process, so that it never blocks; prints its end after a failure."""
    assert process.stderr is not None
    text = process.stderr.read()
    if process.wait() not in (0, -15):
        print(text[-2000:], file=sys.stderr)


def commands_of(network: str, data: str, faces: Path, torch_python: str | None) -> dict[str, list[str]]:
    """The command of each program, by its name."""
    ours = [sys.executable, str(HERE / "training_ours.py"), network, data]
    commands: dict[str, list[str]] = {OURS: ours}
    if precision_of(TrainOptions(network)) != "float32":
        commands[OURS_FLOAT32] = [*ours, "--no-mixed-precision"]
    if torch_python is not None:
        commands = {THEIRS: [torch_python, str(HERE / "training_torch.py"), network, str(faces)], **commands}
    return commands


@contextmanager
def running(commands: Mapping[str, Sequence[str]]) -> Iterator[list[Subject]]:
    """Starts programs one after the other, and ends them afterwards."""
    with ExitStack() as stack:
        subjects = []
        for name, command in commands.items():
            subjects.append(start(name, command))
            stack.callback(_end, subjects[-1].process)
        yield subjects


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    process.wait()


def write_faces(faces: Annotations, batch_size: int, file: Path) -> None:
    """Writes the training faces for ``training_torch.py``."""
    description = {
        "paths": faces.paths.tolist(),
        "keypoints": faces.keypoints.tolist(),
        "boxes": faces.boxes.tolist(),
        "batch_size": batch_size,
        "swap": list(faces.schema.flip_permutation or range(faces.schema.num_keypoints)),
    }
    file.write_text(json.dumps(description))


def measure(network: str, data: str, options: argparse.Namespace) -> None:
    """Measures one network and prints its table."""
    chosen = TrainOptions(network, data=data)
    recipe = choose_recipe(chosen)
    faces = load_faces(chosen, recipe).train
    peaks = machine_peaks() if options.rounds else {}
    with tempfile.TemporaryDirectory() as folder:
        write_faces(faces, recipe.batch_size, Path(folder) / "faces.json")
        python = options.torch_python if os.path.isfile(faces.paths[0]) else None  # synthetic faces are not files
        commands = commands_of(network, data, Path(folder) / "faces.json", python)
        first_steps, first_epochs = starts(network, data, commands, Path(folder) / "run", options.starts)
        with running(commands if options.rounds else {}) as subjects:
            take_turns(subjects, options)
    print_starts(network, len(faces), first_steps, first_epochs)
    if subjects:
        print_table(network, subjects, peaks)


def starts(
    network: str, data: str, commands: Mapping[str, Sequence[str]], folder: Path, count: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds to the first step, and images per second of the first epoch, of new processes in turns."""
    seconds: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for number in range(count):
        print(f"start {number + 1} of {count}", file=sys.stderr)
        for name in (THEIRS, OURS):
            if name not in commands:
                continue
            with running({name: commands[name]}) as [subject]:
                subject.turn("pipeline", 0, 1, "first epoch")
            rates.setdefault(name, []).append(subject.rates["first epoch"][0])
            ready = subject.ready_seconds if name == THEIRS else first_step_seconds(network, data, folder)
            seconds.setdefault(name, []).append(ready)
            print(f"  {name}, start to first step: {ready:.1f} s", file=sys.stderr, flush=True)
    return seconds, rates


def take_turns(subjects: Sequence[Subject], options: argparse.Namespace) -> None:
    """Measures decoding, then all operations of all programs in turns."""
    for subject in subjects:
        if subject.name == OURS:
            subject.turn("decode", 0, 1)
        subject.turn("pipeline", 0, 1, "first epoch")
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        for run, before in (("pipeline", BATCHES_AT_HAND), ("steps", 1), ("both", STEPS_BEFORE)):
            for subject in subjects:
                subject.turn(run, before, options.steps)


def first_step_seconds(network: str, data: str, folder: Path) -> float:
    """Seconds from the start of ``kpdetect train`` to the end of its first step."""
    options = ["--recipe", network, "--data", data, "--out", str(folder), "--callbacks", "first_step:EndAtFirstStep"]
    command = [sys.executable, "-m", "kpdetect.train", *options]
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        raise KpdetectError(done.stderr[-2000:])
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return seconds


def machine_peaks() -> dict[str, float]:
    """Multiply-accumulates per second of a large matrix product and a large convolution."""
    command = [sys.executable, str(HERE / "training_ours.py"), "-", "-", "--peaks"]
    peaks: dict[str, float] = json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL))
    return peaks


def print_starts(
    network: str, faces: int, seconds: Mapping[str, Sequence[float]], rates: Mapping[str, Sequence[float]]
) -> None:
    """Prints medians over new processes."""
    print(f"\n{network}, {faces} faces")
    for name in seconds:
        first, rate = statistics.median(seconds[name]), statistics.median(rates[name])
        ratio = f" ({rate / statistics.median(rates[THEIRS]):.2f} times)" if THEIRS in rates else ""
        print(f"{name}: start to first step {first:.1f} s; first epoch {rate:,.0f} images/s{ratio}")


def print_table(network: str, subjects: Sequence[Subject], peaks: dict[str, float]) -> None:
    """Prints medians, and their ratios to PyTorch's."""
    sizes = ", ".join(
        f"{subject.name} {subject.description['parameters']:,} ({subject.description['precision']})"
        for subject in subjects
    )
    print(f"parameters: {sizes}")
    medians = [{run: statistics.median(rates) for run, rates in one.rates.items()} for one in subjects]
    theirs = medians[0] if subjects[0].name == THEIRS else {}
    print(f"{'images/s':22}" + "".join(f"{subject.name:>26}" for subject in subjects))
    for run, label in (
        ("pipeline", "pipeline, later epochs"),
        ("steps", "step alone"),
        ("both", "both"),
    ):
        ratios = [f"({one[run] / theirs[run]:.1f} times)" if theirs else "" for one in medians]
        print(
            f"{label:22}"
            + "".join(f"{one[run]:12,.1f} {ratio:>13}" for one, ratio in zip(medians, ratios, strict=True))
        )
    print(f"{'peak memory, GB':22}" + "".join(f"{subject.peak_bytes / 1e9:12.2f}{'':14}" for subject in subjects))
    ours = next(one for one in subjects if one.name == OURS)
    print(f"decoding alone: {ours.rates['decode'][0]:,.0f} images/s")
    print_shares(subjects, ours.description["macs"], peaks)


def print_shares(subjects: Sequence[Subject], macs: int, peaks: dict[str, float]) -> None:
    """Prints the share of the machine's peak that each step reaches; a step costs three forward passes."""
    print("machine, GMAC/s: " + ", ".join(f"{name} {peak / 1e9:,.0f}" for name, peak in peaks.items()))
    for subject in subjects:
        rate = 3 * macs * statistics.median(subject.rates["steps"])
        precision = "bfloat16" if "bfloat16" in subject.description["precision"] else "float32"
        shares = ", ".join(
            f"{rate / peaks[f'{what}, {precision}']:.0%} of a {what}" for what in ("product", "convolution")
        )
        print(f"  {subject.name}: {rate / 1e9:,.0f} GMAC/s in {precision}, {shares}")


def torch_python(path: str | None) -> str | None:
    """The interpreter with torch; None, after a message how to install it, if there is none."""
    if path is not None and shutil.which(path):
        found = subprocess.run([path, "-c", "import torch, cv2, numpy"], capture_output=True, text=True)
        if found.returncode == 0:
            return path
        print(found.stderr[-300:], file=sys.stderr)
    print(f"PyTorch is left out: give its Python with --torch-python; to install it: {INSTALL}", file=sys.stderr)
    return None


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=os.environ.get("KPDETECT_DATA"), help="the data folder")
    parser.add_argument("--spec", help="other faces, as for kpdetect train; drawn faces exclude PyTorch")
    parser.add_argument("--torch-python", metavar="PATH", help="a Python with torch, NumPy and OpenCV")
    parser.add_argument("--networks", default="batchnorm,naimish,compact-112", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="0 measures starts and first epochs only")
    parser.add_argument("--steps", type=int, default=8, help="timed steps per turn")
    parser.add_argument("--starts", type=int, default=3, help="new processes per program, for starts and first epochs")
    options = parser.parse_args()
    if not (options.spec or options.data):
        parser.error("expected the data folder, KPDETECT_DATA or --spec")
    options.torch_python = torch_python(options.torch_python)
    for network in options.networks.split(","):
        measure(network, options.spec or f"youtube-faces:{Path(options.data) / 'youtube_faces'}", options)


if __name__ == "__main__":
    main()
