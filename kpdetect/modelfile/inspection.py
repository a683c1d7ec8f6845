"""Description of a model file as text, a drawing of its points, and the table of packaged models."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kpdetect import visualization
from kpdetect.core.geometry import to_pixels
from kpdetect.core.options import quietly
from kpdetect.data import synthetic, with_image_boxes
from kpdetect.data.crops import evaluation_crops
from kpdetect.modelfile import runtime
from kpdetect.modelfile.bundle import model_kind, read_spec
from kpdetect.modelfile.graphs import Graph, Signature, read_graph
from kpdetect.modelfile.registry import SHIPPED_MODELS, PathLike, ShippedModel, resolve
from kpdetect.modelfile.spec import OUTPUT_NAME, RANGES_FROM, Spec
from kpdetect.modelfile.spec_text import (
    FACE_SCORE_TEXT,
    SCORE_TEXT,
    UNCERTAINTY_TEXT,
    VISIBILITY_TEXT,
    describe_crop,
    describe_input,
    describe_output,
)

WIDTH, INDENT = 110, 17  # characters
DRAWN_FACES = 64  # enough for a stable median

KIND_NAMES = {
    "bundle": "bundle",
    "saved_model": "SavedModel",
    "tflite": "TFLite",
    "onnx": "ONNX",
    "keras": "Keras file",
}


def description(path: PathLike) -> str:
    """Returns the contents of a model file's spec and graph as text.

    Args:
        path: A bundle or SavedModel folder, a ``.tflite``, ``.onnx`` or ``.keras`` file, or the name of a packaged
            model.

    Raises:
        KpdetectError: It is no model, or has no spec.
        MissingExtra: The file needs a package that is not installed.
    """
    place = resolve(path)
    kind, spec = model_kind(place), read_spec(place)
    with quietly(f"reading {path}"):
        graph = read_graph(place, kind, spec)
    lines = [f"{path}: {KIND_NAMES[kind]}, {runtime.size_of(place)} bytes"]
    for title, text in [*_spec_rows(spec), *_file_rows(spec), *_graph_rows(graph)]:
        lines.append(textwrap.fill(text, WIDTH, initial_indent=title.ljust(INDENT), subsequent_indent=" " * INDENT))
    return "\n".join(lines)


def shipped_models_table() -> str:
    """Returns a table of the packaged models: name, alias, points, input, bytes of the file that runs, and error."""
    header = ("name", "alias", "points", "input", "bytes", "error")
    rows = [header, *(_shipped_row(shipped) for shipped in SHIPPED_MODELS)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _shipped_row(shipped: ShippedModel) -> tuple[str, ...]:
    spec = read_spec(shipped.path)
    file = next(name for name in spec.files if name.endswith(".tflite"))
    height, width, _ = spec.input_shape
    color = "grey" if spec.channels == 1 else "RGB"
    error = _error_text(spec.errors[0]) if spec.errors else "-"
    size = str(spec.files[file]["bytes"])
    return shipped.name, shipped.alias, str(spec.num_keypoints), f"{height}x{width} {color}", size, error


def draw_points(path: PathLike, target: PathLike) -> None:
    """Draws a model's numbered points: the median of its predictions for synthetic faces.

    Args:
        path: The model.
        target: The picture; its suffix selects the format.

    Raises:
        KpdetectError: The model cannot run, or the picture cannot be written.
        MissingExtra: Matplotlib or the model's runtime is not installed.
    """
    visualization.check_target(target)
    with quietly(f"loading {path}"):
        model = runtime.load(path)
        faces = synthetic.annotations(DRAWN_FACES)
        seen = with_image_boxes(faces) if model.spec.crop.around == "image" else faces
        crops, _, _ = evaluation_crops(seen, model.spec.crop, model.spec.channels)
        layout = np.median(to_pixels(model(crops), model.spec.crop.size_hw), axis=0)
    visualization.scheme_page(layout, model.spec.schema, target)


def _spec_rows(spec: Spec) -> Iterator[tuple[str, str]]:
    name = spec.extra.get("name") or spec.recipe or "unnamed"
    yield (
        "model",
        f"{name}; architecture {spec.architecture}, recipe {spec.recipe or '-'}, kpdetect {spec.kpdetect_version}",
    )
    yield "points", _points_text(spec)
    yield "input", describe_input(spec.channels, spec.input_dtype)
    yield "crop", describe_crop(spec.crop)
    yield OUTPUT_NAME, describe_output(spec.crop)
    if spec.uncertainty:
        yield "uncertainty", UNCERTAINTY_TEXT
    if spec.score:
        yield "score", SCORE_TEXT
    if spec.visibility:
        yield "visibility", VISIBILITY_TEXT
    if spec.face_score is not None and not spec.score:
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in spec.face_score.items())
        yield "face score", f"{FACE_SCORE_TEXT} Here {numbers}."
    yield "trained on", ", ".join(spec.data) or "not recorded"
    yield "terms", spec.terms or "not recorded"
    if RANGES_FROM in spec.extra:
        ranges = spec.extra[RANGES_FROM]
        yield "calibration", f"integer ranges from {ranges['faces']} faces of {ranges['data']}"
    for row in spec.errors:
        yield "error", _error_text(row)


def _points_text(spec: Spec) -> str:
    schema = spec.schema
    parts = [f"{name} {_ranges(part)}" for name, part in (schema.regions or schema.groups).items()]
    swap = "a mirrored picture swaps left and right" if schema.flip_permutation else "no flip permutation"
    listed = ", ".join(parts or [f"{number} {name}" for number, name in enumerate(schema.point_names)])
    return f"{schema.num_keypoints} of scheme {schema.name}, numbered from 0: {listed}; {swap}"


def _ranges(numbers: Sequence[int]) -> str:
    """Joins runs of whole numbers.

    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    starts = [i for i, number in enumerate(numbers) if i == 0 or number != numbers[i - 1] + 1]
    runs = zip(starts, [*starts[1:], len(numbers)], strict=True)
    return ", ".join(
        str(numbers[start]) if end == start + 1 else f"{numbers[start]}-{numbers[end - 1]}" for start, end in runs
    )


def _error_text(row: Mapping[str, object]) -> str:
    measured = f"NME {row['nme']:.2f} % " if isinstance(row.get("nme"), float) else ""
    file = f", file {row['file']}" if row.get("file") else ""
    return (
        f"{measured}({row['normaliser']}) on {row['n']} faces of {row['dataset']}, {row['split']}, boxes: "
        f"{row['boxes']}{file}"
    )


def _file_rows(spec: Spec) -> Iterator[tuple[str, str]]:
    """Describes the other files of a bundle."""
    for name, record in spec.files.items():
        greatest, mean = record["max_difference_px"], record.get("mean_difference_px")
        off = "" if greatest is None else f", difference from Keras {greatest:.2g} px at most"
        batch = f", batch of {record['batch']}" if "batch" in record else ""
        mean_off = "" if mean is None else f", {mean:.2g} px mean"
        yield "file", f"{name}: {record['bytes']} bytes{batch}{off}{mean_off}"


def _graph_rows(graph: Graph) -> Iterator[tuple[str, str]]:
    for signature in graph.signatures:
        yield signature.name or "tensors", _signature_text(signature)
    if graph.ops:
        yield "ops", f"{sum(graph.ops.values())}: {_counts(graph.ops)}"
    if graph.not_xnnpack is not None:
        yield "XNNPACK", f"all ops but {_counts(graph.not_xnnpack)}" if graph.not_xnnpack else "all ops"


def _signature_text(signature: Signature) -> str:
    before, after = (", ".join(map(str, part)) for part in (signature.inputs, signature.outputs))
    return f"{before} -> {after}"


def _counts(ops: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(ops.items()))
