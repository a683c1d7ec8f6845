"""Joins the processes that train together, for the duration of a training."""

import contextlib
import os
from collections.abc import Iterator

from kpdetect.recipes import TrainOptions
from kpdetect.training.distributed.processes import Processes, place_of


@contextlib.contextmanager
def joined(options: TrainOptions) -> Iterator[Processes]:
    """Connects to the processes that the options name, and disconnects when the block ends.

    Within the block only process 0 prints. If a process ends, the others end too.

    Raises:
        KpdetectError: The options are incomplete, the processes cannot connect, or one of them ended.
    """
    place = place_of(options)
    if place.count == 1:
        yield Processes(place)
        return
    from kpdetect.training.distributed.jax_processes import connected_processes  # JAX is an extra

    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(connected_processes(place))
        if not place.first:
            silence = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stderr(silence))
            stack.enter_context(contextlib.redirect_stdout(silence))
        yield processes
