"""The house: a module imports only from floors below its own (the rooms of one package may speak to each other)."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "kpdetect"

FLOORS = {
    "errors": 0,
    "schema": 0,
    "geometry": 0,
    "atomic": 0,
    "stopping": 0,
    "keras_backend": 0,
    "cli": 0,
    "shipped": 0,
    "images": 0,
    "models": 0,
    "losses": 0,
    "wording": 0,
    "spec": 1,
    "metrics": 1,
    "metrics_keras": 1,
    "faces": 1,
    "measures": 2,
    "datasets": 1,
    "transforms": 1,
    "crops": 2,
    "pipeline": 3,
    "finding": 3,
    "bundle": 2,
    "draw": 2,
    "filters": 2,
    "results": 2,
    "web_page": 2,
    "recipes": 2,
    "runtime": 3,
    "converters": 4,
    "scoring": 3,
    "uncertainty": 4,
    "breakdown": 4,
    "end_to_end": 4,
    "reporting": 4,
    "marking": 4,
    "predict": 5,
    "tracking": 4,
    "track": 6,
    "labelling": 6,
    "label": 7,
    "comparing": 5,
    "representative": 5,
    "inspecting": 5,
    "export": 6,
    "training": 5,
    "evaluate": 6,
    "timing": 4,
    "benchmark": 5,
    "train": 6,
    "tuning": 6,
    "exhibits": 7,
    "tune": 7,
    "show": 8,
    "__main__": 9,
}
# Floor 0 has a cellar: what even its own rooms may use.
CELLAR = {"errors", "schema", "geometry", "atomic", "cli", "shipped"}


def rooms_imported_by(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kpdetect"):
            parts = node.module.split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kpdetect.")}
    return rooms - {"__version__"}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(file) for file in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(FLOORS)


def test_no_import_points_up() -> None:
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        here = room_of(file)
        for room in rooms_imported_by(file) - {here}:
            allowed = FLOORS[room] < FLOORS[here] or (room in CELLAR and here not in CELLAR) or room == "errors"
            if not allowed:
                wrong.append(f"{file.name} (floor {FLOORS[here]}) imports {room} (floor {FLOORS[room]})")
    assert not wrong
