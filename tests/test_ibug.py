"""Tests of the readers of .pts files (1-based) and dlib's XML (0-based), also for hostile XML."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from counting import counted_calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from messages import lines_with, mentions

from kpdetect.core.errors import DataError, KpdetectError
from kpdetect.core.geometry import tight_box
from kpdetect.core.images import write_image
from kpdetect.core.schema import IBUG68
from kpdetect.data import align, drop_unlabelled, load, read_ibug, split_by_subject
from kpdetect.data.duplicates import DUPLICATE_OF
from kpdetect.data.readers.ibug import photograph_of

SIDES = ("left", "top", "width", "height")
SIZE_HW = (90, 120)
XML_HEAD = (
    "<?xml version='1.0' encoding='ISO-8859-1'?>\n<?xml-stylesheet type='text/xsl' href='look.xsl'?>\n<dataset>\n"
)


def points(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(5, 80, (68, 2))


def picture(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_image(folder / name, np.zeros((*SIZE_HW, 3), np.uint8))


def bare(keypoints: np.ndarray) -> list[str]:
    return [f"{x} {y}" for x, y in keypoints]


def wrapped(keypoints: np.ndarray) -> list[str]:
    return ["version: 1", f"n_points:  {len(keypoints)}", "{", *bare(keypoints), "}"]


def put_pts(folder: Path, name: str, lines: list[str], end: str = "\n") -> None:
    picture(folder, f"{name}.png")
    (folder / f"{name}.pts").write_bytes((end.join(lines) + end).encode())


def parts(keypoints: np.ndarray) -> str:
    return "\n".join(f"<part name='{index:02d}' x='{x}' y='{y}'/>" for index, (x, y) in enumerate(keypoints))


def box(content: str = "", attributes: str = "top='10' left='20' width='31' height='41'") -> str:
    return f"<box {attributes}>\n{content}</box>\n"


def image(*boxes: str, file: str = "a.png", size: str = "width='120' height='90'") -> str:
    return f"<image file='{file}' {size}>\n{''.join(boxes)}</image>\n"


def put_xml(folder: Path, *images: str, head: str = XML_HEAD, encoding: str = "latin-1") -> str:
    file = folder / "faces.xml"
    text = f"{head}<name>iBUG face point dataset</name>\n<images>\n{''.join(images)}</images>\n</dataset>\n"
    file.write_bytes(text.encode(encoding))
    return str(file)


def problems_of(place: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_ibug(str(place))
    return list(caught.value.problems)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        picture(tmp_path, name)
    return tmp_path


class TestPts:
    @pytest.mark.parametrize("layout", [bare, wrapped])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_points_count_from_1(self, tmp_path, layout, end):
        put_pts(tmp_path, "a", layout(points()), end)
        faces = read_ibug(str(tmp_path))
        np.testing.assert_array_equal(faces.keypoints[0], points() - 1)
        np.testing.assert_array_equal(faces.boxes, tight_box(faces.keypoints))
        assert faces.schema == IBUG68
        assert faces.visible.all()
        assert "300-W" in faces.terms

    def test_folders_at_any_depth(self, tmp_path):
        for name in ("lfpw/trainset/image_0001", "afw/123456_1", "top", "a/b/c/d/deep"):
            put_pts(tmp_path, name, wrapped(points()))
        faces = load(f"ibug:{tmp_path}")
        assert len(faces) == 4
        assert faces.read(str(faces.paths[0])).shape == (*SIZE_HW, 3)
        assert set(faces.subjects.tolist()) == {"trainset/image_0001", "123456", f"{tmp_path.name}/top", "d/deep"}

    @pytest.mark.parametrize(
        ("lines", "place", "parts"),
        [
            (bare(points())[:67], ":67:", ("68", "ibug68", "67")),
            ([*bare(points()), "1 2"], ":69:", ("68", "ibug68", "69")),
            (wrapped(points()[:67]), ":2:", ("n_points", "68", "ibug68", "67")),
            ([*wrapped(points())[:70], "}"], ":70:", ("68", "ibug68", "67")),
            (wrapped(points())[:-1], ":71:", ("{", "}")),
            (["}", *bare(points()), "{"], ":70:", ("{", "}")),
            (["nan 1", *bare(points())[1:]], ":1:", ("nan 1",)),
            (["1", *bare(points())[1:]], ":1:", ("'1'",)),
            (["1 2 3", *bare(points())[1:]], ":1:", ("1 2 3",)),
            (["1 1e99", *bare(points())[1:]], ":1:", ("1 1e99",)),
            ([""], ":", ("68", "ibug68", "0")),
            (bare(np.full((68, 2), 7)), ": ", ("bad.pts",)),
        ],
    )
    def test_an_error_names_the_file_and_line_and_the_file_can_be_skipped(self, tmp_path, lines, place, parts):
        put_pts(tmp_path, "good", bare(points()))
        put_pts(tmp_path, "bad", lines)
        (found,) = problems_of(tmp_path)
        assert found.startswith(f"{tmp_path}/bad.pts{place}")
        assert lines_with(found, *parts)
        faces = read_ibug(str(tmp_path), skip_bad_rows=True)
        assert (len(faces), faces.skipped) == (1, 1)

    def test_all_errors_are_reported_together(self, tmp_path):
        put_pts(tmp_path, "a", ["x 1", "2", *bare(points())[2:]])
        put_pts(tmp_path, "b", bare(points()))
        (tmp_path / "b.png").unlink()
        found = problems_of(tmp_path)
        assert [problem.removeprefix(f"{tmp_path}/").split(": ")[0] for problem in found] == [
            "a.pts:1",
            "a.pts:2",
            "b.pts",
        ]
        assert "b.jpg" in found[2]

    def test_folders_without_points_are_errors(self, folder):
        with pytest.raises(KpdetectError, match=mentions(str(folder), ".pts", ".png")):
            read_ibug(str(folder))
        put_xml(folder, image(box()))
        with pytest.raises(KpdetectError, match=mentions(str(folder), "XML")):
            read_ibug(str(folder))
        with pytest.raises(KpdetectError, match=mentions(str(folder / "gone"), ".pts", "XML")):
            read_ibug(str(folder / "gone"))
        with pytest.raises(KpdetectError, match=mentions("ibug:DIR_OR_XML")):
            load("ibug:")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text(st.sampled_from("0123. -{}\n\tn:x\x00é"), max_size=80))
    def test_no_text_whatever_ends_in_a_traceback(self, folder, text):
        (folder / "a.pts").write_bytes(text.encode())
        assert all(f"{folder}/a.pts" in problem for problem in problems_of(folder))


class TestXml:
    def test_points_count_from_0_and_the_box_is_their_tight_box(self, folder):
        faces = read_ibug(
            put_xml(
                folder, image(box(parts(points())), box(parts(points(1)))), image(box(parts(points(2))), file="b.png")
            )
        )
        np.testing.assert_array_equal(faces.keypoints, [points(), points(1), points(2)])
        np.testing.assert_array_equal(faces.boxes, tight_box(faces.keypoints))
        assert [Path(path).name for path in faces.paths] == ["a.png", "a.png", "b.png"]
        assert faces.subjects[0] == faces.subjects[1] != faces.subjects[2]
        assert "300-W" in faces.terms

    def test_parts_may_be_in_any_order(self, folder):
        lines = parts(points()).splitlines()
        faces = read_ibug(put_xml(folder, image(box("\n".join(reversed(lines))))))
        np.testing.assert_array_equal(faces.keypoints[0], points())

    def test_a_box_without_parts_is_an_unlabelled_face(self, folder):
        faces = read_ibug(put_xml(folder, image(box(), box(parts(points())))))
        assert faces.visible.any(axis=1).tolist() == [False, True]
        # 31 x 41 pixels, from the centre of the first to that of the last.
        assert faces.boxes[0].tolist() == [20, 10, 50, 50]
        assert np.isfinite(faces.keypoints).all()

    def test_ignored_boxes_are_left_out(self, folder):
        ignored = box(attributes="top='x' ignore='1'")
        faces = read_ibug(put_xml(folder, image(ignored, box(), ignored), image(ignored, file="gone.png")))
        assert (len(faces), faces.skipped) == (1, 0)
        with pytest.raises(KpdetectError, match=mentions("faces.xml", "1")):
            read_ibug(put_xml(folder, image(ignored)))

    @pytest.mark.parametrize(
        ("head", "encoding"),
        [
            (XML_HEAD, "latin-1"),
            ("<dataset>", "utf-8"),
            ("<?xml version='1.0' encoding='windows-1252'?><dataset>", "cp1252"),
        ],
    )
    def test_file_names_in_any_language(self, folder, head, encoding):
        picture(folder, "Bärbel.png")
        faces = read_ibug(put_xml(folder, image(box(), file="Bärbel.png"), head=head, encoding=encoding))
        assert Path(faces.paths[0]).name == "Bärbel.png"

    def test_the_image_size_is_read_from_the_file_if_the_xml_lacks_it(self, folder):
        assert len(read_ibug(put_xml(folder, image(box(), size="")))) == 1
        beyond = box(attributes="top='100' left='20' width='31' height='41'")
        assert lines_with(problems_of(put_xml(folder, image(beyond, size="")))[0], "120", "90")

    @pytest.mark.parametrize(
        ("content", "place", "parts"),
        [
            (box(attributes="top='1' left='2' width='9'"), ":7:", (*SIDES, "['2', '1', '9', '']")),
            (box(attributes="top='1' left='nan' width='9' height='9'"), ":7:", (*SIDES, "['nan', '1', '9', '9']")),
            (box(attributes="top='1' left='2' width='0' height='9'"), ":7:", ("2", "0")),
            (box(attributes="top='1' left='120' width='9' height='9'"), ":7:", ("120", "90", "128", "1", "9")),
            (box(attributes="top='-9' left='2' width='9' height='9'"), ":7:", ("120", "90", "2", "10", "-9", "-1")),
            (box(parts(points() + 500)), ":7:", ("120", "90")),
            (box(parts(points()[:67])), ":7:", ("68", "ibug68", "67")),
            (box(parts(points()).replace("'00'", "'68'")), ":8:", ("00", "67", "68")),
            (box(parts(points()).replace("'00'", "'01'")), ":7:", ("00", "67")),
            (box(parts(points()).replace("x='", "x='nan", 1)), ":8:", ("x", "y")),
            (box("<part name='00'/>" * 68), ":8:", ("x", "y", "' '")),
            (box(parts(np.full((68, 2), 7))), ":7:", ("faces.xml",)),
        ],
    )
    def test_an_invalid_box_is_named_with_its_line_and_can_be_skipped(self, folder, content, place, parts):
        file = put_xml(folder, image(content), image(box(), file="b.png"))
        found = problems_of(file)[0]
        assert found.startswith(f"{file}{place}")
        assert lines_with(found, *parts)
        faces = read_ibug(file, skip_bad_rows=True)
        assert (len(faces), faces.skipped) == (1, 1)

    def test_all_errors_are_reported_together_and_those_of_a_photograph_once(self, folder):
        bad = box(attributes="top='1'")
        (folder / "text.png").write_text("no image")
        images = image(box(), bad, file="gone.png"), image(box(), file="text.png", size=""), image(file="nobody.png")
        file = put_xml(folder, *images)
        found = problems_of(file)
        assert [problem.removeprefix(file).split(": ")[0] for problem in found] == [":6", ":9", ":12"]
        assert f"{folder}/gone.png" in found[0]
        assert "8 bytes" in found[2]


class TestStrangersXml:
    def test_an_entity_bomb_is_refused(self, folder):
        laughs = "".join(f"<!ENTITY l{i} '{f'&l{i - 1};' * 10}'>\n" for i in range(1, 40))
        doctype = f"<!DOCTYPE dataset [<!ENTITY l0 'ha'>\n{laughs}]>"
        head = f"<?xml version='1.0'?>\n{doctype}\n<dataset><comment>&l39;</comment>"
        file = put_xml(folder, image(box()), head=head)
        with pytest.raises(KpdetectError, match=mentions("faces.xml:2", "DOCTYPE")), counted_calls() as counts:
            read_ibug(file)
        assert 0 < counts["call"] + counts["c_call"] < 1000  # its last entity would expand to 10**39 strings

    @pytest.mark.parametrize(
        "doctype",
        [
            "<!DOCTYPE dataset [<!ENTITY secret SYSTEM 'file://{file}'>]>",
            "<!DOCTYPE dataset [<!ENTITY % more SYSTEM 'file://{file}'> %more;]>",
            "<!DOCTYPE dataset SYSTEM 'file://{file}'>",
            "<!DOCTYPE dataset>",
        ],
    )
    def test_external_entities_are_not_read(self, folder, doctype):
        secret = folder / "secret.txt"
        os.mkfifo(secret)  # opening it would block
        head = f"<?xml version='1.0'?>\n{doctype.format(file=secret)}\n<dataset><comment>&secret;</comment>"
        with pytest.raises(KpdetectError, match=mentions("faces.xml:2", "DOCTYPE")):
            read_ibug(put_xml(folder, image(box()), head=head))

    @pytest.mark.parametrize(
        ("text", "place", "parts"),
        [  # the message is that of Expat
            (b"", ":1", ("no element found",)),
            (b"<dataset><images>\n<image", ":2", ("unclosed token",)),
            (b"<dataset>\n</images>", ":2", ("mismatched tag",)),
            (b"<dataset>\n&lol;</dataset>", ":2", ("undefined entity",)),
            (b"<dataset>\xff</dataset>", ":1", ("not well-formed",)),
            (b"\x89PNG\r\n", ":1", ("XML",)),
            (b"<html/>", ":1", ("<dataset>", "<html>")),
            (b"<dataset>\n<box/></dataset>", ":2", ("<box>", "<image>", "<dataset>")),
            (b"<dataset><image>\n<part/></image></dataset>", ":2", ("<part>", "<box>", "<image>")),
            (b"<?xml version='1.0' encoding='klingon'?><dataset/>", ":1", ("UTF-8", "ISO-8859-1")),
            (b"<?xml version='1.0' encoding='utf-7'?><dataset/>", ":1", ("UTF-8", "ISO-8859-1")),
            (b"<dataset/>", "", ("0",)),
        ],
    )
    def test_other_xml_is_a_one_line_error(self, folder, text, place, parts):
        (folder / "faces.xml").write_bytes(text)
        with pytest.raises(KpdetectError, match=mentions(f"faces.xml{place}", *parts)) as caught:
            read_ibug(str(folder / "faces.xml"))
        assert "\n" not in str(caught.value)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        pieces=st.lists(
            st.sampled_from(
                [
                    "<image file='a.png'>",
                    "</image>",
                    "<box top='1'>",
                    "<box",
                    "</box>",
                    "<part/>",
                    "x",
                    "&a;",
                    "<!",
                    "é",
                ]
            )
        )
    )
    def test_no_text_whatever_ends_in_a_traceback(self, folder, pieces):
        (folder / "faces.xml").write_text(f"<dataset>{''.join(pieces)}</dataset>", encoding="utf-8")
        with pytest.raises(KpdetectError, match=r"faces\.xml"):
            read_ibug(str(folder / "faces.xml"))


class TestPhotographs:
    @pytest.mark.parametrize(
        ("path", "photograph"),
        [
            ("x/afw/111076519_1.jpg", "111076519"),
            ("y/111076519_2_mirror.jpg", "111076519"),
            ("afw_photos/111076519.jpg", "111076519"),
            ("helen/trainset/110520830_6.jpg", "110520830"),
            ("lfpw/trainset/image_0805.png", "trainset/image_0805"),
            ("lfpw/trainset/image_0805_mirror.png", "trainset/image_0805"),
            ("lfpw/testset/image_0805.png", "testset/image_0805"),
            ("ibug/image_092_01.jpg", "ibug/image_092"),
            ("dlib_faces/2007_007763.jpg", "dlib_faces/2007_007763"),
        ],
    )
    def test_subjects_of_300w_file_names(self, path, photograph):
        assert photograph_of(path) == photograph

    def test_faces_of_one_photograph_are_in_one_split(self, tmp_path):
        names = [
            f"{1000000 + photo}_{face}{copy}" for photo in range(20) for face in (1, 2) for copy in ("", "_mirror")
        ]
        for name in names:
            put_pts(tmp_path, name, bare(points()))
        parts_of_split = split_by_subject(read_ibug(str(tmp_path)), 0.3, seed=1)[:2]
        sides = [{Path(path).name[:7] for path in part.paths.tolist()} for part in parts_of_split]
        assert sides[0] | sides[1] == {str(1000000 + photo) for photo in range(20)}
        assert not sides[0] & sides[1]


class TestCopies:
    def test_duplicates_have_the_subject_of_the_first(self):
        assert not set(DUPLICATE_OF) & set(DUPLICATE_OF.values())
        for copy, first in DUPLICATE_OF.items():
            assert photograph_of(place_of(copy)) == photograph_of(place_of(first)) == first

    def test_duplicates_are_in_the_training_part_only(self):
        """LFPW numbers its test photographs separately."""
        for copy in DUPLICATE_OF:
            tested = place_of(copy).replace("trainset", "testset")
            if tested != place_of(copy):
                assert photograph_of(tested) == copy.replace("trainset", "testset")

    def test_duplicates_are_recognized_with_any_suffix_and_if_mirrored(self):
        places = [
            "a/lfpw/trainset/image_0052.png",
            "b/trainset/image_0003_mirror.jpg",
            "trainset/image_0052_mirror.png",
        ]
        assert {photograph_of(place) for place in places} == {"trainset/image_0003"}
        assert {photograph_of(f"afw/{name}.jpg") for name in ("1425648903_1", "1420413841_2_mirror")} == {"1420413841"}

    @pytest.mark.parametrize("seed", range(5))
    def test_no_split_separates_duplicates(self, tmp_path, seed):
        photographs = sorted({*list(DUPLICATE_OF)[:30], *list(DUPLICATE_OF.values())[:30]})
        for photograph in photographs:
            put_pts(tmp_path, place_of(photograph).removesuffix(".png"), bare(points()))
        faces = read_ibug(str(tmp_path))
        assert len(faces) == len(photographs)
        parts_of_split = split_by_subject(faces, 0.3, seed, 0.3)
        groups = [{photograph_of(path) for path in part.paths.tolist()} for part in parts_of_split]
        assert sum(map(len, groups)) == len(set.union(*groups)) == len(set(faces.subjects.tolist()))
        assert all(groups)


def place_of(photograph: str) -> str:
    """The path of a photograph of 300-W."""
    return f"lfpw/{photograph}.png" if "/" in photograph else f"afw/{photograph}_1.png"


class TestFacesWithoutPoints:
    def test_unlabelled_faces_are_left_out_if_points_are_needed(self, folder, capsys):
        faces = read_ibug(put_xml(folder, image(box(), box(parts(points())))))
        assert len(drop_unlabelled(faces, "train")) == 1
        assert lines_with(capsys.readouterr().err, "1", "2")
        full = faces.take([1])
        assert drop_unlabelled(full, "train") is full

    def test_alignment_keeps_unlabelled_faces_unchanged(self, folder):
        faces = read_ibug(put_xml(folder, image(box(), box(parts(points())))))
        aligned = align(faces)
        np.testing.assert_array_equal(aligned.keypoints[0], faces.keypoints[0])
        assert (aligned.keypoints[1, :, 0] < faces.keypoints[1, :, 0]).all()

    def test_a_set_without_labels_is_an_error(self, folder):
        faces = read_ibug(put_xml(folder, image(box(), box())))
        with pytest.raises(KpdetectError, match=mentions(faces.name, "train", "2")):
            drop_unlabelled(faces, "train")

    def test_unlabelled_faces_are_not_used_for_training_or_evaluation(self, folder):
        from small_models import small_spec

        from kpdetect.core.geometry import CropRule
        from kpdetect.data.augmentation import CenterCrop
        from kpdetect.data.pipeline import BatchOptions, FaceFraming, build_cache, training_batches
        from kpdetect.evaluation.evaluator import evaluate

        names = small_spec().schema.point_names
        faces = read_ibug(put_xml(folder, image(box())))
        cache = build_cache(faces, FaceFraming(CropRule((16, 16), 1.3)), 1)
        with pytest.raises(KpdetectError, match=mentions("batches", "visible")):
            training_batches(cache, [CenterCrop((16, 16))], IBUG68, BatchOptions((16, 16), 1))
        some = faces.select(IBUG68.point_names[: len(names)])
        spec = dataclasses.replace(small_spec(), schema=some.schema)
        with pytest.raises(KpdetectError, match=mentions(some.name)):
            evaluate(lambda crops: np.zeros((len(crops), len(names), 2), np.float32), some, spec)


class TestRealData:
    @pytest.mark.slow
    def test_the_folders_and_the_xml_agree(self, shared_data):
        folder = shared_data / "ibug_300w"
        pts, xml = load(f"ibug:{folder}"), load(f"ibug:{folder}/labels_ibug_300W_train.xml")
        assert len(pts) == len(xml) == 2009
        rows = {os.path.relpath(path, folder): row for row, path in enumerate(xml.paths.tolist())}
        same = xml.take([rows[os.path.relpath(path, folder)] for path in pts.paths.tolist()])
        assert same.subjects.tolist() == pts.subjects.tolist()
        difference = same.keypoints - pts.keypoints
        assert np.abs(difference).max() < 0.51  # the XML has integers
        assert np.abs(difference.mean(axis=(0, 1))).max() < 0.01
        counts = [sum(f"/{part}/" in path for path in pts.paths.tolist()) for part in ("afw", "helen", "lfpw")]
        assert counts == [337, 870, 802]

    def test_unlabelled_faces(self, shared_data):
        faces = load(f"ibug:{shared_data}/ibug_300w/labels_ibug_300W_test_parsed.xml")
        assert len(faces) == 101
        assert not faces.visible.any()
        assert (faces.boxes[:, 2:] > faces.boxes[:, :2]).all()

    def test_faces_of_dlib_and_whole_photographs(self, shared_data):
        dlib = [
            load(f"ibug:{shared_data}/dlib_faces/{part}_with_face_landmarks.xml") for part in ("testing", "training")
        ]
        assert sum(len(part) for part in dlib) == 43
        assert len({path for part in dlib for path in part.paths.tolist()}) == 9
        assert all("predictor" in part.terms for part in dlib)
        afw = load(f"ibug:{shared_data}/afw_photos/labels.xml")
        assert len(set(afw.paths.tolist())) == len(set(afw.subjects.tolist())) == 60
        cut = load(f"ibug:{shared_data}/ibug_300w/afw")
        assert set(afw.subjects.tolist()) <= set(cut.subjects.tolist())
