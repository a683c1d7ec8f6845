"""CSV variants, missing points, implausible labels, side names and label files with any points."""

import copy
import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from messages import mentions

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.images import write_image
from kpdetect.core.schema import IBUG68, IMM58, KeypointSchema, describe_flip, user_schema
from kpdetect.core.schema.sides import side_pairs
from kpdetect.data import concatenate, load, read_csv

NAMES = ("left_eye", "right_eye", "nose")
POINTS = [[70, 30], [40, 31], [55, 50]]
HEADER = "image," + ",".join(f"{name}_{axis}" for name in NAMES for axis in "xy")
ROW = "faces/a.png,70,30,40,31,55,50"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "faces" / name, np.zeros((100, 120, 3), np.uint8))
    return tmp_path


def write(folder: Path, *lines: str) -> str:
    (folder / "faces.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "faces.csv")


def problems_of(file: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_csv(file)
    return [problem.removeprefix(file) for problem in caught.value.problems]


class TestSides:
    @pytest.mark.parametrize(
        ("names", "pairs"),
        [
            (["left_eye", "right_eye", "nose", "mouth_R", "mouth_L"], [(0, 1), (4, 3)]),
            (["l_eye", "r_eye"], [(0, 1)]),
            (["REye", "LEye"], [(1, 0)]),
            (["eyeR", "eyeL"], [(1, 0)]),
            (["eye-r", "eye-l"], [(1, 0)]),
            (["reye", "leye", "nose"], [(1, 0)]),
            (["LeftEye", "RIGHTEYE"], [(0, 1)]),
            (["eye left", "eye right"], [(0, 1)]),
            (["left_eye", "eye_right"], [(0, 1)]),
            (["brow_l1", "brow_l2", "brow_r1", "brow_r2"], [(0, 2), (1, 3)]),
            (["right_eye_left_corner", "left_eye_right_corner"], [(1, 0)]),
        ],
    )
    def test_common_side_names_are_paired(self, names, pairs):
        flip = list(range(len(names)))
        for left, right in pairs:
            flip[left], flip[right] = right, left
        assert user_schema(names).flip_permutation == tuple(flip)
        assert {(names.index(left), names.index(right)) for left, right in side_pairs(names).left_right} == set(pairs)

    @pytest.mark.parametrize(
        ("names", "reason"),
        [
            (["left_eye", "right_eye", "mouth_l"], "mouth_l"),
            (["left_eye", "rigth_eye"], "left_eye"),
            (["left_eye", "l_eye", "right_eye"], "left_eye and l_eye"),
            (["a", "l", "r"], "no name has a side"),
            (["p0", "p1"], "no name has a side"),
        ],
    )
    def test_almost_paired_names_give_no_flip_and_a_reason(self, names, reason):
        schema = user_schema(names)
        assert schema.flip_permutation is None
        assert "no mirror images" in describe_flip(schema)
        assert reason in describe_flip(schema)

    def test_the_pairs_are_described(self):
        text = describe_flip(user_schema(["left_eye", "right_eye", "nose"]))
        assert "left_eye/right_eye" in text
        assert text.endswith("nose")


class TestSchema:
    @pytest.mark.parametrize("schema", [IBUG68, IMM58, user_schema(NAMES, edges=[(0, 2)])])
    def test_schemas_are_values(self, schema):
        for twin in (pickle.loads(pickle.dumps(schema)), copy.deepcopy(schema), copy.copy(schema)):
            assert twin == schema
            assert hash(twin) == hash(schema)
            with pytest.raises(TypeError):
                twin.groups["jaw"] = ()
        assert dataclasses.asdict(schema)["groups"] == schema.groups
        assert KeypointSchema.from_dict(schema.to_dict()) == schema
        assert "\n" not in repr(schema)
        assert schema.name in repr(schema)

    @pytest.mark.parametrize(
        ("name", "expected"), [("nose", "nose_tip"), ("left_eye_outter", "left_eye_outer"), ("jaw", "chin")]
    )
    def test_unknown_points_suggest_names(self, name, expected):
        with pytest.raises(KpdetectError, match=expected):
            IBUG68.index(name)

    def test_edges_follow_a_subset(self):
        schema = user_schema(NAMES, edges=[(0, 2), (1, 2)])
        assert schema.subset(["nose", "right_eye"]).edges == ((1, 0),)
        with pytest.raises(KpdetectError, match=r"outside 0\.\.2"):
            user_schema(NAMES, edges=[(0, 3)])


def test_annotations_can_be_pickled(folder):
    faces = read_csv(write(folder, HEADER, ROW))
    other = dataclasses.replace(faces, name="other")
    for annotations in (faces, concatenate([faces, other])):
        twin = pickle.loads(pickle.dumps(annotations))
        np.testing.assert_array_equal(twin.keypoints, annotations.keypoints)
        assert twin.read(twin.paths[0]).shape == (100, 120, 3)


class TestForms:
    @pytest.mark.parametrize(
        ("header", "row"),
        [
            (HEADER, ROW),
            ("," + HEADER, "0," + ROW),
            ("index," + HEADER, "7," + ROW),
            (HEADER, ROW.replace("/", "\\")),
            (HEADER.replace(",", ";"), ROW.replace(",", ";")),
            (HEADER.replace(",", ";"), "faces/a.png;70,0;30,0;40;31;55,00;50"),
            (HEADER.replace(",", "\t"), ROW.replace(",", "\t")),
            (HEADER.replace("_x", "X").replace("_y", "Y"), ROW),
            (HEADER.replace("_x", ".x").replace("_y", ".y"), ROW),
            ("path,x_left_eye,y_left_eye,x_right_eye,y_right_eye,x_nose,y_nose", ROW),
            ("left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y,image", "70,30,40,31,55,50,faces/a.png"),
        ],
    )
    def test_named_points(self, folder, header, row):
        faces = read_csv(write(folder, header, row))
        assert faces.schema == user_schema(NAMES)
        assert faces.keypoints[0].tolist() == POINTS
        assert faces.paths.tolist() == [str(folder / "faces" / "a.png")]

    @pytest.mark.parametrize("start", [0, 1])
    def test_numbered_points(self, folder, start):
        names = [f"{axis}{number}" for number in range(start, start + 3) for axis in "xy"]
        faces = read_csv(write(folder, ",".join(["image", *names]), ROW))
        assert faces.schema.point_names == tuple(f"p{number}" for number in range(start, start + 3))
        assert faces.keypoints[0].tolist() == POINTS

    @pytest.mark.parametrize(("form", "start"), [("{n}_{axis}", 0), ("{axis}{n}", 1), ("{axis}_{n}", 1)])
    def test_68_numbered_points_are_those_of_ibug(self, folder, form, start):
        header = ",".join(form.format(n=number, axis=axis) for number in range(start, start + 68) for axis in "xy")
        cells = [str(3 + number % 90) if number % 4 < 2 else "" for number in range(136)]  # every second point
        faces = read_csv(write(folder, f"image,subject,{header}", ",".join(["faces/a.png", "ann", *cells])))
        assert faces.schema is IBUG68
        assert faces.visible[0].tolist() == [True, False] * 34

    def test_other_columns_are_ignored_and_named_once(self, folder, caplog):
        rows = [f"faces/{name}.png,male,70,30,40,31,55,50,2,1" for name in "ab"]
        faces = read_csv(write(folder, "image,gender," + HEADER.removeprefix("image,") + ",pose,turned", *rows))
        assert faces.keypoints.tolist() == [POINTS] * 2
        assert faces.schema.point_names == NAMES
        (record,) = caplog.records
        assert record.name.startswith("kpdetect.")
        assert "gender, pose, turned" in record.getMessage()

    def test_other_columns_beside_numbered_ones(self, folder, caplog):
        faces = read_csv(write(folder, ",0,1,2,3,age", "faces/a.png,1,2,30,40,7", "faces/b.png,1,2,30,40,8"))
        assert faces.keypoints.tolist() == [[[1, 2], [30, 40]]] * 2
        assert "age" in caplog.text

    def test_the_separator_that_excel_states(self, folder):
        lines = ["sep=;", HEADER.replace(",", ";"), "faces/a.png;70,0;30,0;40;31;55;50"]
        assert read_csv(write(folder, *lines)).keypoints[0].tolist() == POINTS
        assert [problem[:3] for problem in problems_of(write(folder, *lines, "faces/gone.png;1;2;3;4;5;9"))] == [":4:"]

    def test_an_index_without_a_header(self, folder):
        assert read_csv(write(folder, "0," + ROW, "1," + ROW)).keypoints[1].tolist() == POINTS

    @pytest.mark.parametrize(
        ("names", "values"),
        [
            ("box_x0,box_y0,box_x1,box_y1", "10,20,90,80"),
            ("x0,y0,x1,y1", "10,20,90,80"),
            ("xmin,ymin,xmax,ymax", "10,20,90,80"),
            ("bbox_x,bbox_y,bbox_w,bbox_h", "10,20,80,60"),
        ],
    )
    def test_boxes(self, folder, names, values):
        faces = read_csv(write(folder, f"{HEADER},{names}", f"{ROW},{values}"))
        assert faces.boxes.tolist() == [[10, 20, 90, 80]]
        assert faces.schema.point_names == NAMES

    def test_visibility_is_that_of_coco(self, folder):
        header = "image," + ",".join(f"{name}_{axis}" for name in NAMES for axis in "xyv")
        faces = read_csv(write(folder, header, "faces/a.png,70,30,2,40,31,1,0,0,0"))
        assert faces.visible.tolist() == [[True, True, False]]
        assert faces.boxes.tolist() == [[40, 30, 70, 31]]

    @pytest.mark.parametrize("missing", ["-1,-1", "-1.0000,-1.0", "0,0", "nan,NaN", "None,null", "NA,N/A", ","])
    def test_missing_points(self, folder, missing, capsys):
        rows = [f"faces/{name}.png,70,30,40,31,{missing}" for name in "ab"]
        faces = read_csv(write(folder, HEADER, *rows))
        assert faces.visible.tolist() == [[True, True, False]] * 2
        assert faces.boxes.tolist() == [[40, 30, 70, 31]] * 2
        told = capsys.readouterr().err
        assert told.count("2 points") == (missing[0] in "-0")

    def test_a_single_pair_of_columns_is_a_point(self, folder):
        assert read_csv(write(folder, HEADER, "faces/a.png,70,30,40,31,0,0")).visible.all()


class TestSlips:
    def test_relative_coordinates_are_an_error_with_the_likely_reason(self, folder):
        (found,) = problems_of(write(folder, HEADER, "faces/a.png,0.58,0.3,0.33,0.31,0.45,0.5"))
        assert found.startswith(":2: ")
        assert "relative" in found
        nose = write(folder, "image,nose_x,nose_y", "faces/a.png,0.4,0.5", "faces/b.png,0.5,0.5")
        assert ["relative" in problem for problem in problems_of(nose)] == [True, True]

    @pytest.mark.parametrize(
        "row",
        [
            "faces/a.png,700,300,400,310,550,500",  # for another image size
            "faces/a.png,70,30,900000,450000,55,50",
            "faces/a.png,-70,30,-40,31,-55,50",
        ],
    )
    def test_labels_far_outside_the_image_are_errors(self, folder, row):
        file = write(folder, HEADER, ROW, row)
        (found,) = problems_of(file)
        assert found.startswith(":3: ")
        assert "120 x 100" in found
        assert read_csv(file, skip_bad_rows=True).skipped == 1

    @pytest.mark.parametrize("box", ["-1000000,-1000000,1000000,1000000", "0,0,5000,100", "200,0,300,90"])
    def test_boxes_far_outside_the_image_are_errors(self, folder, box):
        (found,) = problems_of(write(folder, f"{HEADER},box_x0,box_y0,box_x1,box_y1", f"{ROW},{box}"))
        assert "120 x 100" in found

    def test_a_face_may_extend_beyond_the_border(self, folder):
        assert len(read_csv(write(folder, HEADER, "faces/a.png,130,30,90,-20,100,50"))) == 1

    @pytest.mark.parametrize("head", ["image," + "9" * 5000 + ",1", "image," + "9" * 5000, HEADER])
    def test_numbers_of_many_digits_are_errors_of_the_package(self, folder, head):
        rest = ",".join(["9" * 5000] * 6)
        with pytest.raises(KpdetectError, match=r"faces\.csv") as caught:
            read_csv(write(folder, head, f"faces/a.png,{rest}"))
        assert len(str(caught.value)) < 6000

    @pytest.mark.parametrize(("text", "kind"), [('{"images": []}', "coco:"), ("[]", "coco:"), ("<dataset/>", "dlib:")])
    def test_an_error_for_another_format_names_its_kind(self, folder, text, kind):
        with pytest.raises(KpdetectError, match=kind):
            load(f"csv:{write(folder, text)}")

    def test_an_error_for_pixels_in_a_cell_names_kaggle(self, folder):
        with pytest.raises(KpdetectError, match="kaggle:"):
            read_csv(write(folder, "nose_x,nose_y,Image", "1,2," + " ".join(["7"] * 9216)))


class TestOtherPoints:
    def xml(self, folder: Path, *boxes: str, size: str = "") -> str:
        images = "".join(
            f"<image file='faces/{name}.png' {size}>{box}</image>\n" for name, box in zip("ab", boxes, strict=False)
        )
        (folder / "faces.xml").write_text(f"<dataset><images>\n{images}</images></dataset>")
        return str(folder / "faces.xml")

    @staticmethod
    def box(**points: tuple[int, int]) -> str:
        parts = "".join(f"<part name='{name}' x='{x}' y='{y}'/>" for name, (x, y) in points.items())
        return f"<box top='20' left='10' width='81' height='61'>{parts}</box>"

    @pytest.mark.parametrize("kind", ["dlib", "ibug"])
    def test_the_schema_is_made_from_part_names(self, folder, kind):
        first = self.box(left_eye=(70, 30), right_eye=(40, 31), nose=(55, 50))
        second = self.box(nose=(55, 50), left_eye=(70, 30))
        faces = load(f"{kind}:{self.xml(folder, first, second)}")
        assert faces.schema == user_schema(NAMES)
        assert faces.keypoints[0].tolist() == POINTS
        assert faces.visible.tolist() == [[True, True, True], [True, False, True]]
        assert faces.boxes.tolist() == [[40, 30, 70, 50], [55, 30, 70, 50]]

    @pytest.mark.parametrize("count", [1, 5, 194])
    def test_numbered_parts(self, folder, count):
        points = {f"{index:02d}": (10 + index % 100, 20 + index % 70) for index in range(count)}
        faces = load(f"dlib:{self.xml(folder, self.box(**points), '')}")
        assert faces.schema.point_names == tuple(points)
        assert faces.keypoints[0].tolist() == [list(point) for point in points.values()]

    def test_68_numbered_parts_are_ibug68(self, folder):
        points = {f"{index:02d}": (10 + index, 20 + index) for index in range(68)}
        assert load(f"dlib:{self.xml(folder, self.box(**points), '')}").schema == IBUG68

    def test_a_duplicate_part_is_an_error(self, folder):
        box = self.box(nose=(1, 2), chin=(3, 9)).replace("chin", "nose")
        with pytest.raises(DataError, match=mentions("nose")):
            load(f"dlib:{self.xml(folder, box, '')}")

    def test_an_invalid_image_size_is_read_from_the_image(self, folder):
        size = f"width='{'9' * 5000}' height='{'9' * 5000}'"
        box = self.box(left_eye=(70, 30), nose=(55, 50))
        assert len(load(f"dlib:{self.xml(folder, box, box, size=size)}")) == 2
        long = box.replace("70", "9" * 5000)
        with pytest.raises(DataError, match=mentions("faces.xml", "x", "y")):
            load(f"dlib:{self.xml(folder, long, '')}")

    @pytest.mark.parametrize("kind", ["pts", "ibug"])
    def test_pts_files_of_any_count(self, folder, kind):
        for name in "ab":
            (folder / "faces" / f"{name}.pts").write_text("version: 1\nn_points: 3\n{\n71 31\n41 32\n56 51\n}\n")
        faces = load(f"{kind}:{folder}")
        assert faces.schema == user_schema(["p0", "p1", "p2"])
        assert faces.keypoints.tolist() == [POINTS, POINTS]

    def test_files_with_another_count_than_most_are_errors(self, folder):
        for name, count in (("a", 3), ("b", 3), ("c", 2)):
            write_image(folder / f"{name}.png", np.zeros((90, 90, 3), np.uint8))
            (folder / f"{name}.pts").write_text("\n".join(f"{10 + i} {20 + i}" for i in range(count)))
        with pytest.raises(DataError, match=mentions("c.pts:2", "3")):
            load(f"pts:{folder}")
