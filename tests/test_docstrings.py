"""Every name that a package exports has a docstring with an example."""

import importlib
import inspect
import pkgutil

import pytest

import kpdetect

DESCRIBED_BY_HELP = {"TrainOptions", "TrackOptions"}
"""Options of commands: their docstring is printed by ``--help``, which has an example of its own."""


def packages() -> list[str]:
    found = pkgutil.walk_packages(kpdetect.__path__, "kpdetect.")
    return ["kpdetect", *(module.name for module in found if module.ispkg and not module.name.startswith("kpdetect._"))]


@pytest.mark.parametrize("package", packages())
def test_exported_classes_and_functions_have_an_example(package: str) -> None:
    module = importlib.import_module(package)
    without = [
        name
        for name in getattr(module, "__all__", ())
        if (inspect.isclass(thing := getattr(module, name)) or inspect.isfunction(thing))
        and thing.__module__.startswith("kpdetect.")  # not an alias of another library's class
        and name not in DESCRIBED_BY_HELP
        and not any(mark in (inspect.getdoc(thing) or "") for mark in ("xample", ">>>", "```"))
    ]
    assert not without
