"""Tests of keypoint schemas: names, groups, flip permutations, subsets and normalisers."""

import dataclasses
import json

import numpy as np
import pytest
from messages import mentions

from kpdetect.core.errors import KpdetectError
from kpdetect.core.schema import IBUG68, IMM58, SCHEMAS, KeypointSchema, flip_permutation_from_names, user_schema


def mirrored(keypoints: np.ndarray, schema: KeypointSchema) -> np.ndarray:
    return (keypoints * (-1, 1))[list(schema.flip_permutation)]


def test_ibug68_has_the_standard_points():
    assert IBUG68.num_keypoints == 68
    known = {"chin": 8, "nose_tip": 30, "nose_base": 33, "right_eye_outer": 36, "right_eye_inner": 39}
    known |= {"left_eye_inner": 42, "left_eye_outer": 45, "mouth_right": 48, "mouth_left": 54}
    assert {name: IBUG68.index(name) for name in known} == known
    assert IBUG68.normalizer_points == (36, 45)
    assert IBUG68.normalizer_name == "inter-ocular"


def test_ibug68_mirror_pairs_known_from_the_literature():
    pairs = [(0, 16), (7, 9), (8, 8), (17, 26), (21, 22), (27, 27), (31, 35), (36, 45), (37, 44), (39, 42), (40, 47)]
    pairs += [(41, 46), (48, 54), (50, 52), (51, 51), (55, 59), (57, 57), (60, 64), (61, 63), (65, 67), (66, 66)]
    for one, other in pairs:
        assert IBUG68.flip_permutation[one] == other
        assert IBUG68.flip_permutation[other] == one


def test_imm58_has_the_points_of_its_images():
    assert IMM58.num_keypoints == 58
    known = {"chin": 6, "left_eye_outer": 13, "left_eye_inner": 17, "right_eye_outer": 21, "right_eye_inner": 25}
    known |= {"mouth_right": 39, "mouth_left": 43, "upper_lip_top": 41, "lower_lip_bottom": 45, "nose_tip": 52}
    assert {name: IMM58.index(name) for name in known} == known
    assert IMM58.normalizer_points == (21, 13)
    assert IMM58.normalizer_name == "inter-ocular"


def test_imm58_mirror_pairs_of_its_images():
    pairs = [(0, 12), (5, 7), (6, 6), (13, 21), (15, 23), (17, 25), (18, 26), (20, 28), (29, 34), (33, 38)]
    pairs += [(39, 43), (40, 42), (41, 41), (44, 46), (45, 45), (47, 57), (49, 55), (51, 53), (52, 52)]
    for one, other in pairs:
        assert IMM58.flip_permutation[one] == other
        assert IMM58.flip_permutation[other] == one


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_regions_are_disjoint_and_complete(schema):
    for parts in (schema.regions, schema.groups):
        covered = sorted(index for part in parts.values() for index in part)
        assert covered == list(range(schema.num_keypoints))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_groups_are_swapped_by_the_mirror(schema):
    swap = schema.flip_permutation
    for right in ("right_eye", "right_eyebrow"):
        left = right.replace("right", "left")
        assert sorted(swap[index] for index in schema.groups[right]) == sorted(schema.groups[left])
    for part in schema.regions.values():
        assert sorted(swap[index] for index in part) == sorted(part)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_mirroring_twice_is_the_identity(schema):
    keypoints = np.random.default_rng(0).normal(size=(schema.num_keypoints, 2))
    np.testing.assert_array_equal(mirrored(mirrored(keypoints, schema), schema), keypoints)


@pytest.mark.parametrize("data", ["youtube-faces:youtube_faces", "imm:imm_face_db", "ibug:ibug_300w"])
def test_published_faces_are_almost_mirror_symmetric(shared_data, data):
    from kpdetect.data import load

    kind, _, place = data.partition(":")
    faces = load(f"{kind}:{shared_data / place}")
    centred = faces.keypoints - faces.keypoints.mean(axis=1, keepdims=True)
    mean = (centred / faces.schema.normalizers(faces.keypoints)[:, None, None]).mean(axis=0)
    # A wrong pair would differ by a large part of the eye distance.
    assert np.linalg.norm(mirrored(mean, faces.schema) - mean, axis=1).max() < 0.1


def test_a_single_point_is_a_scheme():
    nose = IMM58.subset(["nose_tip"])
    assert nose.point_names == ("nose_tip",)
    assert nose.flip_permutation == (0,)
    assert nose.normalizer_points is None
    assert nose.normalizer_name == "crop-width"
    assert dict(nose.groups) == dict(nose.regions) == {"nose": (0,)}
    assert nose.name != IMM58.name


@pytest.mark.parametrize("schema", [schema for schema in SCHEMAS.values() if "chin" in schema.point_names])
def test_a_subset_keeps_groups_and_edges_that_are_complete(schema):
    corners = schema.subset(["left_eye_outer", "right_eye_outer", "chin"])
    assert corners.flip_permutation == (1, 0, 2)
    assert corners.normalizer_points == (1, 0)
    assert corners.normalizer_name == "inter-ocular"
    assert corners.groups["jaw"] == (2,)
    one_sided = schema.subset(["left_eye_outer", "chin"])
    assert one_sided.flip_permutation is None
    assert one_sided.normalizer_name == "box"


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_subset_of_all_points_and_reversing_twice_are_the_identity(schema):
    assert schema.subset(schema.point_names) is schema
    again = schema.subset(schema.point_names[::-1]).subset(schema.point_names)
    assert again.flip_permutation == schema.flip_permutation
    assert again.normalizer_points == schema.normalizer_points
    assert {name: sorted(part) for name, part in again.groups.items()} == {
        name: sorted(part) for name, part in schema.groups.items()
    }


@pytest.mark.parametrize(
    ("names", "parts"), [((), ["()"]), (("chin", "chin"), ["('chin', 'chin')"]), (("chin", "horn"), ["imm58", "horn"])]
)
def test_invalid_subsets_are_errors(names, parts):
    with pytest.raises(KpdetectError, match=mentions(*parts)):
        IMM58.subset(names)


def test_normalizers_by_hand():
    face = np.zeros((1, 68, 2), np.float32)
    face[0, 45] = (30, 40)
    assert IBUG68.normalizers(face).tolist() == [50]
    plain = user_schema(["a", "b", "c"])
    assert plain.normalizer_name == "box"
    assert plain.normalizers([[[0, 0], [4, 9], [2, 3]]]).tolist() == [6]  # sqrt(4 * 9)
    single = user_schema(["nose"])
    assert single.normalizer_name == "crop-width"
    assert single.normalizers([[[1, 2]], [[3, 4]]], crop_width=80).tolist() == [80, 80]
    with pytest.raises(KpdetectError, match=mentions(single.name, "crop")):
        single.normalizers([[[1, 2]]])


def test_user_schemes_have_a_flip_by_side_names():
    assert user_schema(["left_eye", "nose", "right_eye"]).flip_permutation == (2, 1, 0)
    assert user_schema(["p0", "p1"]).flip_permutation is None
    assert user_schema(["left_eye", "nose"]).flip_permutation is None  # no partner
    assert user_schema(["nose"]).flip_permutation == (0,)
    with pytest.raises(KpdetectError, match=mentions("left_eye")):
        flip_permutation_from_names(["left_eye", "nose"])


@pytest.mark.parametrize("schema", [*SCHEMAS.values(), user_schema(["left_a", "right_a", "b"]), user_schema(["p0"])])
def test_json_round_trip(schema):
    assert KeypointSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_schemes_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        IBUG68.name = "other"
    with pytest.raises(TypeError):
        IBUG68.groups["jaw"] = ()


@pytest.mark.parametrize(
    ("wrong", "mentioned"),
    [
        ({"point_names": ()}, ["()"]),
        ({"point_names": ("a", "a")}, ["('a', 'a')"]),
        ({"flip_permutation": (0, 0)}, ["(0, 0)"]),
        ({"flip_permutation": (0,)}, ["(0,)"]),
        ({"groups": {"g": (2,)}}, ["0..1"]),
        ({"normalizer_points": (0, 5)}, ["0..1"]),
    ],
)
def test_inconsistent_fields_are_errors(wrong, mentioned):
    parts = {"name": "x", "point_names": ("a", "b"), **wrong}
    with pytest.raises(KpdetectError, match=mentions("x", *mentioned)):
        KeypointSchema(**parts)


def test_a_flip_that_is_a_cycle_is_an_error():
    with pytest.raises(KpdetectError, match=mentions("x", "(1, 2, 0)")):
        KeypointSchema("x", ("a", "b", "c"), flip_permutation=(1, 2, 0))


def test_unknown_points_are_errors():
    with pytest.raises(KpdetectError, match=mentions("ibug68", "snout")):
        IBUG68.index("snout")
