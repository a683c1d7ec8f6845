"""Specs and bundles: round trips through files, and errors for damaged or missing files."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import mentions
from small_models import small_bundle, small_model, small_spec

from kpdetect.core import assets
from kpdetect.core.atomic_write import atomic_folder
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule, apply_matrix
from kpdetect.core.schema import IBUG68
from kpdetect.evaluation.results import read_rows
from kpdetect.modelfile import bundle
from kpdetect.modelfile.bundle import (
    HALF_WEIGHTS_FILE,
    WEIGHTS_FILE,
    Spec,
    add_half_weights,
    checked_weights,
    file_record,
    load_bundle,
    model_kind,
    read_spec,
    save_bundle,
    shipped_model,
    write_spec,
)
from kpdetect.modelfile.spec import SPEC_FILE, face_scores

# Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DIGEST = "0" * 64
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundles") / "small")


# --- the spec ---------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    size=st.tuples(st.integers(1, 512), st.integers(1, 512)),
    margin=st.floats(0.01, 10),
    channels=st.sampled_from([1, 3]),
    extra=st.dictionaries(st.text(), json_values, max_size=4),
    text=st.text(),
    uncertainty=st.booleans(),
    face_score=st.none() | st.fixed_dictionaries({"middle": finite, "slope": finite}),
)
def test_a_json_round_trip_keeps_the_spec(size, margin, channels, extra, text, uncertainty, face_score) -> None:
    spec = Spec(IBUG68, "compact", extra, CropRule(size, margin), channels, recipe=text, terms=text, extra=extra)
    spec = dataclasses.replace(spec, uncertainty=uncertainty, face_score=face_score)
    assert Spec.from_json(spec.to_json()) == spec
    assert Spec.from_json(spec.to_json().encode("utf-8")) == spec


def test_a_spec_copies_its_arguments() -> None:
    options, face_score = {"widths": (8, 16)}, {"middle": -3.0, "slope": 5.0}
    spec = Spec(IBUG68, "compact", options, CropRule((112, 112), 1.35), 1, face_score=face_score)
    options["widths"] = (1,)
    face_score["middle"] = 7.0
    assert spec.architecture_options == {"widths": [8, 16]}
    assert spec.face_score == {"middle": -3.0, "slope": 5.0}
    assert Spec.from_json(spec.to_json()) == spec


def test_the_descriptions_in_words_agree_with_the_crop_rule() -> None:
    """Following crop.description and output.description gives the same points as `CropRule.matrix`."""
    crop = CropRule((96, 112), 1.35)
    document = json.loads(Spec(IBUG68, "compact", {}, crop, 1).to_json())
    box = {"x0": 10.0, "y0": 25.0, "x1": 90.0, "y1": 131.0}
    words = document["crop"]["description"]
    s = _follow(words, r"s = ([^=]*?) photograph pixels", box)
    photo = [_follow(words, rf"{axis} = (\({axis}0.*?\* s)", {**box, "s": s, "u": 7.0, "v": 60.0}) for axis in "xy"]
    np.testing.assert_allclose(apply_matrix(crop.matrix(list(box.values())), [photo]), [[7, 60]], rtol=1e-5)

    words = document["output"]["description"]
    pixel = [_follow(words, rf"{name} = ([xy] \* \d+ - 0\.5)", {"x": 0.25, "y": 0.75}) for name in "uv"]
    assert pixel == [0.25 * 112 - 0.5, 0.75 * 96 - 0.5]
    names = {**box, "s": s, "x": 0.25, "y": 0.75}
    photo = [_follow(words, rf"{axis.upper()} = (\({axis}0.*?\* s)", names) for axis in "xy"]
    np.testing.assert_allclose(apply_matrix(crop.matrix(list(box.values())), [photo]), [pixel], rtol=1e-5)


def _follow(words, pattern, names):
    return eval(re.search(pattern, words)[1], {"max": max}, names)


def test_the_json_describes_input_crop_and_output() -> None:
    document = json.loads(small_spec().to_json())
    assert document["input"]["name"] == "image"
    assert document["input"]["shape"] == [None, 32, 48, 3]
    assert document["input"]["color"] == "RGB"
    assert document["input"]["range"] == [0, 255]
    assert document["output"]["name"] == "keypoints"
    assert document["output"]["shape"] == [None, 3, 2]
    assert document["uncertainty"]["name"] == "uncertainty"
    assert document["uncertainty"]["shape"] == [None, 3]
    assert document["schema"]["point_names"] == ["left_eye", "right_eye", "nose"]
    assert document["schema"]["flip_permutation"] == [1, 0, 2]
    assert document["errors"][0]["normaliser"] == "box"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("format_version", 2, ("format_version", "1", "2")),
        ("format", "other", ("JSON", "format")),
        ("schema", None, ("schema", "dict", "None")),
        ("schema.point_names", ["a", "a"], ("schema", "'a', 'a'")),
        ("schema.flip_permutation", [0, 0, 1], ("schema", "0, 0, 1")),
        ("architecture.name", 3, ("architecture.name", "str", "3")),
        ("input.channels", 2, ("channels", "1", "3", "2")),
        ("input.channels", "3", ("input.channels", "int", "'3'")),
        ("crop.size_hw", [112], ("crop",)),
        ("crop.margin", -1, ("crop", "margin", "-1.0")),
        ("errors", [{"nme": 3.0}], ("errors", "dataset", "split", "boxes", "n", "normaliser")),
        ("errors", [3], ("errors", "dict", "3")),
        ("data", [3], ("data", "str", "3")),
        ("files", {"../a": {"sha256": DIGEST, "bytes": 1}}, ("files", "../a")),
        ("files", {"a": {"sha256": "xyz", "bytes": 1}}, ("files.a.sha256", "64")),
        ("files", {"a": {"sha256": DIGEST}}, ("files.a.bytes",)),
        ("files", {"a": {"sha256": DIGEST, "bytes": -1}}, ("files.a.bytes", "-1")),
        ("face_score", {"middle": -3.0}, ("face_score.slope",)),
        ("face_score", {"middle": "low", "slope": 5.0}, ("face_score.middle", "float", "low")),
        ("face_score", 0.5, ("face_score.middle",)),
        ("face_score", {"middle": -3.0, "slope": float("inf")}, ("face_score", "JSON")),
    ],
)
def test_a_wrong_field_is_named(path, value, told) -> None:
    document = json.loads(small_spec().to_json())
    *parents, last = path.split(".")
    part = document
    for key in parents:
        part = part[key]
    part[last] = value
    with pytest.raises(KpdetectError, match=mentions("some/spec.json", *told)):
        Spec.from_json(json.dumps(document), "some/spec.json")


def test_a_missing_field_is_named() -> None:
    document = json.loads(small_spec().to_json())
    for key in set(document) - {"format", "output", "uncertainty", "score", "visibility", "face_score"}:
        without = {name: value for name, value in document.items() if name != key}
        with pytest.raises(KpdetectError, match=mentions(key)):
            Spec.from_json(json.dumps(without))


@pytest.mark.parametrize("key", ["uncertainty", "face_score"])
def test_specs_without_uncertainty_are_still_read(key) -> None:
    document = json.loads(dataclasses.replace(small_spec(), face_score={"middle": -3.5, "slope": 8.0}).to_json())
    del document[key]
    assert not getattr(Spec.from_json(json.dumps(document)), key)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", b"\xff\xfe\x00"])
def test_invalid_specs_are_errors(text) -> None:
    with pytest.raises(KpdetectError, match=mentions("here", "JSON")):
        Spec.from_json(text, "here")


@pytest.mark.parametrize("value", [float("nan"), np.float32(1), object()])
def test_a_spec_accepts_plain_json_values_only(value) -> None:
    with pytest.raises(KpdetectError, match=mentions("extra", "JSON")):
        dataclasses.replace(small_spec(), extra={"a": value})


@pytest.mark.parametrize(
    ("face_score", "told"),
    [
        (0.5, ("face_score", "JSON")),
        ({"middle": -3.0}, ("face_score.slope", "float", "None")),
        ({"middle": float("nan"), "slope": 5.0}, ("face_score", "JSON")),
    ],
)
def test_an_invalid_face_score_is_an_error_before_writing(face_score, told) -> None:
    with pytest.raises(KpdetectError, match=mentions(*told)):
        dataclasses.replace(small_spec(), face_score=face_score)


FACE_SCORE = {"middle": -3.0, "slope": 5.0}


def test_a_face_score_falls_as_the_uncertainty_grows() -> None:
    levels = np.linspace(-6, 0, 40, dtype=np.float32)
    scores = face_scores(np.exp(levels)[:, None].repeat(7, axis=1), FACE_SCORE)
    assert scores.dtype == np.float32
    assert (np.diff(scores) < 0).all()
    assert (scores[0], scores[-1]) == pytest.approx((1, 0), abs=1e-5)
    np.testing.assert_allclose(face_scores(np.float32([[np.exp(-3.0)] * 4]), FACE_SCORE), 0.5, atol=1e-6)


def test_a_face_score_equals_the_formula_in_its_spec() -> None:
    uncertainty = np.random.default_rng(0).uniform(0.01, 0.2, (5, 68)).astype(np.float32)
    words = json.loads(dataclasses.replace(small_spec(), face_score=FACE_SCORE).to_json())["face_score"]["description"]
    formula = re.match(r"(.*?), where m is the mean", words)[1].replace("ln m", "log(m)")
    for row, score in zip(uncertainty, face_scores(uncertainty, FACE_SCORE), strict=True):
        names = {"exp": np.exp, "log": np.log, "m": row.mean(), **FACE_SCORE}
        assert score == pytest.approx(eval(formula, names), rel=1e-4)


@pytest.mark.parametrize("slope", [1e-3, 5.0, 1e6])
def test_a_face_score_is_finite_for_every_uncertainty(slope) -> None:
    extremes = np.float32([0, 1e-45, 1e-30, 1e-9, 1, 1e30, 3e38, np.inf])[:, None].repeat(3, axis=1)
    scores = face_scores(extremes, {"middle": -3.0, "slope": slope})
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(scores) <= 0).all()


# --- the bundle -------------------------------------------------------------------------------------------------------


def test_importing_the_bundle_imports_no_keras() -> None:
    unwanted = "('keras', 'tensorflow', 'onnxruntime')"
    code = f"import sys, kpdetect.modelfile.bundle; print([m for m in {unwanted} if m in sys.modules])"
    root = Path(bundle.__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "[]\n"


def test_a_loaded_bundle_equals_the_saved_model(folder) -> None:
    spec = small_spec()
    model = small_model(spec)
    loaded, read = load_bundle(folder)
    assert dataclasses.replace(read, files={}) == spec
    assert read == read_spec(folder)
    crops = np.random.default_rng(0).uniform(0, 255, (3, *spec.input_shape)).astype(np.float32)
    given, expected = loaded(crops, training=False), model(crops, training=False)
    assert set(given) == {"keypoints", "uncertainty"}
    for name in given:
        np.testing.assert_array_equal(given[name], expected[name])
    assert sorted(file.name for file in folder.iterdir()) == [WEIGHTS_FILE, SPEC_FILE]


def test_only_the_weights_of_the_file_are_used(folder) -> None:
    """The architecture comes from the package; the file contains no configuration."""
    assert b"class_name" not in (folder / WEIGHTS_FILE).read_bytes()


def test_an_existing_folder_is_overwritten_only_on_request(folder) -> None:
    before = (folder / SPEC_FILE).read_bytes()
    with pytest.raises(KpdetectError, match=mentions(str(folder))):
        save_bundle(small_model(small_spec(), seed=1), small_spec(), folder)
    assert (folder / SPEC_FILE).read_bytes() == before


def test_overwriting_replaces_the_folder(tmp_path) -> None:
    target = small_bundle(tmp_path / "b")
    (target / "stale.tflite").write_text("of the older model")
    save_bundle(small_model(small_spec(), seed=1), small_spec(), target, overwrite=True)
    assert sorted(file.name for file in target.iterdir()) == [WEIGHTS_FILE, SPEC_FILE]
    load_bundle(target)


def test_a_model_that_does_not_match_its_spec_writes_nothing(tmp_path) -> None:
    spec = dataclasses.replace(small_spec(), channels=1)
    with pytest.raises(KpdetectError, match=mentions("model", "32, 48, 1", "32, 48, 3")):
        save_bundle(small_model(small_spec()), spec, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_tampered_weights_are_detected(tmp_path) -> None:
    target = small_bundle(tmp_path / "b")
    weights = bytearray((target / WEIGHTS_FILE).read_bytes())
    weights[len(weights) // 2] ^= 1
    (target / WEIGHTS_FILE).write_bytes(weights)
    with pytest.raises(KpdetectError, match=mentions(WEIGHTS_FILE, "sha256")):
        load_bundle(target)


def test_missing_weights_are_an_error(tmp_path) -> None:
    target = small_bundle(tmp_path / "b")
    (target / WEIGHTS_FILE).unlink()
    with pytest.raises(KpdetectError, match=mentions(WEIGHTS_FILE)):
        load_bundle(target)


def test_weights_of_another_architecture_are_an_error(tmp_path) -> None:
    """Keras keeps random weights for layers that are missing in the file."""
    target = small_bundle(tmp_path / "b")
    spec = read_spec(target)
    for options in ({"widths": [8, 8, 12, 20]}, {"blocks": [1, 1, 2]}):
        changed = {**spec.architecture_options, **options}
        bundle.write_spec(dataclasses.replace(spec, architecture_options=changed), target)
        with pytest.raises(KpdetectError, match=mentions(WEIGHTS_FILE, "compact")):
            load_bundle(target)


def test_non_finite_weights_are_an_error(tmp_path) -> None:
    spec = small_spec()
    model = small_model(spec)
    for index, name in enumerate(("heatmaps4", "expected_error")):
        layer = model.get_layer(name)
        sound = layer.get_weights()
        layer.set_weights([weight * np.nan for weight in sound])
        save_bundle(model, spec, tmp_path / str(index))
        layer.set_weights(sound)
        with pytest.raises(KpdetectError, match=mentions(WEIGHTS_FILE, name)):
            load_bundle(tmp_path / str(index))


@pytest.mark.parametrize("architecture", ["compact", "imm-nose"])
@pytest.mark.parametrize("said", [False, True])
def test_the_loaded_model_determines_whether_there_is_an_uncertainty(tmp_path, architecture, said) -> None:
    spec = dataclasses.replace(small_spec(architecture), uncertainty=said)
    written = save_bundle(small_model(spec), spec, tmp_path / "b")
    assert written.uncertainty == read_spec(tmp_path / "b").uncertainty == (architecture == "compact")


def test_an_unknown_architecture_suggests_the_nearest(tmp_path) -> None:
    target = small_bundle(tmp_path / "b")
    bundle.write_spec(dataclasses.replace(read_spec(target), architecture="compct"), target)
    with pytest.raises(KpdetectError, match=mentions("compct", "compact")):
        load_bundle(target)


def test_paths_that_are_no_models_are_errors(tmp_path, folder) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.tflite").write_text("some text")
    (tmp_path / "nothing").mkdir()
    for name, told in (
        ("absent", ()),
        ("empty.onnx", (".tflite", ".onnx", ".keras")),
        ("text.tflite", ("b'some tex'",)),
        ("nothing", ("spec.json", "saved_model.pb")),
    ):
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / name), *told)):
            model_kind(tmp_path / name)
    with pytest.raises(KpdetectError, match=mentions(WEIGHTS_FILE, ".tflite", ".onnx", ".keras")):
        model_kind(folder / WEIGHTS_FILE)


def test_a_damaged_spec_names_its_file(tmp_path) -> None:
    with atomic_folder(tmp_path / "b") as temporary:
        (temporary / SPEC_FILE).write_text("{")
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / "b"), "JSON")):
        read_spec(tmp_path / "b")


def test_a_shipped_file_is_found_in_a_wheel_and_in_a_checkout(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(assets, "PACKAGE", tmp_path / "kpdetect")
    with pytest.raises(KpdetectError, match=mentions("a.npz", str(tmp_path), "do without")):
        assets.packaged_file("things", "a.npz", "do without")
    for place in ("exported_models/things/a.npz", "kpdetect/_things/a.npz"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
        assert assets.packaged_file("things", "a.npz", "do without") == tmp_path / place


def test_the_shipped_model_is_found_in_a_wheel_and_in_a_checkout(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(assets, "PACKAGE", tmp_path / "kpdetect")
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path), "train")):
        shipped_model()
    for place in ("exported_models/compact", "kpdetect/_compact"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / SPEC_FILE).write_text("{}")
        assert shipped_model() == tmp_path / place


@pytest.mark.parametrize("name", ["compact", "compact-160-v2"])
def test_a_packaged_model_is_found_by_its_name(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no folder has that name
    assert model_kind(name) == "bundle"
    assert read_spec(name).input_shape == (160, 160, 1)
    assert checked_weights(name)[1] == shipped_model() / WEIGHTS_FILE


def test_a_path_comes_before_a_packaged_model_of_the_same_name(folder, tmp_path, monkeypatch) -> None:
    shutil.copytree(folder, tmp_path / "compact")
    monkeypatch.chdir(tmp_path)
    assert read_spec("compact").recipe == "small"


@pytest.mark.parametrize(("name", "nearest"), [("compct", "compact"), ("compact-160-v3", "compact-160-v2")])
def test_an_unknown_name_suggests_the_nearest_packaged_model(name, nearest) -> None:
    with pytest.raises(KpdetectError, match=mentions(name, nearest, "compact", "compact-160-v2")):
        read_spec(name)


def test_the_spec_of_the_packaged_model_holds_its_result_rows() -> None:
    rows = {
        (row.dataset, row.split, row.boxes): row
        for row in read_rows(ROOT / "exported_models" / "results.csv")
        if row.model == "compact" and row.file == "compact_int8.tflite"
    }
    errors = read_spec("compact-160-v2").errors
    assert len(errors) == len(rows) > 3
    for error in errors:
        row = rows[error["dataset"], error["split"], error["boxes"]]
        assert {key: getattr(row, key) for key in error} == error


def test_half_precision_weights_are_read_if_there_are_no_others(folder, tmp_path) -> None:
    import keras

    copy = shutil.copytree(folder, tmp_path / "half")
    assert HALF_WEIGHTS_FILE in add_half_weights(copy).files
    exact, _ = load_bundle(copy)
    (copy / WEIGHTS_FILE).unlink()
    rounded, spec = load_bundle(copy)
    crops = np.random.default_rng(0).uniform(0, 255, (4, *spec.input_shape)).astype(np.float32)
    a, b = (keras.tree.map_structure(np.asarray, model(crops, training=False)) for model in (exact, rounded))
    assert np.abs(a["keypoints"] - b["keypoints"]).max() * max(spec.crop.size_hw) < 0.01


def test_half_precision_weights_of_the_packaged_model_predict_within_a_hundredth_of_a_pixel(tmp_path) -> None:
    from kpdetect.data import synthetic
    from kpdetect.data.crops import evaluation_crops

    exact, spec = load_bundle("compact-160-v2")
    for name in (SPEC_FILE, HALF_WEIGHTS_FILE):
        shutil.copy(shipped_model() / name, tmp_path)
    rounded, _ = load_bundle(tmp_path)
    crops, _, _ = evaluation_crops(synthetic.annotations(24), spec.crop, spec.channels)
    a, b = (np.asarray(model(crops.astype(np.float32), training=False)["keypoints"]) for model in (exact, rounded))
    assert 0 < np.abs(a - b).max() * 160 < 0.01


def test_half_precision_weights_of_another_architecture_are_an_error(folder, tmp_path) -> None:
    copy = shutil.copytree(folder, tmp_path / "half")
    add_half_weights(copy)
    (copy / WEIGHTS_FILE).unlink()
    with np.load(copy / HALF_WEIGHTS_FILE) as file:
        arrays = dict(file)
    first = next(iter(arrays))
    for wrong in (arrays[first][..., :-1], np.full_like(arrays[first], np.inf)):
        np.savez(copy / HALF_WEIGHTS_FILE, **{**arrays, first: wrong})
        _renew_record(copy)
        with pytest.raises(KpdetectError, match=mentions(HALF_WEIGHTS_FILE, first)):
            load_bundle(copy)
    del arrays[first]
    np.savez(copy / HALF_WEIGHTS_FILE, **arrays)
    _renew_record(copy)
    with pytest.raises(KpdetectError, match=mentions(HALF_WEIGHTS_FILE, first)):
        load_bundle(copy)


def _renew_record(folder: Path) -> None:
    spec = read_spec(folder)
    record = file_record(folder / HALF_WEIGHTS_FILE)
    write_spec(dataclasses.replace(spec, files={**spec.files, HALF_WEIGHTS_FILE: record}), folder)


def test_a_training_starts_from_a_packaged_model_by_its_name(tmp_path, monkeypatch) -> None:
    from kpdetect.recipes import TrainOptions, choose_recipe
    from kpdetect.training import transfer

    monkeypatch.chdir(tmp_path)  # no folder of that name is near
    recipe = choose_recipe(TrainOptions(recipe="compact", init_from="compact-160-v2"))
    source = transfer.load_source(recipe, tmp_path / "run")
    assert source is not None
    assert "youtube-faces" in source.data
    assert source.identity["sha256"] == read_spec("compact").files[WEIGHTS_FILE]["sha256"]
    assert sum(map(len, source.weights.values())) == 122  # arrays, those of the heads included
