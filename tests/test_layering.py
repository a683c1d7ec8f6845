"""Checks that a package of `kpdetect` imports only from packages above it in `PACKAGES`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "kpdetect"

PACKAGES = (
    "core",
    "data",
    "models",
    "recipes",
    "detection",
    "visualization",
    "modelfile",
    "measures",
    "filters",
    "inference",
    "tracking",
    "evaluation",
    "training",
    "exporters",
)
"""From the bottom up: a package may import from those before it."""

COMMANDS = (
    "train",
    "tune",
    "evaluate",
    "convert",
    "export",
    "publish",
    "benchmark",
    "show",
    "predict",
    "track",
    "label",
    "web",
    "doctor",
    "__main__",
)
"""Modules at the top; each may import from every package and from no other command."""


def imported(source: str) -> Iterator[str]:
    """The packages and commands of kpdetect that a module imports, also inside its functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "kpdetect":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import"
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kpdetect."))


def forbidden(place: str, source: str) -> list[str]:
    """The imports of a module in `place` (a package or a command) that break the order."""
    own = {place, "__version__"}
    allowed = PACKAGES if place in COMMANDS else PACKAGES[: PACKAGES.index(place)]
    return [name for name in imported(source) if name not in own and name not in allowed]


def place_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def test_the_packages_and_commands_are_those_listed() -> None:
    found = {place_of(file) for file in ROOT.rglob("*.py")}
    assert found - {"__init__"} == {*PACKAGES, *COMMANDS}


def test_every_import_points_down() -> None:
    files = [file for file in ROOT.rglob("*.py") if place_of(file) != "__init__"]
    wrong = {
        str(file.relative_to(ROOT)): names
        for file in files
        if (names := forbidden(place_of(file), file.read_text(encoding="utf-8")))
    }
    assert not wrong


@pytest.mark.parametrize(
    ("place", "source", "wrong"),
    [
        ("core", "from kpdetect.data import load", ["data"]),
        ("data", "from kpdetect.core.errors import KpdetectError", []),
        ("models", "def f():\n    from kpdetect import training", ["training"]),
        ("exporters", "import kpdetect.training.fit", []),
        ("evaluation", "import kpdetect.exporters.onnx", ["exporters"]),
        ("show", "from kpdetect.train import main", ["train"]),
        ("data", "from . import annotations", ["a relative import"]),
    ],
)
def test_a_wrong_import_is_found(place: str, source: str, wrong: list[str]) -> None:
    assert forbidden(place, source) == wrong


def circles(package: str) -> list[list[str]]:
    """Import circles between the modules of a package, counting only imports at the top of a module."""
    graph: dict[str, set[str]] = {}
    for file in (ROOT / package).rglob("*.py"):
        name = ".".join(["kpdetect", *file.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        targets = set()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kpdetect."):
                targets |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        graph[name] = targets - {name}
    modules = {name for name in graph if not is_package(name)}
    return [
        [first, second]
        for first in sorted(modules)
        for second in sorted(graph[first] & modules)
        if first < second and first in reachable(graph, second, modules)
    ]


def is_package(module: str) -> bool:
    return (ROOT.joinpath(*module.split(".")[1:]) / "__init__.py").exists()


def reachable(graph: dict[str, set[str]], start: str, modules: set[str]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph[waiting.pop()] & modules - seen:
            seen.add(target)
            waiting.append(target)
    return seen


@pytest.mark.parametrize("package", PACKAGES)
def test_no_two_modules_of_a_package_import_each_other(package: str) -> None:
    assert circles(package) == []
