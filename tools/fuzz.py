"""Fuzzes what kpdetect reads: labels, pictures, arrays and boxes, model files, command lines.

    python tools/fuzz.py SURFACE --runs N --seed S [--seconds T] [--first I] [--out FOLDER]

Each run makes one input: a valid example that is mutated at random, the same for the same seed and number. A run may
end with a result or with a `KpdetectError`. Failures are any other exception, a crash, a run of more than a minute, and
a process that needs more than 1 GB for one input. Runs happen in a child process; after a crash it is started again.
Failing inputs are written to ``--out``, and the exit status is 1 if there are any.

If atheris is installed, ``--atheris`` runs the surface under its coverage-guided engine in this process instead.
"""

import argparse
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kpdetect.core.errors import KpdetectError
from tools.fuzz_mutations import mutate
from tools.fuzz_surfaces import SURFACES

SECONDS_PER_RUN = 60
MAX_GROWTH_BYTES = 1 << 30  # increase of a process's peak memory by one input
SHOWN_FAILURES = 20


@dataclass
class Outcome:
    """The results of the runs of a surface.

    Attributes:
        runs: Inputs that were tried.
        accepted: Number of inputs that were read without an error.
        failures: Number of the input and what happened.
        peak_bytes: Greatest resident memory of a child process.
        seconds: Duration.
    """

    runs: int = 0
    accepted: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)
    peak_bytes: int = 0
    seconds: float = 0.0

    def summary(self, surface: str, seed: int) -> str:
        """Returns the outcome as a line."""
        kinds = Counter(text.split(":")[0] for _, text in self.failures)
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none"
        return (
            f"{surface}: {self.runs} inputs, seed {seed}: failures: {named}; {self.accepted} accepted, "
            f"{self.runs - self.accepted - len(self.failures)} refused; {self.seconds:.0f} s, "
            f"{self.runs / max(self.seconds, 1e-9):.0f} per second, peak memory {self.peak_bytes / 1e6:.0f} MB"
        )


def example(seeds: list[bytes], seed: int, number: int) -> bytes:
    """Returns input `number` of a seed: the first ones are the valid examples, the others are mutated."""
    if number < len(seeds):
        return seeds[number]
    random = np.random.default_rng((seed, number))
    return mutate(seeds[int(random.integers(len(seeds)))], seeds, random)


def fuzz(
    surface: str, runs: int, seed: int, first: int = 0, out: Path | None = None, seconds: float = math.inf
) -> Outcome:
    """Runs a surface.

    Args:
        surface: A name of `tools.fuzz_surfaces.SURFACES`.
        runs: Number of inputs.
        seed: Seed of the mutations.
        first: Number of the first input, to continue an earlier run.
        out: Folder for failing inputs; None keeps none.
        seconds: No input is begun after this time.
    """
    outcome, start, number = Outcome(), time.monotonic(), first
    context = multiprocessing.get_context("spawn")
    while number < first + runs and time.monotonic() < start + seconds:
        ours, theirs = context.Pipe(duplex=False)
        arguments = (surface, seed, number, first + runs, start + seconds, theirs)
        child = context.Process(target=_work, args=arguments, daemon=True)
        child.start()
        theirs.close()
        number = _follow(ours, child, number, outcome)
        child.kill()
        child.join()
    outcome.seconds = time.monotonic() - start
    if out is not None and outcome.failures:
        with tempfile.TemporaryDirectory() as work:
            seeds = SURFACES[surface].seeds(Path(work))
        out.mkdir(parents=True, exist_ok=True)
        for index, text in outcome.failures:
            (out / f"{surface}-{seed}-{index}").write_bytes(example(seeds, seed, index))
            (out / f"{surface}-{seed}-{index}.txt").write_text(text + "\n", encoding="utf-8")
    return outcome


def _follow(connection: Connection, child: Any, number: int, outcome: Outcome) -> int:
    """Receives what a child reports; returns the number of the next input once the child is to be replaced."""
    current = number
    while True:
        # A child that starts has to import its runtimes, which takes longer than a run.
        if not connection.poll(SECONDS_PER_RUN):
            outcome.failures.append((current, f"hang: more than {SECONDS_PER_RUN} s"))
            return current + 1
        try:
            kind, value = connection.recv()
        except EOFError:
            child.join()
            if child.exitcode == 0:
                return sys.maxsize
            outcome.failures.append((current, f"crash: exit code {child.exitcode}"))
            return current + 1
        if kind == "next":
            current = value
            outcome.runs += 1
        elif kind == "accepted":
            outcome.accepted += value
        elif kind == "peak":
            outcome.peak_bytes = max(outcome.peak_bytes, value)
        else:
            outcome.failures.append((current, value))
            if kind == "memory":
                return current + 1


def _work(surface: str, seed: int, first: int, end: int, deadline: float, connection: Connection) -> None:
    """Main function of the child: reports the number of each input before it runs it."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    folder = Path(tempfile.mkdtemp(prefix="kpdetect-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        chosen = SURFACES[surface]
        seeds = chosen.seeds(folder)
        run = chosen.start(folder)
        peak = _peak_bytes()
        for number in range(first, end):
            if time.monotonic() > deadline:
                return
            connection.send(("next", number))
            try:
                run(example(seeds, seed, number))
                connection.send(("accepted", 1))
            except KpdetectError:
                pass
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(last.filename).name}:{last.lineno}"
                text = " ".join(str(error).split())[:300]
                connection.send(("failure", f"{type(error).__name__}: {where}: {text}\n{traceback.format_exc()}"))
            now = _peak_bytes()
            connection.send(("peak", now))
            if now - peak > MAX_GROWTH_BYTES and number >= first + len(seeds):
                connection.send(("memory", f"memory: {(now - peak) / 1e6:.0f} MB more than before"))
                return
            peak = max(peak, now)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _peak_bytes() -> int:
    from kpdetect.evaluation.latency.memory import peak_memory_bytes

    return peak_memory_bytes() or 0


def _with_atheris(surface: str, runs: int, seed: int) -> None:
    import atheris

    folder = Path(tempfile.mkdtemp(prefix="kpdetect-fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(SURFACES[surface].seeds(folder)):
        (corpus / str(number)).write_bytes(content)
    run = SURFACES[surface].start(folder)

    def attempt(data: bytes) -> None:
        try:
            run(data)
        except KpdetectError:
            return

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-runs={runs}", f"-seed={seed}", str(corpus)], attempt)
    atheris.Fuzz()


def main() -> int:
    """Runs a surface and prints the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("surface", choices=SURFACES, help="what is read")
    parser.add_argument("--runs", type=int, default=1000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no input after this time")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="folder for failing inputs")
    parser.add_argument("--atheris", action="store_true", help="use atheris")
    arguments = parser.parse_args()
    if arguments.atheris:
        _with_atheris(arguments.surface, arguments.runs, arguments.seed)
        return 0
    outcome = fuzz(arguments.surface, arguments.runs, arguments.seed, arguments.first, arguments.out, arguments.seconds)
    print(outcome.summary(arguments.surface, arguments.seed), flush=True)
    for index, text in outcome.failures[:SHOWN_FAILURES]:
        print(f"  input {index}: {text.splitlines()[0]}", flush=True)
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
