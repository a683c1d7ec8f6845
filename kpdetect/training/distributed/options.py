"""Checks of the options for training on several workers. Imports neither Ray nor JAX."""

import importlib.util
import os

from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.keras_backend import JAX, VARIABLE
from kpdetect.recipes import TrainOptions, choose_recipe

PACKAGES = {"ray": "Ray", "pydantic": "Ray Train", "jax": "JAX", "tensorflow": "TensorFlow"}


def check_worker_options(options: TrainOptions) -> dict[str, float]:
    """Checks the options of a training on workers, and that its packages are installed. Imports none of them.

    Returns:
        The resources of each worker, see `read_resources`.

    Raises:
        KpdetectError: An option is out of range, or does not go with ``--workers``.
        MissingExtra: A package of the extra ``ray`` is missing.
    """
    resources = read_resources(options.resources_per_worker)
    workers = options.workers or 0
    if workers < 1:
        raise KpdetectError(f"--workers: expected 1 or more, received {workers}")
    if options.max_failures < 0:
        raise KpdetectError(f"--max-failures: expected 0 or more, received {options.max_failures}")
    backend = options.backend or os.environ.get(VARIABLE, JAX)
    if backend != JAX:
        raise KpdetectError(
            f"--workers: workers train with Keras on JAX, and the backend is {backend}: add --backend jax"
        )
    size = choose_recipe(options).batch_size
    if size % workers:
        raise KpdetectError(
            f"--workers {workers}: expected a --batch-size that the workers share evenly, received {size}; "
            f"--batch-size {max(1, round(size / workers)) * workers} works"
        )
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(package, "ray", "training with --workers")
    return resources


def read_resources(words: tuple[str, ...]) -> dict[str, float]:
    """The resources of each worker; one core unless ``CPU`` is among them.

    >>> read_resources(("GPU=1", "CPU=4"))
    {'CPU': 4.0, 'GPU': 1.0}

    Args:
        words: ``NAME=NUMBER``, with Ray's names: ``CPU``, ``GPU`` and those that a cluster defines.

    Raises:
        KpdetectError: A word has another form, or a negative number.
    """
    resources = {"CPU": 1.0}
    for word in words:
        name, _, number = word.partition("=")
        try:
            resources[name] = float(number)
        except ValueError:
            resources[name] = -1.0
        if not name or not 0 <= resources[name] < float("inf"):
            raise KpdetectError(f"--resources-per-worker: expected NAME=NUMBER such as CPU=2,GPU=1, received '{word}'")
    return resources
