"""The surfaces of ``tools/fuzz.py``: for each kind of input its valid examples, and the function that reads one."""

import contextlib
import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kpdetect.core.errors import KpdetectError

ROOT = Path(__file__).resolve().parents[1]
SEEDS = ROOT / "tests" / "fuzz_seeds"

Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Surface:
    """A kind of input.

    Attributes:
        description: What it is.
        seeds: Returns valid examples; it may write to the folder.
        start: Prepares the folder and returns the function that reads an input.
    """

    description: str
    seeds: Callable[[Path], list[bytes]]
    start: Callable[[Path], Run]


# --- labels -----------------------------------------------------------------------------------------------------------

READERS = (
    ("csv", "faces.csv", "csv:{folder}/faces.csv"),
    ("ibug", "labels/face.pts", "ibug:{folder}/labels"),
    ("ibug", "labels.xml", "ibug:{folder}/labels.xml"),
    ("dlib", "points.xml", "dlib:{folder}/points.xml"),
    ("pts", "points/face.pts", "pts:{folder}/points"),
    ("imm", "imm/07-3f.asf", "imm:{folder}/imm"),
    ("youtube-faces", "frames/training_frames_keypoints.csv", "youtube-faces:{folder}/frames"),
    ("coco", "coco.json", "coco:{folder}/coco.json"),
    ("yolo", "yolo/data.yaml", "yolo:{folder}/yolo/data.yaml"),
    ("yolo", "yolo/labels/face.txt", "yolo:{folder}/yolo/sound.yaml"),
    ("cvat", "cvat.xml", "cvat:{folder}/cvat.xml"),
    ("labelme", "labelme/face.json", "labelme:{folder}/labelme"),
    ("label-studio", "studio.json", "label-studio:{folder}/studio.json"),
    ("kaggle", "kaggle.csv", "kaggle:{folder}/kaggle.csv"),
    ("wflw", "wflw.txt", "wflw:{folder}/wflw.txt"),
    ("detected", "any.csv", "{folder}/any.csv"),
    ("300w-lp", "matlab/face.mat", "300w-lp:{folder}/matlab"),
)
YOLO = "path: .\ntrain: images\nval: images\nkpt_shape: [3, 3]\nnames: {0: face}\nflip_idx: [1, 0, 2]\n"
YOLO_FACE = "0 0.5 0.5 0.4 0.4 0.6 0.4 2 0.4 0.4 2 0.5 0.6 1\n"
"""Kind, the file that is fuzzed, and the SPEC."""


def _label_seeds(folder: Path) -> list[bytes]:
    points = [(10 + 3 * (i % 12), 8 + 5 * (i // 12)) for i in range(68)]
    header = "image,left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y\n"
    csv = header + "face.png,30,12,12,12,20,20.5\nface.png,31,13,12,14,21,21\n"
    csv_boxes = "image,x0,y0,x1,y1,a_x,a_y,b_x,b_y\nface.png,5,5,40,50,10,11,12,13\n"
    rows = "\n".join(f"{x}.5 {y}.25" for x, y in points)
    pts = f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n"
    pts5 = "version: 1\nn_points: 5\n{\n1 2\n3 4\n5 6\n7 8\n9 10\n}\n"
    parts = "".join(f"<part name='{i:02d}' x='{x}' y='{y}'/>" for i, (x, y) in enumerate(points))
    box = "<box top='4' left='6' width='40' height='44'>"
    xml = f"<dataset><images><image file='face.png'>{box}{parts}</box></image></images></dataset>"
    parts = "<part name='a' x='10' y='12'/><part name='b' x='20' y='12'/><part name='c' x='15' y='20'/>"
    xml2 = f"<?xml version='1.0'?><dataset><images><image file='face.png'>{box}{parts}</box></image></images></dataset>"
    asf_rows = "\n".join(f"0 4 {0.1 + 0.01 * i:.4f} {0.9 - 0.01 * i:.4f} {i} 0 1" for i in range(58))
    asf = f"# AAM Shape File\n\n58\n\n{asf_rows}\n\n07-3f.jpg\n"
    frames = "," + ",".join(str(i) for i in range(136)) + "\nAda_Lovelace_10.jpg,"
    frames += ",".join(f"{value}.0" for point in points for value in point) + "\n"
    names = ("left_eye", "right_eye", "nose")
    category = {"id": 1, "name": "face", "keypoints": names, "skeleton": [[1, 3], [2, 3]]}
    annotation = {"id": 1, "image_id": 7, "category_id": 1, "keypoints": [30, 12, 2, 12, 12, 1, 20, 20, 2]}
    annotation["bbox"] = [5, 5, 40, 50]
    images = [{"id": 7, "file_name": "face.png", "width": 48, "height": 64}]
    coco = json.dumps({"images": images, "annotations": [annotation], "categories": [category]})
    shape = "<points label='face' points='30.5,12.5;12.5,12.5;20,20'/>"
    skeleton = "<skeleton label='face'><points label='left_eye' outside='0' points='30,12'/></skeleton>"
    image = f"<image id='0' name='face.png' width='48' height='64'>{shape}{skeleton}</image>"
    cvat = f"<annotations><version>1.1</version>{image}</annotations>"
    marks = [
        {"label": name, "points": [[9 + 7 * (i % 2), 8 + 9 * i]], "shape_type": "point", "group_id": 1}
        for i, name in enumerate(names)
    ]
    labelme = json.dumps({"imagePath": "face.png", "shapes": marks, "imageData": None})
    mark = {"type": "keypointlabels", "original_width": 48, "original_height": 64}
    mark["value"] = {"x": 50, "y": 25, "width": 0.5, "keypointlabels": ["nose"]}
    studio = json.dumps([{"id": 5, "data": {"image": "face.png"}, "annotations": [{"result": [mark]}]}])
    kaggle = "left_eye_center_x,left_eye_center_y,nose_tip_x,nose_tip_y,Image\n60.5,30,,,"
    kaggle += " ".join(["7"] * 96 * 96) + "\n"
    wflw = " ".join(f"{10 + i % 30} {8 + i // 5}" for i in range(98)) + " 5 5 45 60 0 0 0 0 0 0 face.png\n"
    texts = [csv, csv_boxes, pts, xml, xml2, pts5, asf, frames]
    texts += [coco, YOLO, YOLO_FACE, cvat, labelme, studio, kaggle, wflw, csv]
    kinds = [0, 0, 1, 2, 3, 4, 5, 6, *range(7, 16)]
    seeds = [bytes([kind]) + text.encode() for kind, text in zip(kinds, texts, strict=True)]
    return [*seeds, bytes([len(READERS) - 1]) + _matlab(np.array(points, np.float64).T)]


def _matlab(points: np.ndarray) -> bytes:
    """A MATLAB file of version 5 with the array ``pt2d``, which is compressed."""
    data = points.tobytes(order="F")
    matrix = struct.pack("<8I", 6, 8, 6, 0, 5, 8, *points.shape)  # flags (class double) and dimensions
    matrix += struct.pack("<HH4sII", 1, 4, b"pt2d", 9, len(data)) + data
    variable = zlib.compress(struct.pack("<II", 14, len(matrix)) + matrix)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    return header + struct.pack("<II", 15, len(variable)) + variable


def _start_labels(folder: Path) -> Run:
    from kpdetect.core.images import write_image
    from kpdetect.data import load

    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    places = ("face.png", "labels/face.png", "points/face.png", "imm/07-3f.jpg", "yolo/images/face.png")
    for name in (*places, "labelme/face.png", "matlab/face.png"):
        write_image(folder / name, picture)
    for name, text in (("sound.yaml", YOLO), ("data.yaml", YOLO), ("labels/face.txt", YOLO_FACE)):
        (folder / "yolo" / name).parent.mkdir(exist_ok=True)
        (folder / "yolo" / name).write_text(text, encoding="utf-8")
    write_image(folder / "frames" / "training" / "Ada_Lovelace_10.jpg", picture)

    def run(data: bytes) -> None:
        if not data:
            return
        _, name, spec = READERS[data[0] % len(READERS)]
        (folder / "yolo" / "labels" / "face.txt").write_text(YOLO_FACE, encoding="utf-8")
        (folder / name).write_bytes(data[1:])
        faces = load(spec.format(folder=folder), skip_bad_rows=bool(data[0] & 128))
        if not np.isfinite(faces.keypoints[faces.visible]).all() or not np.isfinite(faces.boxes).all():
            raise AssertionError("a point or a box that is not finite")
        faces.read(str(faces.paths[0]))

    return run


# --- pictures ---------------------------------------------------------------------------------------------------------

SUFFIXES = (".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff", ".ppm", ".avif")


def _picture_seeds(folder: Path) -> list[bytes]:
    from kpdetect.core.images import cv2

    y, x = np.mgrid[0:40, 0:56]
    picture = np.stack([4 * x, 6 * y, 255 - 3 * x - y], axis=-1).clip(0, 255).astype(np.uint8)
    seeds = []
    for kind, suffix in enumerate(SUFFIXES):
        for version in (
            picture,
            picture[..., 0],
            np.dstack([picture, picture[..., :1]]),
            picture.astype(np.uint16) * 200,
        ):
            with contextlib.suppress(Exception):  # not every format has every kind of pixel
                made, encoded = cv2.imencode(suffix, version)
                if made:
                    seeds.append(bytes([kind]) + encoded.tobytes())
    jpeg = seeds[0][1:]
    tag = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    exif = b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag
    return [*seeds, bytes([0]) + jpeg[:2] + exif + jpeg[2:]]


def _start_pictures(folder: Path) -> Run:
    from kpdetect.core.images import read_image

    def run(data: bytes) -> None:
        if not data:
            return
        file = folder / f"picture{SUFFIXES[data[0] % len(SUFFIXES)]}"
        file.write_bytes(data[1:])
        picture = read_image(file)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise AssertionError(f"a picture of {picture.dtype} and shape {picture.shape}")

    return run


# --- arrays and boxes -------------------------------------------------------------------------------------------------

DTYPES = ("u1", "f4", "f8", "i2", "u2", "i8", "?", "f2", "c8", "O", "S3", "M8[s]")
SHAPES = (
    (48, 40, 3),
    (48, 40),
    (48, 40, 1),
    (48, 40, 4),
    (1, 1, 3),
    (0, 40, 3),
    (48, 0, 3),
    (3, 48, 40),
    (2, 3, 4, 5),
    (),
)
BOX_VALUES = (0.0, 5.5, 20.0, 39.0, 48.0, -10.0, 1e4, 1e9, 1e30, 1e300, np.inf, -np.inf, np.nan, 1e-30, -0.5, 2.0**31)


def _array_seeds(folder: Path) -> list[bytes]:
    random = np.random.default_rng(0)
    return [random.bytes(40) for _ in range(64)]


def _start_arrays(folder: Path) -> Run:
    from kpdetect import Predictor

    predictor = Predictor()

    def run(data: bytes) -> None:
        random = np.random.default_rng(list(data) or [0])
        head = (data + bytes(40))[:40]
        dtype = DTYPES[head[1] % len(DTYPES)] if head[2] < 128 else "u1"
        shape = SHAPES[head[3] % len(SHAPES)] if head[4] < 128 else (48, 40, 3)
        image: Any = random.integers(0, 256, shape).astype(np.uint8)
        with np.errstate(all="ignore"):
            image = (image.view("S1") if dtype == "S3" and shape else image).astype(dtype)
        if dtype in ("f4", "f8") and head[5] < 64 and image.size:
            image.flat[head[6] % image.size] = BOX_VALUES[head[7] % len(BOX_VALUES)]
        if head[8] < 16:
            image = image[::-1, ::2] if image.ndim > 1 else image
        count = head[9] % 4
        values = [
            BOX_VALUES[byte % len(BOX_VALUES)] if byte < 128 else float(byte % 48) for byte in head[10 : 10 + 4 * count]
        ]
        boxes: Any = np.reshape(values, (count, 4)).astype(("f8", "f4")[head[30] % 2] if head[31] < 200 else "O")
        if head[32] < 20:
            boxes = boxes.ravel() if head[33] < 128 else [[1, 2], [3]]
        chosen = boxes if head[34] < 200 else None
        faces = predictor(image, boxes=chosen, bgr=bool(head[35] & 1))
        for face in faces:
            if face.keypoints.shape != (68, 2) or not np.isfinite(face.keypoints).all():
                raise AssertionError(f"keypoints of shape {face.keypoints.shape}, or not finite")

    return run


# --- model files ------------------------------------------------------------------------------------------------------

MODEL_KINDS = ("a.tflite", "a.onnx", "spec.json", "zip")


def _model_seeds(folder: Path) -> list[bytes]:
    """Small files; in those of the package, most bytes are weights, whose changes have little effect."""
    spec = (SEEDS / "spec.json").read_bytes()
    seeds = [bytes([2]) + spec, bytes([3]) + _zipped(spec)]
    for file in sorted(SEEDS.iterdir()):
        if file.suffix in (".tflite", ".onnx"):
            seeds += [bytes([0 if file.suffix == ".tflite" else 1]) + file.read_bytes()] * 4
    return seeds


def _zipped(spec: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("spec.json", spec)
    return held.getvalue()


def _start_models(folder: Path) -> Run:
    from kpdetect.modelfile import runtime
    from kpdetect.modelfile.bundle import read_spec

    (folder / "bundle").mkdir(exist_ok=True)

    def run(data: bytes) -> None:
        if not data:
            return
        kind = MODEL_KINDS[data[0] % len(MODEL_KINDS)]
        if kind == "spec.json":
            (folder / "bundle" / kind).write_bytes(data[1:])
            read_spec(folder / "bundle")
            return
        if kind == "zip":
            graph = next(file for file in sorted(SEEDS.iterdir()) if file.suffix == ".tflite").read_bytes()
            (folder / "a.tflite").write_bytes(graph[: graph.index(b"PK\x03\x04")] + data[1:])
            runtime.load(folder / "a.tflite")
            return
        (folder / kind).write_bytes(data[1:])
        model = runtime.load(folder / kind)
        for count in (1, 2):
            model.predict(np.full((count, *model.spec.input_shape), 100, np.uint8))

    return run


# --- command lines ----------------------------------------------------------------------------------------------------

VOCABULARY = (
    "predict", "show", "export", "evaluate", "benchmark", "track", "train", "tune", "label", "--help", "--version",
    "face.png", "absent.jpg", ".", "faces.csv", "csv:faces.csv", "synthetic:2", "synthetic:-1", "ibug:", "nothing:x",
    "--json", "out.json", "-", "--csv", "out.csv", "--draw", "drawn.png", "drawn.gif", "--model", "compact", "compct",
    "--min-score", "0.5", "-1", "nan", "1e309", "--threads", "0", "1", "9" * 30, "--detector", "haar", "--filter",
    "hat", "hat,hat", "--measures", "--mirror", "--no-mirror", "--crop-faces", "crops", "--data", "--boxes", "truth",
    "--split", "val", "--no-box-jitter", "--inspect", "spec.json", "--out", "new", "keypoints", "models", "scheme",
    "curves", "--count", "--scheme", "ibug68", "--recipe", "compact-112", "--epochs", "--batch-size", "--seed",
    "--learning-rate", "--resume", "--set", "augmentation.scale=2", "--init-from", "--formats", "tflite", "--quantize",
    "int8", "--name", "--max-megapixels", "1e-9", "--skip-bad-rows", "", "\udcff", "\x1b[2J", "a" * 300, "--", "--=",
)  # fmt: skip
EXAMPLES = (
    "predict\0face.png\0--json\0out.json", "predict\0face.png\0--draw\0drawn.png", "predict\0.\0--csv\0out.csv",
    "predict\0--data\0csv:faces.csv\0--json\0-", "show\0models", "show\0scheme\0--scheme\0ibug68\0--out\0drawn.png",
    "show\0keypoints\0--data\0csv:faces.csv\0--out\0drawn.png", "export\0--inspect\0compact",
    "evaluate\0compact\0--data\0synthetic:2\0--no-box-jitter\0--json\0out.json", "train\0--recipe\0compact-112",
    "tune\0--recipe\0compact-112", "label\0.\0--out\0new", "track\0face.png\0--json\0out.json",
    "benchmark\0--runs\0000",
)  # fmt: skip
PARSED_ONLY = ("train", "tune", "label", "track", "benchmark", "export")
"""Commands whose options are only parsed: they take minutes, start processes or open cameras."""


def _command_seeds(folder: Path) -> list[bytes]:
    return [b"\0" + text.encode("utf-8", "surrogateescape") for text in EXAMPLES]


def _start_commands(folder: Path) -> Run:
    import importlib

    from kpdetect.__main__ import COMMANDS
    from kpdetect.core.images import write_image
    from kpdetect.core.options import parse_options, run_command
    from kpdetect.data import synthetic

    os.chdir(folder)
    picture, points = synthetic.render(seed=5, index=0, size=96)
    header = "image," + ",".join(f"p{i}_x,p{i}_y" for i in range(3))
    row = "face.png," + ",".join(f"{value:.2f}" for value in points[:3].ravel())

    def options_of(command: str) -> Any:
        module = importlib.import_module(f"kpdetect.{command}")
        found = [each for name, each in vars(module).items() if name.lower() == f"{command}options"]
        return found[0] if found else None

    def execute(words: list[str]) -> int:
        if words and words[0] in PARSED_ONLY and "--inspect" not in words:
            options = options_of(words[0])
            if options is None:
                return 0
            parse_options(options, words[1:], words[0], "")
            return 0
        return int(importlib.import_module("kpdetect.__main__").main(words))

    def run(data: bytes) -> None:
        # Mutated words, like those of the vocabulary, are never paths outside the folder.
        random = np.random.default_rng(list(data[-64:]) or [0])
        words = [word.decode("utf-8", "surrogateescape").replace("/", "_") for word in data[1:].split(b"\0")][:30]
        for _ in range(int(random.integers(0, 4))):
            place, word = int(random.integers(len(words) + 1)), VOCABULARY[int(random.integers(len(VOCABULARY)))]
            words[place : place + int(random.integers(0, 2))] = [word]
        words = ["_" if word.startswith(("..", "~")) else word for word in words]
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        write_image(folder / "face.png", picture)
        (folder / "faces.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
        silent = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            try:
                status = run_command(lambda argv: execute(words))
            except SystemExit as stop:  # argparse exits
                status = stop.code if isinstance(stop.code, int) else 1
        if status not in (0, 1, 2, 3):
            raise AssertionError(f"status {status}")
        if status:
            raise KpdetectError(f"status {status}")

    assert "predict" in COMMANDS
    return run


SURFACES = {
    "labels": Surface("files of labelled faces", _label_seeds, _start_labels),
    "pictures": Surface("encoded pictures", _picture_seeds, _start_pictures),
    "arrays": Surface("arrays and boxes given to a predictor", _array_seeds, _start_arrays),
    "models": Surface("model files, run with one and two crops", _model_seeds, _start_models),
    "commands": Surface("command lines", _command_seeds, _start_commands),
}


def describe() -> str:
    """Returns the surfaces as JSON, for documents."""
    return json.dumps({name: surface.description for name, surface in SURFACES.items()}, indent=1)
