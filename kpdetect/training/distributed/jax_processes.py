"""Training in several processes on JAX: how they connect, share files and stop together."""

import contextlib
import json
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import ray
from ray.train.collective import barrier, broadcast_from_rank_zero

from kpdetect.core.errors import KpdetectError
from kpdetect.training.distributed.processes import Place, Processes

STEPS_BETWEEN_QUESTIONS = 5
"""Steps between two exchanges about signals, each of which takes a few milliseconds."""


class JaxProcesses(Processes):
    """Several processes that train together on JAX, as workers of Ray Train.

    Args:
        place: The place of this process.
        caller: Handle of the actor `kpdetect.training.distributed.caller.Caller`.
        folder: Folder for copies of the files of process 0.
    """

    def __init__(self, place: Place, caller: Any, folder: Path) -> None:
        super().__init__(place)
        self.caller, self.folder = caller, folder

    def run_started(self) -> None:
        """See `Processes.run_started`."""
        ray.get(self.caller.run_started.remote())

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """See `Processes.check_same`."""
        barrier()  # without a time limit, which JAX' collectives have: decoding all faces may take long
        first = json.loads(self._broadcast(json.dumps(settings).encode()))
        own = json.loads(json.dumps(settings))
        if differing := [name for name, value in first.items() if own.get(name) != value]:
            listed = "; ".join(f"{name}: {own.get(name)!r}, not {first[name]!r}" for name in differing)
            raise KpdetectError(
                f"{self.place}, on {socket.gethostname()}, has other settings than process 0: {listed}; each machine "
                "needs the same kpdetect, Keras and data"
            )

    def shared_file(self, file: Path | None) -> Path | None:
        """See `Processes.shared_file`."""
        content = self._broadcast(b"" if file is None else file.read_bytes())
        if self.place.first or not content:
            return file
        copy = self.folder / "copy.npz"
        copy.write_bytes(content)
        return copy

    def agreed(self, stopped: Callable[[], int], steps_done: Callable[[], int]) -> Callable[[], int]:
        """See `Processes.agreed`.

        Workers receive no signals: process 0 asks the command for its signal after every `STEPS_BETWEEN_QUESTIONS`
        steps of the training, and sends it to the others.
        """
        asked_at, number = -1, 0
        if self.place.first:
            ray.get(self.caller.training_started.remote())

        def agreed_signal() -> int:
            nonlocal asked_at, number
            here = steps_done()
            if not number and here != asked_at and here % STEPS_BETWEEN_QUESTIONS == 0:
                asked_at = here
                number = self._signal_of_caller()
            return number

        return agreed_signal

    def _signal_of_caller(self) -> int:
        own = ray.get(self.caller.signal_number.remote()) if self.place.first else 0
        return int(_from_first(np.array(own)))

    def _broadcast(self, content: bytes) -> bytes:
        """The bytes of process 0, sent over the connections that carry the gradients."""
        size = int(_from_first(np.array(len(content))))
        padded = np.frombuffer(content if self.place.first else bytes(size), np.uint8)
        return np.asarray(_from_first(padded), np.uint8).tobytes() if size else b""


def _from_first(array: Any) -> Any:
    """An array of process 0, in all processes."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return broadcast_one_to_all(array)


@contextlib.contextmanager
def connected(place: Place, caller: Any) -> Iterator[JaxProcesses]:
    """Connects the workers of Ray Train for JAX. Must be called before JAX computes anything.

    Ray Train's own `JaxTrainer` does so only on GPUs and TPUs.

    Args:
        place: The place of this process.
        caller: See `JaxProcesses`.
    """
    address = broadcast_from_rank_zero(_free_address() if place.first else "")
    if place.count > 1:
        # JAX' service would listen on all networks of the machine.
        jax.distributed.initialize(address, place.count, place.number, coordinator_bind_address=address)
    with tempfile.TemporaryDirectory() as folder:
        yield JaxProcesses(place, caller, Path(folder))


def _free_address() -> str:
    """``HOST:PORT`` of this machine, as Ray's workers reach it, with a port that nobody uses."""
    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
