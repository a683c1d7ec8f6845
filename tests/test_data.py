"""Tests of the CSV readers, SPECs, splits by subject and `Annotations`."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from messages import lines_with, mentions

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import tight_box
from kpdetect.core.images import write_image
from kpdetect.core.schema import IBUG68, user_schema
from kpdetect.data import (
    Annotations,
    concatenate,
    load,
    read_csv,
    read_youtube_faces,
    split_by_rule,
    split_by_subject,
)

GOOD = "a.png,1,2,3,4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / name, np.zeros((30, 40, 3), np.uint8))
    return tmp_path


def write(folder: Path, *lines: str, name: str = "faces.csv", end: str = "\n") -> str:
    file = folder / name
    file.write_bytes((end.join(lines) + end).encode())
    return str(file)


def problems_of(file: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_csv(file)
    return [problem.removeprefix(file) for problem in caught.value.problems]


def drawn(count: int, subjects: list[str]) -> Annotations:
    keypoints = np.random.default_rng(0).uniform(0, 50, (count, 2, 2)).astype(np.float32)
    return Annotations(
        schema=user_schema(["left_eye", "right_eye"]),
        name="drawn",
        paths=np.array([f"{index}.png" for index in range(count)]),
        keypoints=keypoints,
        visible=np.ones((count, 2), bool),
        boxes=tight_box(keypoints),
        subjects=np.array(subjects),
    )


class TestCsv:
    def test_header_names_points(self, folder):
        file = write(folder, "photo,left_eye_x,left_eye_y,right_eye_x,right_eye_y", "a.png,1,2,3.5,4", "b.png,5,6,7,8")
        faces = read_csv(file)
        assert faces.schema == user_schema(["left_eye", "right_eye"])
        assert faces.keypoints.tolist() == [[[1, 2], [3.5, 4]], [[5, 6], [7, 8]]]
        assert faces.paths.tolist() == [str(folder / "a.png"), str(folder / "b.png")]
        assert faces.boxes.tolist() == [[1, 2, 3.5, 4], [5, 6, 7, 8]]
        assert faces.subjects.tolist() == ["a.png", "b.png"]
        assert faces.visible.all()
        assert (faces.name, faces.skipped) == ("faces.csv", 0)
        assert faces.read(faces.paths[0]).shape == (30, 40, 3)

    @pytest.mark.parametrize("header", [None, ",0,1,2,3", "file,1,2,3,4"])
    def test_points_without_names(self, folder, header):
        faces = read_csv(write(folder, *filter(None, [header]), GOOD))
        assert faces.schema == user_schema(["p0", "p1"])
        assert faces.keypoints.tolist() == [[[1, 2], [3, 4]]]

    def test_68_points_are_ibug68_with_and_without_a_header(self, folder):
        row = "a.png," + ",".join(str(value) for value in np.random.default_rng(0).integers(1, 99, 136))
        counted = "," + ",".join(str(index) for index in range(136))
        named = "f," + ",".join(f"{name}_x,{name}_y" for name in IBUG68.point_names)
        for lines in ([row], [counted, row], [named, row]):
            assert read_csv(write(folder, *lines)).schema == IBUG68

    def test_a_first_row_of_numbers_is_a_face_if_its_file_exists(self, folder):
        assert read_csv(write(folder, "a.png,0,1,2,3", "b.png,1,2,3,4")).keypoints[0].tolist() == [[0, 1], [2, 3]]

    def test_columns_may_be_in_any_order(self, folder):
        file = write(folder, "f,subject,b_y,a_x,box_x1,box_y1,b_x,a_y,box_x0,box_y0", "a.png,ann,4,1,30,20,3,2,0,-5")
        faces = read_csv(file)
        assert dict(zip(faces.schema.point_names, faces.keypoints[0].tolist(), strict=True)) == {
            "a": [1, 2],
            "b": [3, 4],
        }
        assert faces.subjects.tolist() == ["ann"]
        assert faces.boxes.tolist() == [[0, -5, 30, 20]]

    def test_empty_cells_use_defaults(self, folder):
        head = "f,a_x,a_y,b_x,b_y,c_x,c_y,subject,box_x0,box_y0,box_x1,box_y1"
        faces = read_csv(write(folder, head, "a.png,,,3,4,8,9,,,,,", "b.png,1,2,3,5,,,bob,0,0,9,9"))
        assert faces.visible.tolist() == [[False, True, True], [True, True, False]]
        assert faces.boxes.tolist() == [[3, 4, 8, 9], [0, 0, 9, 9]]
        assert faces.subjects.tolist() == ["a.png", "bob"]
        assert np.isfinite(faces.keypoints).all()

    def test_one_point_has_the_whole_image_as_its_box(self, folder):
        assert read_csv(write(folder, "f,nose_x,nose_y", "a.png,7,8")).boxes.tolist() == [[-0.5, -0.5, 39.5, 29.5]]
        boxed = write(folder, "f,nose_x,nose_y,box_x0,box_y0,box_x1,box_y1", "a.png,7,8,1,2,3,4")
        assert read_csv(boxed).boxes.tolist() == [[1, 2, 3, 4]]

    def test_one_point_on_an_unreadable_image_is_an_error(self, folder):
        (folder / "text.png").write_text("no image")
        found = problems_of(write(folder, "f,nose_x,nose_y", "a.png,7,8", "text.png,7,8"))
        assert len(found) == 1
        assert found[0].startswith(":3: ")
        assert lines_with(found[0], "text.png", "8 bytes")

    def test_paths_are_absolute_or_relative_to_the_csv(self, folder, monkeypatch):
        (folder / "lists").mkdir()
        monkeypatch.chdir(folder.parent)
        faces = read_csv(write(folder / "lists", f"{folder}/a.png,1,2,3,4", "../b.png,1,2,3,4"))
        assert [faces.read(path).shape for path in faces.paths] == [(30, 40, 3)] * 2

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_csv_files_of_spreadsheets_are_read(self, folder, end):
        lines = ["\ufeffphoto,a_x,a_y,b_x,b_y", "", ' "a.png" , 1 ,2,3,4'.strip(), "", "b.png,1e1,2.0,3,4", ",,,,", ""]
        assert len(read_csv(write(folder, *lines, end=end))) == 2

    @pytest.mark.parametrize(
        ("row", "parts"),
        [
            ("a.png,1,2,3", ["4", "user", "3"]),
            ("a.png,1,2,3,4,5", ["4", "user", "5"]),
            ("a.png,1,2,x,4", ["2", "'x'"]),
            ("a.png,nan,2,3,4", ["p0"]),
            ("a.png,1,inf,3,y", ["1", "inf"]),
            ("a.png,1,2,3,1e300", ["3", "1e300"]),
            ("a.png,1_0,2,3,4", ["0", "1_0"]),
            ("a.png,1,,3,4", ["p0"]),
            ("a.png,,,,", []),
            (",1,2,3,4", []),
            ("a.png,1,2,1,4", []),
            ("a.png,1,2,,", []),
        ],
    )
    def test_a_bad_row_is_named_and_can_be_skipped(self, folder, row, parts):
        file = write(folder, GOOD, "b.png,1,2,3,5", row, "c.png,5,6,7,8")
        (found,) = problems_of(file)
        assert found.startswith(":3: ")
        assert lines_with(found.removeprefix(":3"), ":", *parts)
        faces = read_csv(file, skip_bad_rows=True)
        assert (len(faces), faces.skipped) == (3, 1)

    @pytest.mark.parametrize(
        ("cells", "received"), [("5,0,1,9", "[5.0, 0.0, 1.0, 9.0]"), ("0,0,,9", "[0.0, 0.0, nan, 9.0]")]
    )
    def test_an_invalid_box_is_an_error(self, folder, cells, received):
        head = "f,a_x,a_y,b_x,b_y,box_x0,box_y0,box_x1,box_y1"
        (found,) = problems_of(write(folder, head, f"{GOOD},{cells}"))
        assert found.startswith(":2: ")
        assert lines_with(found, "x0 < x1", "y0 < y1", received)

    def test_all_errors_are_reported_together_also_two_per_row(self, folder):
        rows = ["photo,a_x,a_y,b_x,b_y", GOOD, "gone.png,1,2,x,4", "", "a.png,1", "b.png,1,2,3,4"]
        file = write(folder, *rows)
        found = problems_of(file)
        assert [problem.split(" ")[0] for problem in found] == [":3:", ":3:", ":5:"]
        assert lines_with(found[0], f"{folder}/gone.png")
        assert lines_with(found[1], "b_x", "'x'")
        assert lines_with(found[2], "4", "user", "1")
        assert read_csv(file, skip_bad_rows=True).skipped == 2

    def test_lines_are_counted_as_in_an_editor(self, folder):
        file = write(folder, "photo,a_x,a_y,b_x,b_y,subject", '"a.png",1,2,3,4,"two', 'lines"', "", "b.png,1,2,3,bad,x")
        assert [problem.split(" ")[0] for problem in problems_of(file)] == [":5:"]

    def test_skipping_every_row_is_still_an_error(self, folder):
        with pytest.raises(DataError):
            read_csv(write(folder, "gone.png,1,2,3,4", "gone.png,1,2,3,4"), skip_bad_rows=True)

    @pytest.mark.parametrize(
        ("lines", "place", "parts"),
        [
            ([""], "", ()),
            (["photo,a_x,a_y"], "", ()),
            (["photo,a_x,a_y,b_x", GOOD], ":1", ("b_y", "NAME_x", "NAME_y")),
            (["photo,a_y,a_x,b_y", GOOD], ":1", ("b_x",)),
            (["photo,age", "a.png,3"], ":1", ("age", "NAME_x")),
            (["photo,a_x,a_y,a_x,a_y", GOOD], ":1", ("a_x",)),
            (["photo,a_x,a_y,box_x0,box_x1", GOOD], ":1", ("box_y0", "box_y1")),
            (["photo,subject", "a.png,ann"], "", ("0",)),
            ([",0,1,2,4", GOOD], ":1", ("3",)),
            (["a.png,1,2,3"], ":1", ()),
            (["a.png|1|2|3|4"], "", ("0",)),
        ],
    )
    def test_files_without_points_are_errors(self, folder, lines, place, parts):
        file = write(folder, *lines)
        with pytest.raises(KpdetectError, match=mentions(f"{file}{place}", *parts)):
            read_csv(file)

    def test_other_files_are_errors(self, folder):
        (folder / "bytes.csv").write_bytes(b"\xff\xfe\x00\x81")
        for name, parts in (("gone.csv", ()), ("", ()), ("bytes.csv", ("UTF-8",))):
            with pytest.raises(KpdetectError, match=mentions(str(folder / name), *parts)):
                read_csv(str(folder / name))

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data(), count=st.integers(2, 5))
    def test_a_round_trip_keeps_the_keypoints(self, folder, data, count):
        value = st.floats(2, 28, width=32)  # the picture is 40 x 30
        points = data.draw(st.lists(st.lists(value, min_size=2 * count, max_size=2 * count), min_size=1, max_size=4))
        keypoints = np.float32(points).reshape(-1, count, 2)
        flat = (tight_box(keypoints)[:, 2:] <= tight_box(keypoints)[:, :2]).any(axis=1)
        rows = ["a.png," + ",".join(repr(float(number)) for number in row) for row in points]
        file = write(folder, *rows)
        if flat.any():
            assert [int(line.split(":")[1]) for line in problems_of(file)] == (1 + np.flatnonzero(flat)).tolist()
        else:
            np.testing.assert_array_equal(read_csv(file).keypoints, keypoints)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text(st.sampled_from('ab,."\n\r0123-xy_ \ufeff\x00é'), max_size=60))
    def test_any_text_is_an_error_that_names_the_file(self, folder, text):
        (folder / "any.csv").write_bytes(text.encode())
        # These characters cannot name an image, so every text is invalid.
        with pytest.raises(KpdetectError, match=r"any\.csv"):
            read_csv(str(folder / "any.csv"))


class TestYoutubeFaces:
    @pytest.fixture
    def youtube(self, folder: Path) -> Path:
        (folder / "training").mkdir()
        header = "," + ",".join(str(index) for index in range(136))
        values = ",".join(str(value) for value in np.random.default_rng(0).integers(1, 99, 136))
        names = ["Ann_Lee_00.jpg", "Ann_Lee_12.jpg", "Bob_51.jpg"]
        for name in names:
            (folder / "training" / name).write_text("")  # readers do not decode images
        write(folder, header, *(f"{name},{values}" for name in names), name="training_frames_keypoints.csv")
        return folder

    def test_subjects_are_parsed_from_file_names(self, youtube):
        faces = read_youtube_faces(str(youtube))
        assert faces.subjects.tolist() == ["Ann_Lee", "Ann_Lee", "Bob"]
        assert faces.schema == IBUG68
        assert faces.name == "youtube-faces"
        assert "research" in faces.terms

    def test_a_file_name_without_a_subject_is_an_error(self, youtube):
        file = youtube / "training_frames_keypoints.csv"
        file.write_text(file.read_text().replace("Bob_51.jpg", "Bob.jpg"))
        (youtube / "training" / "Bob.jpg").write_text("")
        with pytest.raises(DataError, match=mentions(f"{file}:4", "Person_Name_VF.jpg")):
            read_youtube_faces(str(youtube))
        assert read_youtube_faces(str(youtube), skip_bad_rows=True).skipped == 1

    def test_a_missing_column_is_one_clear_line(self, youtube):
        file = youtube / "training_frames_keypoints.csv"
        file.write_text(file.read_text().replace(",57,", ",", 1))
        with pytest.raises(KpdetectError, match=mentions(f"{file}:1", "57")):
            read_youtube_faces(str(youtube))

    def test_other_points_are_an_error(self, youtube):
        write(youtube, GOOD, name="training_frames_keypoints.csv")
        with pytest.raises(KpdetectError, match=mentions("136")):
            read_youtube_faces(str(youtube))

    def test_a_folder_without_the_csv_is_an_error(self, youtube, tmp_path):
        for place in (tmp_path / "gone", tmp_path / "a.png"):
            with pytest.raises(KpdetectError, match=mentions(str(place))):
                read_youtube_faces(str(place))
        with pytest.raises(KpdetectError, match=mentions("test_frames_keypoints.csv", "a.png", "b.png")):
            read_youtube_faces(str(youtube), "published-test")
        with pytest.raises(KpdetectError, match=mentions("training", "published-test", "validation")):
            read_youtube_faces(str(youtube), "validation")

    def test_the_published_data_set(self, shared_data):
        place = shared_data / "youtube_faces"
        training = load(f"youtube-faces:{place}")
        test = load(f"youtube-faces-published-test:{place}")
        assert (len(training), len(test)) == (2847, 635)
        assert len(set(training.subjects.tolist())) == 287
        assert "leaks" in test.name
        assert set(test.subjects.tolist()) <= set(training.subjects.tolist())
        assert training.visible.all()
        assert training.read(training.paths[0]).shape[2] == 3

    def test_no_subject_of_the_published_set_is_in_two_splits(self, shared_data):
        faces = load(f"youtube-faces:{shared_data / 'youtube_faces'}")
        parts = split_by_subject(faces, 0.1, seed=0, test_fraction=0.1)
        people = [set(part.subjects.tolist()) for part in parts]
        assert sum(len(names) for names in people) == len(set().union(*people)) == 287
        assert sum(len(part) for part in parts) == len(faces)
        assert 0.05 < len(people[1]) / 287 < 0.15


class TestSpec:
    def test_csv_files_are_loaded_and_joined(self, folder):
        one = write(folder, GOOD, name="one.csv")
        two = write(folder, "b.png,5,6,7,8", "c.png,5,6,7,8", name="two.csv")
        faces = load(f"csv:{one}, csv:{two}")
        assert len(faces) == 3
        assert faces.name == "one.csv+two.csv"
        assert faces.read(faces.paths[2]).shape == (30, 40, 3)

    def test_errors_of_all_sets_are_reported_together(self, folder):
        one = write(folder, GOOD, "gone.png,1,2,3,4", name="one.csv")
        two = write(folder, "b.png,5,6,7,8", "c.png,5,6,7", name="two.csv")
        with pytest.raises(DataError) as caught:
            load(f"csv:{one},csv:{two}")
        assert [problem.split(": ")[0] for problem in caught.value.problems] == [f"{one}:2", f"{two}:2"]
        assert load(f"csv:{one},csv:{two}", skip_bad_rows=True).skipped == 2

    def test_sets_with_different_points_cannot_be_joined(self, folder):
        one, two = write(folder, GOOD, name="one.csv"), write(folder, "a.png,1,2,3,4,5,6", name="two.csv")
        with pytest.raises(KpdetectError, match=mentions("one.csv", "two.csv")):
            load(f"csv:{one},csv:{two}")

    def test_synthetic(self):
        faces = load("synthetic:3:7")
        assert (len(faces), faces.schema) == (3, IBUG68)
        assert not np.array_equal(faces.keypoints, load("synthetic:3").keypoints)
        np.testing.assert_array_equal(faces.keypoints, load("synthetic:3:7").keypoints)

    @pytest.mark.parametrize(
        ("spec", "parts"),
        [
            ("", ["KIND:PLACE"]),
            (" , ", ["KIND:PLACE"]),
            ("yotube-faces:x", ["yotube-faces", "youtube-faces"]),
            ("csv", ["csv:FILE"]),
            ("youtube-faces:", ["youtube-faces:DIR"]),
            ("synthetic:many", ["synthetic:many"]),
            ("synthetic:0", ["synthetic:0"]),
            ("synthetic:-3", ["synthetic:-3"]),
            ("synthetic:3:x", ["synthetic:3:x"]),
            ("csv:/no/such/file.csv", ["/no/such/file.csv"]),
        ],
    )
    def test_invalid_specs_are_errors(self, spec, parts):
        with pytest.raises(KpdetectError, match=mentions(*parts)):
            load(spec)


class TestAnnotations:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=20), st.integers(0, 99), st.randoms())
    def test_splits_keep_subjects_together_in_any_order(self, subjects, seed, random):
        if len(set(subjects)) < 3:
            return
        faces = drawn(len(subjects), subjects)
        parts = split_by_subject(faces, 0.3, seed, 0.3)
        people = [set(part.subjects.tolist()) for part in parts]
        assert sum(len(part) for part in parts) == len(faces)
        assert sum(len(names) for names in people) == len(set(subjects))
        assert people[1]
        assert people[2]
        order = list(range(len(faces)))
        random.shuffle(order)
        again = split_by_subject(faces.take(order), 0.3, seed, 0.3)
        assert [set(part.subjects.tolist()) for part in again] == people

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 99), st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
    def test_the_test_part_does_not_depend_on_the_validation_fraction(self, seed, test, val, other_val):
        faces = drawn(60, [str(index) for index in range(60)])
        (train, held, tested), (*_, again) = (split_by_subject(faces, share, seed, test) for share in (val, other_val))
        assert tested.subjects.tolist() == again.subjects.tolist()
        more = split_by_subject(faces, val, seed, min(test + 0.1, 0.5))[2]
        assert set(tested.subjects.tolist()) <= set(more.subjects.tolist())
        parts = [set(part.subjects.tolist()) for part in (train, held, tested)]
        assert set.union(*parts) == set(faces.subjects.tolist())
        assert sum(map(len, parts)) == 60

    @pytest.mark.parametrize("test_fraction", [0.0, 0.2])
    def test_a_split_rule_reproduces_the_split_of_the_training(self, test_fraction):
        faces = drawn(40, [str(index) for index in range(40)])
        rule = {"val_fraction": 0.25, "seed": 3, **({"test_fraction": test_fraction} if test_fraction else {})}
        expected = split_by_subject(faces, 0.25, 3, test_fraction)
        for part, right in zip(split_by_rule(faces, rule), expected, strict=True):
            assert part.subjects.tolist() == right.subjects.tolist()
        assert bool(len(expected[2])) == bool(test_fraction)

    def test_a_rule_that_names_subjects_has_no_test_part(self):
        faces = drawn(6, list("aabbcc"))
        train, val, test = split_by_rule(faces, {"val_subjects": ["b"]})
        assert (train.subjects.tolist(), val.subjects.tolist(), len(test)) == (list("aacc"), list("bb"), 0)
        for wrong in (["x"], list("abc")):
            with pytest.raises(KpdetectError, match=mentions(faces.name, *wrong)):
                split_by_rule(faces, {"val_subjects": wrong})

    def test_relabelling_is_applied_per_set_and_changes_keypoints_only(self, folder):
        one = write(folder, GOOD, name="one.csv")
        two = write(folder, "b.png,5,6,7,8", "c.png,5,6,7,8", name="two.csv")
        seen = []

        def relabel(faces: Annotations) -> Annotations:
            seen.append((faces.name, len(faces)))
            return dataclasses.replace(faces, keypoints=faces.keypoints + len(seen))

        given, moved = load(f"csv:{one},csv:{two}"), load(f"csv:{one},csv:{two}", relabel=relabel)
        assert seen == [("one.csv", 1), ("two.csv", 2)]
        np.testing.assert_array_equal(
            moved.keypoints - given.keypoints, np.float32([1, 2, 2])[:, None, None] + 0 * given.keypoints
        )
        np.testing.assert_array_equal(moved.boxes, given.boxes)

    def test_seeds_give_other_splits(self):
        faces = drawn(100, [str(index) for index in range(100)])
        splits = {tuple(split_by_subject(faces, 0.2, seed)[1].subjects.tolist()) for seed in range(5)}
        assert len(splits) == 5

    def test_impossible_splits_are_errors(self):
        with pytest.raises(KpdetectError, match=mentions("1", "--val-data")):
            split_by_subject(drawn(3, ["a"] * 3), 0.5)
        for val, test in ((1.0, 0.0), (-0.1, 0.0), (0.5, 0.5)):
            with pytest.raises(KpdetectError, match=mentions("[0, 1)", str(val), str(test))):
                split_by_subject(drawn(3, list("abc")), val, 0, test)

    def test_take_and_concatenate(self):
        faces = drawn(4, list("abcd"))
        assert faces.take([2, 0]).subjects.tolist() == ["c", "a"]
        assert faces.take(np.array([True, False, False, True])).subjects.tolist() == ["a", "d"]
        joined = concatenate([faces.take([0]), faces.take([1, 2, 3])])
        np.testing.assert_array_equal(joined.keypoints, faces.keypoints)
        assert len(faces.take([])) == 0

    def test_select_keeps_the_faces_and_their_boxes(self):
        faces = drawn(4, list("abcd"))
        left = faces.select(["left_eye"])
        assert left.schema.point_names == ("left_eye",)
        np.testing.assert_array_equal(left.keypoints, faces.keypoints[:, :1])
        np.testing.assert_array_equal(left.boxes, faces.boxes)
        assert (left.name, left.subjects.tolist()) == (faces.name, list("abcd"))
        swapped = faces.select(["right_eye", "left_eye"])
        np.testing.assert_array_equal(swapped.keypoints, faces.keypoints[:, ::-1])
        np.testing.assert_array_equal(faces.select(faces.schema.point_names).keypoints, faces.keypoints)
        with pytest.raises(KpdetectError, match=mentions("snout")):
            faces.select(["snout"])

    def test_arrays_of_wrong_shapes_are_errors(self):
        with pytest.raises(KpdetectError, match=mentions("subjects", "(3,)", "(2,)")):
            drawn(3, list("ab"))
