"""The face score and the visibility of `compact`: shapes, limits, exports, and their way to `Face`."""

import dataclasses

import numpy as np
import pytest
from messages import mentions
from small_models import COMPACT, small_spec

from kpdetect import Predictor, export, models
from kpdetect.core.errors import KpdetectError
from kpdetect.detection import Face
from kpdetect.inference.face_crops import mean_of_mirrored
from kpdetect.modelfile import bundle, runtime
from kpdetect.modelfile.runtime import Prediction
from kpdetect.modelfile.spec import Spec
from kpdetect.models.heads import AddSpread

HEADS = {"heads": ["score", "visibility"]}
# Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle with both heads and random weights, exported to TFLite and ONNX."""
    folder = tmp_path_factory.mktemp("heads")
    spec = dataclasses.replace(small_spec(), architecture_options={**COMPACT, **HEADS}, uncertainty=True)
    network = models.build("compact", 3, spec.input_shape, spec.architecture_options)
    rng = np.random.default_rng(0)
    network.set_weights([np.abs(rng.normal(0.5, 0.2, weight.shape)) * 0.2 for weight in network.get_weights()])
    bundle.save_bundle(network, spec, folder / "bundle")
    export.main([str(folder / "bundle"), "--out", str(folder / "out"), "--formats", "tflite,onnx", "--name", "small"])
    return folder / "out"


def test_the_heads_of_the_shipped_size_keep_its_cost():
    with_heads = models.build("compact", 68, (160, 160, 1), HEADS)
    assert {name: tuple(output.shape) for name, output in with_heads.output.items()} == {
        "keypoints": (None, 68, 2),
        "uncertainty": (None, 68),
        "score": (None,),
        "visibility": (None, 68),
    }
    assert with_heads.count_params() <= 1_100_000
    assert models.count_macs(with_heads) <= 190_000_000


@pytest.mark.parametrize("name", ["small.tflite", "small.onnx"])
def test_exported_heads_equal_keras(exported, name):
    network, spec = bundle.load_bundle(exported.parent / "bundle")
    assert (spec.score, spec.visibility) == (True, True)
    crops = np.random.default_rng(1).integers(0, 256, (5, *spec.input_shape)).astype(np.uint8)
    expected = network(crops.astype(np.float32), training=False)
    found = runtime.load(exported / name).predict(crops)
    np.testing.assert_allclose(found.score, np.asarray(expected["score"]), atol=1e-4)
    np.testing.assert_allclose(found.visibility, np.asarray(expected["visibility"]), atol=1e-4)


def test_a_spec_with_heads_is_read_as_written(exported):
    spec = bundle.read_spec(exported)
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.outputs == {"keypoints": (3, 2), "uncertainty": (3,), "score": (), "visibility": (3,)}
    assert spec.judges_faces


def test_the_predictor_gives_score_and_visibility(exported):
    picture = np.random.default_rng(2).integers(0, 256, (80, 90, 3)).astype(np.uint8)
    predictor = Predictor(exported / "small.tflite")
    (face,) = predictor(picture, boxes=[(20, 20, 60, 60)])
    matrix = predictor.model.spec.crop.matrix([[20, 20, 60, 60]])
    assert face.visibility.shape == (3,)
    np.testing.assert_array_equal(face.visible, face.visibility >= 0.5)
    assert 0 <= face.score <= 1
    assert len(matrix) == 1
    assert face.to_dict()["visibility"] == np.round(face.visibility.astype(np.float64), 4).tolist()


def test_mirrored_predictions_are_swapped_before_the_mean():
    points = np.array([[[0.2, 0.1], [0.7, 0.3]]], np.float32)
    mirrored = np.array([[[0.3, 0.3], [0.8, 0.1]]], np.float32)  # the same two points of the mirrored crop
    both = Prediction(
        np.concatenate([points, mirrored]),
        np.array([[0.1, 0.2], [0.4, 0.3]], np.float32),
        np.array([0.5, 0.7], np.float32),
        np.array([[0.9, 0.1], [0.2, 0.8]], np.float32),
    )
    mean = mean_of_mirrored(both, [1, 0])
    np.testing.assert_allclose(mean.keypoints, points, atol=1e-6)
    np.testing.assert_allclose(mean.uncertainty, [[0.2, 0.3]])
    np.testing.assert_allclose(mean.score, [0.6])
    np.testing.assert_allclose(mean.visibility, [[0.85, 0.15]])


def test_a_wide_heatmap_lowers_the_visibility_by_the_learned_factor():
    layer = AddSpread()
    spread = np.array([[0.03, 0.06]], np.float32)
    np.testing.assert_allclose(layer(np.zeros((1, 2), np.float32), spread), [[0, 0]], atol=1e-6)
    layer.slope.assign([-1.0, -1.0])
    np.testing.assert_allclose(layer(np.zeros((1, 2), np.float32), spread), [[0, -np.log(2)]], atol=1e-6)


def test_heads_are_refused_where_labels_cannot_train_them():
    with pytest.raises(KpdetectError, match=mentions("score", "visibility", "architecture_options.heads")):
        models.for_training(models.build("compact", 3, (32, 48, 1), {**COMPACT, **HEADS}))
    with pytest.raises(KpdetectError, match=mentions("scores", "score")):
        models.build("compact", 3, (32, 48, 1), {"heads": ["scores"]})


def test_a_face_checks_the_shape_of_its_visibility():
    schema = small_spec().schema
    with pytest.raises(KpdetectError, match=mentions("visibility", "(3,)", "(2,)")):
        Face(np.zeros((3, 2), np.float32), schema, visibility=np.ones(2, np.float32))
    assert Face(np.zeros((3, 2), np.float32), schema).visible is None
