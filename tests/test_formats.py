"""Label formats of other tools: pixel conventions, round trips and errors with positions."""

import contextlib
import dataclasses
import json
import os
import struct
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpdetect import Face, convert, read_results, to_dataframe
from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.images import write_image
from kpdetect.core.schema import IBUG68, KAGGLE15, WFLW98, user_schema
from kpdetect.data import Annotations, load, load_sets, read_coco, read_kaggle, read_wflw, synthetic, write
from kpdetect.data.detect_kind import detect_kind
from kpdetect.data.readers.matlab import DamagedMatlabFile, read_matlab
from kpdetect.data.sources import check_spec
from kpdetect.evaluation.results import read_rows

NAMES = ("left_eye", "right_eye", "nose")
POINTS = [[70, 30], [40, 31], [55.5, 50.25]]
SIZE_HW = (100, 120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "faces" / name, np.zeros((*SIZE_HW, 3), np.uint8))
    return tmp_path


def put(folder: Path, name: str, text: str | bytes) -> str:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


def problems_of(spec: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(spec)
    return list(caught.value.problems)


def two_faces(folder: Path) -> Annotations:
    """Two faces, one of them with a point that is not labelled."""
    rows = ["image,left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y,subject,box_x0,box_y0,box_x1,box_y1"]
    rows += [
        "faces/a.png,70,30,40,31,55.5,50.25,ann,30.5,20,80,60",
        "faces/b.png,71,33,42.125,31,,,bob,42.125,31,71,33",
    ]
    return load(f"csv:{put(folder, 'two.csv', chr(10).join(rows))}")


def coco(**changes: object) -> str:
    document = {
        "images": [{"id": 7, "file_name": "a.png", "width": 120, "height": 100}],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 2,
                "keypoints": [70, 30, 2, 40, 31, 1, 0, 0, 0],
                "bbox": [35, 25, 40, 20],
            }
        ],
        "categories": [
            {"id": 1, "name": "dog"},
            {"id": 2, "name": "face", "keypoints": list(NAMES), "skeleton": [[1, 3], [2, 3]]},
        ],
    }
    return json.dumps(document | changes)


class TestCoco:
    def test_names_skeleton_visibility_and_several_faces(self, folder):
        second = {"id": 2, "image_id": 7, "category_id": 2, "keypoints": [0] * 9, "bbox": [10, 20, 30, 40]}
        crowd = {"id": 3, "image_id": 7, "category_id": 2, "iscrowd": 1}
        first = json.loads(coco())["annotations"][0]
        faces = load(f"coco:{put(folder, 'faces/c.json', coco(annotations=[first, second, crowd]))}")
        assert faces.schema.point_names == NAMES
        assert faces.schema.edges == ((0, 2), (1, 2))
        assert faces.schema.flip_permutation == (1, 0, 2)
        assert faces.visible.tolist() == [[True, True, False], [False] * 3]
        assert faces.keypoints[0, :2].tolist() == [[70, 30], [40, 31]]
        assert faces.boxes.tolist() == [[40, 30, 70, 31], [9.5, 19.5, 39.5, 59.5]]

    @pytest.mark.parametrize("place", ["c.json", "faces/annotations/c.json", "faces/c.json"])
    def test_images_are_found(self, folder, place):
        text = coco(images=[{"id": 7, "file_name": "faces\\a.png" if place == "c.json" else "a.png"}])
        assert load(f"coco:{put(folder, place, text)}").paths.tolist() == [str(folder / "faces" / "a.png")]

    @pytest.mark.parametrize(
        "change",
        [
            {"image_id": 9},
            {"keypoints": [1, 2, 3]},
            {"keypoints": ["x"] * 9},
            {"keypoints": [1e300, 0, 2] * 3},
            {"keypoints": [True] * 9},
            {"keypoints": [900000, 30, 2, 40, 31, 2, 3, 4, 2]},
            {"keypoints": [0.5, 0.5, 2, 0.4, 0.1, 2, 0.3, 0.4, 2]},
            {"keypoints": [0] * 9, "bbox": [1, 2, 0, 4]},
            {"keypoints": [0] * 9, "bbox": None},
            {"bbox": [1, 2]},
        ],
    )
    def test_an_invalid_annotation_is_named_and_can_be_skipped(self, folder, change):
        good = json.loads(coco())["annotations"][0]
        file = put(folder, "faces/c.json", coco(annotations=[good, good | {"id": 77} | change]))
        (found,) = problems_of(f"coco:{file}")
        assert found.startswith(f"{file}: annotation 77: ")
        assert read_coco(file, skip_bad_rows=True).skipped == 1

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("{", ":1: "),
            ("[" * 100_000, "JSON"),
            ("9" * 5000, "JSON"),
            (b"\xff\xfe", "JSON"),
            ("[]", "images"),
            (coco(annotations=5), "annotations"),
            (coco(annotations=[]), "annotations"),
            (coco(categories=[{"id": 2, "keypoints": "abc"}]), "names"),
            (coco(categories=[{"id": [2], "keypoints": ["a"]}], annotations=[{"category_id": {}}]), "category"),
            (coco(categories=[{"id": 2, "keypoints": list("abc"), "skeleton": [[1, 1e999]]}]), "skeleton"),
            (coco(categories=[{"id": 2, "keypoints": ["a", "a", "b"]}]), "unique"),
            (coco(categories=[{"id": 2, "keypoints": ["a", "b", "c"], "skeleton": [[1, 9]]}]), "outside 0..2"),
            # Found by tools/fuzz.py, surface labels:
            (coco(categories=[{"id": 2, "keypoints": ["a", "b", "c"], "skeleton": [[1, 1e309]]}]), "skeleton"),
        ],
    )
    def test_files_that_are_no_coco_are_errors(self, folder, text, part):
        with pytest.raises(KpdetectError, match=r"c\.json|scheme") as caught:
            load(f"coco:{put(folder, 'faces/c.json', text)}")
        assert part in str(caught.value)

    def test_written_files_are_read_by_pycocotools(self, folder):
        pycocotools = pytest.importorskip("pycocotools.coco")
        faces = two_faces(folder)
        write(faces, f"coco:{folder}/out/c.json")
        read = pycocotools.COCO(f"{folder}/out/c.json")
        assert read.loadCats(read.getCatIds())[0]["keypoints"] == list(NAMES)
        first, second = read.loadAnns(read.getAnnIds())
        assert first["keypoints"] == [70, 30, 2, 40, 31, 2, 55.5, 50.25, 2]
        assert (first["num_keypoints"], second["num_keypoints"]) == (3, 2)
        image = read.loadImgs([first["image_id"]])[0]
        assert (image["width"], image["height"]) == (120, 100)
        assert (folder / "out" / image["file_name"]).samefile(folder / "faces" / "a.png")


class TestYolo:
    def data(self, folder: Path, extra: str = "", line: str = "", shape: str = "[3, 3]") -> str:
        put(folder, "labels/train/a.txt", line or "0 0.5 0.5 0.4 0.6 0.5 0.5 2 0.25 0.1 1 0 0 0")
        (folder / "images/train").mkdir(parents=True, exist_ok=True)
        write_image(folder / "images/train/a.png", np.zeros((*SIZE_HW, 3), np.uint8))
        write_image(folder / "images/train/no_face.png", np.zeros((*SIZE_HW, 3), np.uint8))
        return put(folder, "data.yaml", f"train: images/train\nkpt_shape: {shape}\nnames: {{0: face}}\n{extra}")

    def test_coordinates_visibility_and_flip(self, folder):
        faces = load(f"yolo:{self.data(folder, 'flip_idx: [1, 0, 2]')}")
        assert faces.keypoints[0, :2].tolist() == [[59.5, 49.5], [29.5, 9.5]]
        assert faces.visible.tolist() == [[True, True, False]]
        assert faces.schema.flip_permutation == (1, 0, 2)
        assert faces.schema.point_names == ("p0", "p1", "p2")

    def test_names_and_two_values_per_point(self, folder):
        line = "0 0.5 0.5 0.4 0.6 0.5 0.5 0.25 0.1 0 0"
        file = self.data(folder, "kpt_names: {0: [left_eye, right_eye, nose]}", line, "[3, 2]")
        faces = load(f"yolo:{file}")
        assert faces.schema == user_schema(NAMES)
        assert faces.visible.tolist() == [[True, True, False]]

    def test_splits_are_named(self, folder):
        file = self.data(folder, f"val: [{folder}/images/train]\n")
        assert len(load(f"yolo:{file}:val")) == len(load(f"yolo:{file}:train")) == len(load(file)) == 1
        with pytest.raises(KpdetectError, match="'test'"):
            load(f"yolo:{file}:test")

    @pytest.mark.parametrize(
        "line", ["0 0.5 0.5", "0 0.5 0.5 0.4 0.6 x 0.5 2 0.25 0.1 1 0 0 0", "0 60 50 40 60 60 50 2 30 10 2 50 20 2"]
    )
    def test_an_invalid_line_is_named(self, folder, line):
        (found,) = problems_of(f"yolo:{self.data(folder, line=line)}")
        assert found.startswith(f"{folder}/labels/train/a.txt:1: ")

    @pytest.mark.parametrize(
        "text",
        [
            "train: images/train",
            "kpt_shape: [3]",
            "kpt_shape: [1000000000, 3]",
            "kpt_shape: [3, 3]\ntrain: nowhere",
            "kpt_shape: [3, 3]\nflip_idx: [0, 0, 1]\ntrain: images",
            "kpt_shape: [3, 3]\nkpt_names: {0: [a]}",
            "!!python/object/apply:os.system ['touch harm']",
            "a: [",
            "- 1",
        ],
    )
    def test_files_that_are_no_data_set_are_errors(self, folder, text, monkeypatch):
        monkeypatch.chdir(folder)
        with pytest.raises(KpdetectError):
            load(f"yolo:{put(folder, 'data.yaml', text)}")
        assert not (folder / "harm").exists()


class TestCvat:
    SKELETON = (
        "<skeleton label='face'><points label='left_eye' outside='0' points='70.5,30.5'/>"
        "<points label='right_eye' outside='0' points='40.5,31.5'/><points label='nose' outside='1' points='1,1'/>"
        "</skeleton>"
    )

    def xml(self, folder: Path, *shapes: str, name: str = "faces/a.png") -> str:
        image = f"<image id='0' name='{name}' width='120' height='100'>{''.join(shapes)}</image>"
        return put(folder, "cvat.xml", f"<annotations><version>1.1</version>\n{image}\n</annotations>")

    def test_skeletons(self, folder):
        faces = load(f"cvat:{self.xml(folder, self.SKELETON, self.SKELETON)}")
        assert faces.schema == user_schema(NAMES)
        assert faces.keypoints[1, :2].tolist() == [[70, 30], [40, 31]]
        assert faces.visible.tolist() == [[True, True, False]] * 2

    def test_points_of_one_points_element(self, folder):
        faces = load(f"cvat:{self.xml(folder, self.shape('face', '70.5,30.5;40.5,31.5;56,50.75'))}")
        assert faces.keypoints[0].tolist() == POINTS
        assert faces.schema.point_names == ("p0", "p1", "p2")

    @staticmethod
    def shape(label: str, points: str, group: str = "") -> str:
        return f"<points label='{label}' points='{points}' {group and f'group_id={group!r}'}/>"

    def test_single_points_are_grouped(self, folder):
        one = [self.shape(name, "10,20", "1") for name in NAMES[:1]] + [self.shape("nose", "30,40", "1")]
        two = [self.shape("left_eye", "50,60", "2"), self.shape("nose", "70,80", "2")]
        faces = load(f"cvat:{self.xml(folder, *one, *two)}")
        assert faces.keypoints.tolist() == [[[9.5, 19.5], [29.5, 39.5]], [[49.5, 59.5], [69.5, 79.5]]]

    @pytest.mark.parametrize(
        "shape", ["<skeleton label='face'><points label='left_eye' points='x,y'/></skeleton>", SKELETON]
    )
    def test_an_invalid_face_is_named_with_its_line(self, folder, shape):
        file = self.xml(folder, shape, name="faces/gone.png" if shape == self.SKELETON else "faces/a.png")
        (found,) = problems_of(f"cvat:{file}")
        assert found.startswith(f"{file}:2: ")

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotations>&b;</annotations>", "DOCTYPE"),
            ("<annotations><track id='0'/></annotations>", "track"),
            ("<annotations/>", "found none"),
            ("<dataset/>", "<annotations>"),
            ("<annotations>", "well-formed"),
        ],
    )
    def test_other_xml_is_an_error(self, folder, text, part):
        with pytest.raises(KpdetectError, match=part):
            load(f"cvat:{put(folder, 'cvat.xml', text)}")


class TestLabelme:
    @staticmethod
    def point(label: str, x: float, y: float, group: int | None = None) -> dict[str, object]:
        return {"label": label, "points": [[x, y]], "shape_type": "point", "group_id": group}

    def file(self, folder: Path, *shapes: object, image: str = "a.png") -> str:
        put(folder, "faces/a.json", json.dumps({"imagePath": image, "shapes": shapes, "imageData": None}))
        return f"labelme:{folder}"

    def test_groups_and_missing_points(self, folder):
        shapes = [self.point("left_eye", 70.5, 30.5, 1), self.point("right_eye", 40.5, 31.5, 1)]
        shapes += [self.point("nose", 56, 50.75, 1), self.point("left_eye", 20.5, 30.5, 2), self.point("nose", 9, 9, 2)]
        faces = load(self.file(folder, *shapes, {"label": "x", "points": [[1, 2], [3, 4]], "shape_type": "line"}))
        assert faces.schema == user_schema(NAMES)
        assert faces.keypoints[0].tolist() == POINTS
        assert faces.visible.tolist() == [[True] * 3, [True, False, True]]

    def test_a_rectangle_is_the_box_of_a_single_point(self, folder):
        rectangle = {"label": "face", "points": [[80.5, 60.5], [20.5, 10.5]], "shape_type": "rectangle"}
        faces = load(self.file(folder, self.point("nose", 55.5, 40.5), rectangle, image="..\\faces\\a.png"))
        assert faces.boxes.tolist() == [[20, 10, 80, 60]]

    @pytest.mark.parametrize(
        "shape",
        [
            {"label": "nose", "points": [[1, "x"]], "shape_type": "point"},
            {"label": "nose", "points": [[1, 2], [3, 4]], "shape_type": "point"},
            {"label": "left_eye", "points": [[3, 4]], "shape_type": "point"},
        ],
    )
    def test_invalid_shapes_are_named(self, folder, shape):
        (found,) = problems_of(self.file(folder, self.point("left_eye", 1, 2), self.point("right_eye", 5, 9), shape))
        assert found.startswith(f"{folder}/faces/a.json: ")

    def test_damaged_files_are_named(self, folder):
        spec = self.file(folder, self.point("left_eye", 50, 20), self.point("right_eye", 25, 29))
        put(folder, "faces/b.json", "{")
        assert [problem.split(": ")[0] for problem in problems_of(spec)] == [f"{folder}/faces/b.json:1"]
        (folder / "nothing").mkdir()
        with pytest.raises(KpdetectError, match="found none"):
            load(f"labelme:{folder}/nothing")


class TestLabelStudio:
    def task(self, image: str = "/data/upload/1/0a1b2c3d-a.png", **points: tuple[float, float]) -> dict[str, object]:
        result = [
            {
                "type": "keypointlabels",
                "original_width": 120,
                "original_height": 100,
                "value": {"x": x, "y": y, "width": 0.5, "keypointlabels": [name]},
            }
            for name, (x, y) in points.items()
        ]
        return {"id": 5, "data": {"image": image}, "annotations": [{"was_cancelled": True}, {"result": result}]}

    @pytest.mark.parametrize(
        "image", ["/data/upload/1/0a1b2c3d-a.png", "/data/local-files/?d=faces/a.png", "a.png", "https://x.org/b/a.png"]
    )
    def test_percentages_become_pixels(self, folder, image):
        task = self.task(image, left_eye=(50, 50), right_eye=(25, 20))
        faces = load(f"label-studio:{put(folder, 'faces/export.json', json.dumps([task]))}")
        assert faces.keypoints.tolist() == [[[59.5, 49.5], [29.5, 19.5]]]
        assert faces.schema.flip_permutation == (1, 0)

    def test_a_duplicate_label_is_an_error(self, folder):
        task = self.task(left_eye=(50, 50), right_eye=(25, 20))
        task["annotations"][1]["result"] *= 2
        file = put(folder, "faces/export.json", json.dumps([task]))
        assert problems_of(f"label-studio:{file}")[0].startswith(f"{file}: task 5: ")


class TestKaggle:
    HEADER = ",".join(f"{name}_{axis}" for name in KAGGLE15.point_names for axis in "xy") + ",Image"

    def row(self, *missing: int) -> str:
        values = [f"{10 + index},{20 + 2 * index}" if index not in missing else "," for index in range(15)]
        return ",".join(values) + "," + " ".join(str(level % 256) for level in range(96 * 96))

    def test_points_and_pixels(self, folder):
        faces = load(f"kaggle:{put(folder, 'training.csv', chr(10).join([self.HEADER, self.row(), self.row(3, 4)]))}")
        assert faces.schema == KAGGLE15
        assert faces.keypoints[0, 14].tolist() == [24, 48]
        assert np.flatnonzero(~faces.visible[1]).tolist() == [3, 4]
        assert faces.boxes.tolist() == [[-0.5, -0.5, 95.5, 95.5]] * 2
        assert faces.boxes_around == "image"
        image = faces.read(faces.paths[1])
        assert image.shape == (96, 96, 3)
        assert image[0, :3, 1].tolist() == [0, 1, 2]

    def test_the_test_part_has_no_points(self, folder):
        pixels = " ".join(["7"] * 9216)
        faces = read_kaggle(put(folder, "test.csv", f"ImageId,Image\n1,{pixels}\n2,{pixels}\n"))
        assert not faces.visible.any()
        assert [path.rpartition("#")[2] for path in faces.paths.tolist()] == ["1", "2"]

    @pytest.mark.parametrize(
        ("old", "new"), [(" 255 ", " 256 "), (" 255 ", " x "), (" 255 ", " "), ("10,20,", "10,,"), ("10,20,", "x,20,")]
    )
    def test_an_invalid_row_is_named(self, folder, old, new):
        file = put(folder, "training.csv", "\n".join([self.HEADER, self.row(), self.row().replace(old, new, 1)]))
        assert problems_of(f"kaggle:{file}")[0].startswith(f"{file}:3: ")

    def test_missing_columns_are_errors(self, folder):
        for header in ("nose_x,nose_y", "nose_x,Image", ""):
            with pytest.raises(KpdetectError, match=r"t\.csv"):
                read_kaggle(put(folder, "t.csv", header + "\n1,2\n"))

    def test_a_round_trip_through_files(self, folder):
        faces = read_kaggle(put(folder, "training.csv", "\n".join([self.HEADER, self.row(), self.row(3)])))
        again = load(write(faces, f"csv:{folder}/out/k.csv"))
        np.testing.assert_array_equal(again.keypoints, faces.keypoints)
        np.testing.assert_array_equal(again.read(again.paths[0]), faces.read(faces.paths[0]))


class TestWflw:
    def line(self, image: str = "0--Parade/a.png", offset: float = 0) -> str:
        points = [f"{10 + index % 50 + offset} {20 + index % 60}" for index in range(98)]
        return " ".join([*points, "5 6 100 90", "0 0 1 0 0 1", image])

    def test_points_and_images(self, folder):
        write_image(folder / "WFLW_images/0--Parade/a.png", np.zeros((*SIZE_HW, 3), np.uint8))
        file = put(folder, "WFLW_annotations/list/train.txt", f"{self.line()}\n{self.line(offset=0.5)}\n")
        faces = read_wflw(file)
        assert faces.schema == WFLW98
        assert faces.keypoints[1, 1].tolist() == [11.5, 21]
        assert faces.boxes[0].tolist() == [10, 20, 59, 79]
        assert faces.subjects[0] == faces.subjects[1]

    def test_invalid_lines_are_named(self, folder):
        file = put(folder, "list.txt", f"{self.line('faces/a.png')}\n1 2 3\n{self.line('gone.png')}\n")
        assert [problem.split(": ")[0] for problem in problems_of(f"wflw:{file}")] == [f"{file}:2", f"{file}:3"]

    def test_mirror_pairs_known_from_the_literature(self):
        pairs = [(0, 32), (16, 16), (33, 46), (37, 42), (38, 50), (41, 47), (55, 59), (60, 72), (61, 71), (64, 68)]
        pairs += [(65, 75), (67, 73), (76, 82), (83, 87), (85, 85), (88, 92), (93, 95), (96, 97)]
        assert [WFLW98.flip_permutation[one] for one, _ in pairs] == [other for _, other in pairs]


class TestMatlab:
    def test_points_count_from_1(self, folder):
        io = pytest.importorskip("scipy.io")
        points = np.random.default_rng(0).uniform(20, 80, (2, 68))
        write_image(folder / "AFW/AFW_1_0.jpg", np.zeros((*SIZE_HW, 3), np.uint8))
        write_image(folder / "AFW/image00002.jpg", np.zeros((*SIZE_HW, 3), np.uint8))
        io.savemat(folder / "AFW/AFW_1_0.mat", {"pt2d": points, "other": np.zeros(3)})
        io.savemat(
            folder / "AFW/image00002.mat", {"pt2d": np.zeros((2, 21)), "pt3d_68": np.vstack([points, points[:1]])}
        )
        io.savemat(folder / "AFW/landmarks_without_an_image.mat", {"pt2d": points})
        faces = load(f"300w-lp:{folder}")
        assert faces.schema == IBUG68
        np.testing.assert_allclose(faces.keypoints, np.float32([points.T - 1] * 2), rtol=1e-6)
        assert Path(faces.subjects[0]).name == "AFW_1"

    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("kind", [np.float64, np.float32, np.int16, np.uint8])
    def test_arrays_are_those_that_were_written(self, folder, compressed, kind):
        io = pytest.importorskip("scipy.io")
        values = np.random.default_rng(1).integers(0, 200, (3, 68)).astype(kind)
        variables = {"pt3d_68": values, "a": np.ones((2, 1), kind), "text": "words", "cell": [1, "x"], "z": 1j}
        variables["large"] = np.zeros((300, 300))
        io.savemat(folder / "a.mat", variables, do_compression=compressed)
        arrays = read_matlab((folder / "a.mat").read_bytes())
        np.testing.assert_array_equal(arrays["pt3d_68"], values)
        assert arrays["a"].shape == (2, 1)
        assert not {"text", "cell", "z"} & arrays.keys()

    def test_a_small_file_cannot_ask_for_much_memory(self, folder):
        io = pytest.importorskip("scipy.io")
        io.savemat(folder / "a.mat", {"pt2d": np.zeros((2, 10_000_000), np.uint8)}, do_compression=True)
        tracemalloc.start()
        assert read_matlab((folder / "a.mat").read_bytes()) == {}
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(place=st.integers(0, 1400), value=st.integers(0, 255), compressed=st.booleans())
    def test_a_wrong_byte_does_no_harm(self, folder, place, value, compressed):
        """One of them (type 106) ended the process in SciPy."""
        io = pytest.importorskip("scipy.io")
        file = folder / f"{compressed}.mat"
        if not file.exists():
            points = np.random.default_rng(0).uniform(20, 80, (2, 68))
            io.savemat(file, {"pt2d": points}, do_compression=compressed)
        data = bytearray(file.read_bytes())
        data[place % len(data)] = value
        with contextlib.suppress(DamagedMatlabFile):
            read_matlab(bytes(data))

    def test_damaged_files_are_named(self, folder):
        io = pytest.importorskip("scipy.io")
        put(folder, "faces/a.mat", b"MATLAB 5.0" + bytes(200))
        io.savemat(folder / "faces/b.mat", {"pt2d": np.zeros((2, 5))})
        assert [problem.split(": ")[0] for problem in problems_of(f"300w-lp:{folder}")] == [
            f"{folder}/faces/a.mat",
            f"{folder}/faces/b.mat",
        ]


class TestRoundTrips:
    @pytest.mark.parametrize("target", ["csv:out/f.csv", "coco:out/f.json", "yolo:out", "out/f.json", "out/f.csv"])
    def test_keypoints_visibility_and_paths(self, folder, target, monkeypatch):
        monkeypatch.chdir(folder)
        faces = two_faces(folder)
        again = load(write(faces, target))
        np.testing.assert_allclose(again.keypoints, faces.keypoints, atol=1e-4)
        np.testing.assert_array_equal(again.visible, faces.visible)
        assert again.schema == faces.schema
        assert [Path(path).name for path in again.paths.tolist()] == ["a.png", "b.png"]
        if "yolo" not in target:
            np.testing.assert_array_equal(again.keypoints, faces.keypoints)
            assert again.subjects.tolist() == ["ann", "bob"]
        if "csv" in target:
            np.testing.assert_array_equal(again.boxes, faces.boxes)

    def test_dlib_rounds_to_pixels(self, folder):
        faces = two_faces(folder)
        again = load(write(faces, f"dlib:{folder}/out/f.xml"))
        np.testing.assert_array_equal(again.keypoints, np.rint(faces.keypoints))
        np.testing.assert_array_equal(again.visible, faces.visible)
        assert again.schema == faces.schema

    @pytest.mark.parametrize("kind", ["csv:{}/f.csv", "coco:{}/f.json", "yolo:{}/y", "dlib:{}/f.xml"])
    def test_images_without_a_file_are_written(self, tmp_path, kind):
        faces = synthetic.annotations(3, seed=2)
        again = load(write(faces, kind.format(tmp_path)))
        assert again.schema == faces.schema
        np.testing.assert_allclose(again.keypoints, faces.keypoints, atol=0.51 if "dlib" in kind else 1e-3)
        np.testing.assert_array_equal(again.read(again.paths[1]), faces.read(faces.paths[1]))

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        points=st.lists(
            st.tuples(st.floats(2, 100, width=32), st.floats(2, 90, width=32)), min_size=3, max_size=3, unique=True
        ),
        kind=st.sampled_from(["csv:{}/h.csv", "coco:{}/h.json"]),
    )
    def test_all_coordinates_are_exact(self, folder, points, kind):
        frame = two_faces(folder).to_dataframe().iloc[:1].copy()
        frame[[f"{name}_{axis}" for name in NAMES for axis in "xy"]] = np.float32(points).reshape(1, 6)
        faces = Annotations.from_dataframe(frame)
        again = load(write(faces, kind.format(folder)))
        np.testing.assert_array_equal(again.keypoints, faces.keypoints)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        names=st.lists(
            st.text(st.sampled_from("abLlRr_xyvXY019.- é"), min_size=1, max_size=8)
            .map(str.strip)
            .filter(lambda name: name and name.lower() not in ("subject", "score")),
            min_size=3,
            max_size=3,
            unique=True,
        ),
        kind=st.sampled_from(["csv:{}/n.csv", "coco:{}/n.json", "dlib:{}/n.xml"]),
    )
    def test_all_names_are_kept(self, folder, names, kind):
        faces = dataclasses.replace(two_faces(folder), schema=user_schema(names))
        again = load(write(faces, kind.format(folder)))
        assert set(again.schema.point_names) == set(names)
        if "dlib" not in kind:
            assert again.schema == faces.schema

    @pytest.mark.parametrize("name", [b"caf\xe9.png", b"a\x1b[2Jb.png", b"two\nlines.png"])
    @pytest.mark.parametrize("kind", ["csv:{}/n.csv", "coco:{}/n.json", "dlib:{}/n.xml", "yolo:{}/y"])
    def test_unusual_file_names(self, folder, name, kind):
        file = folder / os.fsdecode(name)
        file.write_bytes((folder / "faces" / "a.png").read_bytes())
        faces = dataclasses.replace(two_faces(folder), paths=np.array([str(file), str(folder / "faces" / "b.png")]))
        if "yolo" in kind:  # the name of a copy
            assert len(load(write(faces, kind.format(folder)))) == 2
            return
        with pytest.raises(KpdetectError, match="rename the file") as caught:
            write(faces, kind.format(folder))
        assert str(caught.value).isprintable()

    def test_the_command(self, folder, capsys):
        two_faces(folder)
        assert convert.main([f"csv:{folder}/two.csv", "--out", f"coco:{folder}/c.json"]) == 0
        out = capsys.readouterr().out
        assert f"coco:{folder}/c.json" in out
        assert "left_eye/right_eye" in out
        assert len(load(f"coco:{folder}/c.json")) == 2

    @pytest.mark.parametrize("target", ["cocoo:a.json", "csv:", "a.gif", "coco"])
    def test_invalid_targets_are_errors(self, folder, target):
        with pytest.raises(KpdetectError):
            write(two_faces(folder), target)


class TestDataframes:
    def test_a_data_frame_round_trips(self, folder):
        pandas = pytest.importorskip("pandas")
        faces = two_faces(folder)
        frame = faces.to_dataframe()
        assert isinstance(frame, pandas.DataFrame)
        assert list(frame.columns)[:3] == ["image", "left_eye_x", "left_eye_y"]
        assert np.isnan(frame["nose_x"][1])
        again = Annotations.from_dataframe(frame)
        for attribute in ("keypoints", "visible", "boxes", "subjects", "paths"):
            np.testing.assert_array_equal(getattr(again, attribute), getattr(faces, attribute))

    def test_predicted_faces(self, folder):
        pytest.importorskip("pandas")
        schema = user_schema(NAMES)
        face = Face(np.float32(POINTS), schema, score=0.75)
        image = str(folder / "faces" / "a.png")
        frame = to_dataframe([face, face], image)
        assert frame["score"].tolist() == [0.75, 0.75]
        again = Annotations.from_dataframe(frame)
        assert again.keypoints.tolist() == [POINTS, POINTS]
        assert again.boxes[0].tolist() == face.box.tolist()
        several = to_dataframe([[face], [], [face]], ["a", "b", "c"])
        assert several["image"].tolist() == ["a", "c"]
        assert to_dataframe([[face]])["image"].tolist() == ["0"]
        assert len(to_dataframe([])) == len(to_dataframe([[], []])) == 0
        with pytest.raises(KpdetectError, match="2"):
            to_dataframe([[face], [face]], ["a"])
        with pytest.raises(KpdetectError, match="user"):
            to_dataframe([face, Face(np.zeros((68, 2), np.float32), IBUG68)])

    def test_results(self, folder):
        pytest.importorskip("pandas")
        file = Path(__file__).resolve().parents[1] / "exported_models" / "results.csv"
        frame = read_results(file)
        rows = read_rows(file)
        assert frame["nme"].tolist() == [row.nme for row in rows]
        assert frame["model"].tolist() == [row.model for row in rows]
        with pytest.raises(KpdetectError, match=r"gone\.csv"):
            read_results(folder / "gone.csv")

    def test_relative_paths_and_invalid_rows(self, folder):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"image": ["faces/a.png", "faces/gone.png"], "a_x": [1, 2], "a_y": [3, 4]})
        with pytest.raises(DataError, match=r"table:1: .*gone\.png"):
            Annotations.from_dataframe(frame, str(folder), "table")
        assert len(Annotations.from_dataframe(frame[:1], str(folder))) == 1


class TestDetection:
    def test_a_file_without_a_kind_is_an_error_that_names_kinds(self, folder, capsys):
        two_faces(folder)
        assert len(load(f"{folder}/two.csv")) == 2
        assert f"csv:{folder}/two.csv" in capsys.readouterr().err
        with pytest.raises(KpdetectError, match=r"csv:my_faces\.csv"):
            load("my_faces.csv")
        with pytest.raises(KpdetectError, match="did you mean 'csv'"):
            load("cvs:my_faces")

    def test_kinds(self, folder, tmp_path_factory):
        faces = two_faces(folder)
        assert detect_kind(f"{folder}/two.csv") == "csv"
        for target, kind in (("coco:{}/c.json", "coco"), ("yolo:{}/y", "yolo"), ("dlib:{}/d.xml", "dlib")):
            _, _, place = write(faces, target.format(folder)).partition(":")
            assert detect_kind(place) == kind
        assert detect_kind(str(folder / "y")) == "yolo"
        assert detect_kind(put(folder, "cvat.xml", "<?xml version='1.0'?>\n<annotations></annotations>")) == "cvat"
        kaggle = f"{TestKaggle.HEADER}\n{TestKaggle().row()}\n"
        assert detect_kind(put(folder, "training.csv", kaggle)) == "kaggle"
        assert detect_kind(put(folder, "list.txt", TestWflw().line())) == "wflw"
        assert detect_kind(put(folder, "ls.json", '[{"data": {}, "annotations": []}]')) == "label-studio"
        for suffix, kind in (("pts", "ibug"), ("asf", "imm"), ("mat", "300w-lp")):
            place = tmp_path_factory.mktemp(suffix)
            put(place, f"deep/a.{suffix}", struct.pack("<I", 1))
            assert detect_kind(str(place)) == kind
        labelme = tmp_path_factory.mktemp("labelme")
        put(labelme, "a.json", '{"shapes": []}')
        assert detect_kind(str(labelme)) == "labelme"
        for text in ("hello", "", "{", "<a/>", "<"):
            assert detect_kind(put(folder, "unknown.dat", text)) is None

    def test_several_sets(self, folder):
        two_faces(folder)
        assert [part.name for part in load_sets(f"{folder}/two.csv,synthetic:2")] == ["two.csv", "synthetic"]

    def test_a_spec_is_checked_without_reading_labels(self, folder, capsys):
        two_faces(folder)
        write(two_faces(folder), f"yolo:{folder}/y")
        check_spec(
            f"csv:{folder}/two.csv,{folder}/two.csv,yolo:{folder}/y/data.yaml:val,{folder}/y/data.yaml,synthetic"
        )
        assert capsys.readouterr().err == ""
        for wrong in ("csv:gone.csv", "gone.csv", "yolo:gone.yaml:val", "cvs:a", "csv:", ""):
            with pytest.raises(KpdetectError):
                check_spec(wrong)


class TestFilesOfOtherTools:
    """Files that the tools' own libraries wrote; ``tests/label_files/README.md`` lists the versions."""

    FILES = Path(__file__).parent / "label_files"
    SECOND = ([20, 30], [8.5, 8.5])

    def assert_two_faces(self, faces: Annotations, folder: Path) -> None:
        assert faces.schema == user_schema(NAMES)
        assert faces.visible.tolist() == [[True, True, True], [True, False, True]]
        np.testing.assert_allclose(faces.keypoints[0], [[70, 30], [40, 31], [55.5, 50.25]], atol=1e-4)
        np.testing.assert_allclose(faces.keypoints[1, [0, 2]], self.SECOND, atol=1e-4)
        assert {str(path) for path in faces.paths} == {str(folder / "faces" / "a.png")}

    def test_labelme(self, folder):
        put(folder, "faces/a.json", (self.FILES / "labelme.json").read_text())
        self.assert_two_faces(load(f"labelme:{folder}/faces"), folder)

    def test_label_studio(self, folder):
        file = put(folder, "faces/export.json", (self.FILES / "label_studio.json").read_text())
        self.assert_two_faces(load(f"label-studio:{file}"), folder)
        self.assert_two_faces(load(file), folder)  # the kind is detected

    def test_tasks_have_the_form_of_label_studio(self, folder):
        put(folder, "faces/a.json", (self.FILES / "labelme.json").read_text())
        target = write(load(f"labelme:{folder}/faces"), f"label-studio:{folder}/out/tasks.json")
        self.assert_two_faces(load(target), folder)
        mine = json.loads((folder / "out" / "tasks.json").read_text())
        theirs = json.loads((self.FILES / "label_studio.json").read_text())
        for one, other in zip(mine[0]["annotations"][0]["result"], theirs[0]["annotations"][0]["result"], strict=True):
            assert set(other) <= set(one)
            assert set(other["value"]) <= set(one["value"])
            names = ("type", "from_name", "to_name", "original_width", "original_height", "image_rotation")
            assert [one[name] for name in names] == [other[name] for name in names]
        config = ElementTree.parse(folder / "out" / "tasks_config.xml")
        assert [label.get("value") for label in config.iter("Label")] == ["face", *NAMES]

    def test_yolo_of_label_studio(self, folder):
        """With a ``data.yaml`` as ultralytics documents it for pose."""
        write_image(folder / "set/images/train/0a1b2c3d-a.png", np.zeros((*SIZE_HW, 3), np.uint8))
        put(folder, "set/labels/train/0a1b2c3d-a.txt", (self.FILES / "label_studio_yolo.txt").read_text())
        lines = ["path: .", "train: images/train", "val: images/train", "kpt_shape: [3, 3]", "flip_idx: [1, 0, 2]"]
        lines += ["names:", "  0: face", "kpt_names:", "  0: [left_eye, right_eye, nose]"]
        faces = load(f"yolo:{put(folder, 'set/data.yaml', chr(10).join(lines))}")
        assert faces.schema.flip_permutation == (1, 0, 2)
        assert faces.visible.tolist() == [[True, True, True], [True, False, True]]
        np.testing.assert_allclose(faces.keypoints[1, [0, 2]], self.SECOND, atol=1e-4)

    def test_coco_of_label_studio(self, folder):
        """Its image has the path of an upload, and other categories have no points."""
        file = put(folder, "faces/result.json", (self.FILES / "label_studio_coco.json").read_text())
        faces = load(f"coco:{file}")
        assert faces.schema.point_names == NAMES
        np.testing.assert_allclose(faces.keypoints, [[[21, 30], [40, 32], [9, 9]]], atol=0.51)
        assert str(faces.paths[0]) == str(folder / "faces" / "a.png")
