"""YuNet: a network file of its layout in OpenCV, and face boxes from its five points."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import lines_with, mentions
from onnx import TensorProto, helper, numpy_helper

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import apply_matrix, intersection_over_union, rotation, scaling, translation
from kpdetect.core.images import write_image
from kpdetect.core.schema import IBUG68
from kpdetect.data import load
from kpdetect.detection import YuNetDetector
from kpdetect.detection.yunet import boxes_of_five_points
from kpdetect.predict import Predictor, main

CELL = 8  # stride of the finest of YuNet's three levels in pixels
FIVE = np.array([[-2.0, -2.0], [2.0, -2.0], [0.5, 0.0], [-1.5, 2.0], [1.5, 2.0]])
"""Points of the fake network's faces, in cells relative to the cell that detects them."""


def stand_in(path, of_yunet=True):
    """A network with YuNet's inputs and outputs that detects red cells of the finest level as faces.

    Its outputs are linear in the mean colour of a cell; OpenCV decodes them.
    """
    nodes, constants, outputs = [], [], []
    for stride in (8, 16, 32):
        nodes.append(
            helper.make_node(
                "AveragePool", ["input"], [f"mean_{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            )
        )
        red = np.float32([0, 0, 1 / 255]) if stride == CELL else np.zeros(3, np.float32)  # OpenCV's channel order
        said = {
            "cls": ([red], [0.0]),
            "obj": ([red], [0.0]),
            "bbox": (np.zeros((4, 3)), [0.0, 0.0, np.log(6), np.log(6)]),
            "kps": (np.zeros((10, 3)), FIVE.ravel()),
        }
        for name, (weights, bias) in said.items():
            output = f"{name}_{stride}"
            kernel = np.asarray(weights, np.float32)[:, :, None, None]
            constants += [numpy_helper.from_array(kernel, f"{output}_w")]
            constants += [numpy_helper.from_array(np.asarray(bias, np.float32), f"{output}_b")]
            nodes.append(helper.make_node("Conv", [f"mean_{stride}", f"{output}_w", f"{output}_b"], [f"{output}_map"]))
            nodes.append(helper.make_node("Transpose", [f"{output}_map"], [f"{output}_last"], perm=[0, 2, 3, 1]))
            constants.append(numpy_helper.from_array(np.array([1, -1, len(kernel)], np.int64), f"{output}_shape"))
            nodes.append(helper.make_node("Reshape", [f"{output}_last", f"{output}_shape"], [output]))
            outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, None, len(kernel)]))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])
    graph = helper.make_graph(nodes, "stand_in", [image], outputs if of_yunet else outputs[:1], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return stand_in(tmp_path_factory.mktemp("yunet") / "yunet.onnx")


def with_red_cell(width, height, column, row, cell=CELL):
    image = np.zeros((height, width, 3), np.uint8)
    image[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell, 0] = 255
    return image


def expected_box(column, row, scale=1.0):
    return boxes_of_five_points(((FIVE + np.array([column, row])) * CELL * scale - 0.5)[None])


@pytest.mark.parametrize("size", [(160, 160), (200, 104), (97, 131)])
def test_a_face_is_at_its_cell(file, size):
    found = YuNetDetector(file)(with_red_cell(*size, column=7, row=5))
    assert (found.shape, found.dtype) == ((1, 4), np.float32)
    np.testing.assert_allclose(found, expected_box(7, 5), atol=0.02)


def test_large_photographs_are_reduced_and_boxes_scaled_back(file):
    found = YuNetDetector(file, longest_side=320)(with_red_cell(1280, 960, 20, 10, cell=4 * CELL))
    np.testing.assert_allclose(found, expected_box(20, 10, scale=4), atol=0.1)


def test_several_faces_and_no_face(file):
    image = with_red_cell(400, 200, 5, 5) | with_red_cell(400, 200, 40, 12)
    assert YuNetDetector(file)(image).shape == (2, 4)
    assert YuNetDetector(file)(np.zeros((200, 400, 3), np.uint8)).shape == (0, 4)
    assert YuNetDetector(file, min_score=0.9)(image // 2).shape == (0, 4)


def test_a_predictor_accepts_yunet(file):
    faces = Predictor(detector=YuNetDetector(file), min_score=0)(with_red_cell(160, 160, 7, 5))
    np.testing.assert_allclose(faces[0].detection_box, expected_box(7, 5)[0], atol=0.02)


def test_other_files_are_errors(tmp_path):
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "nowhere.onnx"), "YuNet")):
        YuNetDetector(tmp_path / "nowhere.onnx")
    (tmp_path / "letter.onnx").write_bytes(b"no network")
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "letter.onnx"), "YuNet")):
        YuNetDetector(tmp_path / "letter.onnx")
    other = YuNetDetector(stand_in(tmp_path / "other.onnx", of_yunet=False))
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "other.onnx"), "YuNet")):
        other(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize(("min_score", "longest_side"), [(-0.1, 640), (1.1, 640), (float("nan"), 640), (0.5, 31)])
def test_options_out_of_range_are_errors(file, min_score, longest_side):
    with pytest.raises(KpdetectError, match=mentions("min_score", str(min_score), str(longest_side))):
        YuNetDetector(file, min_score, longest_side)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 50), st.floats(-500, 500), st.floats(-500, 500))
def test_boxes_move_with_their_points(factor, dx, dy):
    matrix = translation(dx, dy) @ scaling(factor)
    moved = boxes_of_five_points(apply_matrix(matrix, FIVE[None]))
    corners = boxes_of_five_points(FIVE[None]).reshape(1, 2, 2)
    np.testing.assert_allclose(moved.reshape(1, 2, 2), apply_matrix(matrix, corners), rtol=1e-3, atol=1e-2)


def test_a_mirrored_face_has_the_mirrored_box():
    mirrored = FIVE * (-1, 1)
    box, other = boxes_of_five_points(np.stack([FIVE, mirrored[[1, 0, 2, 4, 3]]]))
    np.testing.assert_allclose(other, box[[2, 1, 0, 3]] * (-1, 1, -1, 1), atol=1e-5)


def test_a_rotated_face_keeps_its_box_size_and_relative_centre():
    turned = boxes_of_five_points(apply_matrix(rotation(30, (0.0, 0.0)), FIVE[None]))[0]
    upright = boxes_of_five_points(FIVE[None])[0]
    np.testing.assert_allclose(turned[2:] - turned[:2], upright[2:] - upright[:2], rtol=1e-4)
    middle = apply_matrix(rotation(30, (0.0, 0.0)), [(upright[:2] + upright[2:]) / 2])[0]
    np.testing.assert_allclose((turned[:2] + turned[2:]) / 2, middle, atol=1e-4)


def test_coincident_points_give_a_box_without_warning():
    assert np.isfinite(boxes_of_five_points(np.zeros((1, 5, 2)))).all()


def five_of(keypoints):
    eyes = [keypoints[:, list(IBUG68.groups[name])].mean(axis=1) for name in ("right_eye", "left_eye")]
    others = [keypoints[:, IBUG68.index(name)] for name in ("nose_tip", "mouth_right", "mouth_left")]
    return np.stack([*eyes, *others], axis=1)


def mean_overlap(faces):
    told = boxes_of_five_points(five_of(faces.keypoints))
    return np.mean([intersection_over_union(a[None], b[None])[0, 0] for a, b in zip(told, faces.boxes, strict=True)])


def test_boxes_from_five_points_of_synthetic_faces():
    assert mean_overlap(load("synthetic:40")) > 0.75


def test_boxes_from_five_points_of_labelled_faces(shared_data):
    assert mean_overlap(load(f"ibug:{shared_data / 'ibug_300w' / 'lfpw'}")) > 0.8


def test_the_commands_accept_a_yunet_file(file, tmp_path, capsys):
    write_image(tmp_path / "photo.png", with_red_cell(160, 160, 7, 5))
    assert main([str(tmp_path / "photo.png"), "--detector", str(file), "--min-score", "0"]) == 0
    assert lines_with(capsys.readouterr().out, str(tmp_path / "photo.png"), "1", "[")
    with pytest.raises(KpdetectError, match=mentions("--detector", "--data")):
        main(["--data", "synthetic:1", "--detector", str(file)])
