"""Models of the Hugging Face hub, on a local stand-in of its HTTP API."""

import dataclasses
import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_server import Hub, serve
from messages import mentions
from small_models import small_bundle, small_face_spec

from kpdetect import Predictor, load_model
from kpdetect.core.errors import KpdetectError
from kpdetect.export import export_model
from kpdetect.modelfile import hub as hub_module
from kpdetect.modelfile import runtime
from kpdetect.modelfile.bundle import checked_file, read_spec
from kpdetect.modelfile.hub import HubAddress, fetch, publish
from kpdetect.modelfile.model_card import model_card
from kpdetect.publish import main

constants = pytest.importorskip("huggingface_hub.constants", reason="pip install '.[hub]'")
yaml = pytest.importorskip("yaml")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """An exported model."""
    work = tmp_path_factory.mktemp("hub")
    export_model(small_bundle(work / "bundle", spec=small_face_spec()), work / "all", ("tflite", "onnx"))
    return work / "all"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub, whose files are cached in a folder of the test."""
    hub = Hub()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub_module._fetch.cache_clear()
    with serve(hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield hub
    hub_module._fetch.cache_clear()


def files_of(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names or [file.name for file in folder.iterdir()]}


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("hf://ann/faces", HubAddress("ann/faces")),
            ("hf:/ann/faces", HubAddress("ann/faces")),  # a pathlib.Path drops a slash
            ("hf://ann/my-faces.v2@refs/pr/1", HubAddress("ann/my-faces.v2", "refs/pr/1")),
        ],
    )
    def test_form(self, text, expected):
        assert HubAddress.parse(text) == expected

    @pytest.mark.parametrize("text", ["hf://", "hf://ann", "hf://ann/faces/x", "hf://ann/faces@", "hf://ann/fa ces"])
    def test_others_are_errors(self, text):
        with pytest.raises(KpdetectError, match=mentions("hf://user/name")):
            HubAddress.parse(text)


class TestFetch:
    def test_a_model_of_the_hub_is_accepted_wherever_a_model_is(self, hub, bundle):
        hub.commit("ann/faces", files_of(bundle))
        spec = read_spec("hf://ann/faces")
        assert spec == read_spec(bundle)
        crops = np.random.default_rng(0).integers(0, 256, (2, *spec.input_shape), dtype=np.uint8)
        model = runtime.load("hf://ann/faces")
        np.testing.assert_array_equal(model(crops), runtime.load(bundle)(crops))
        assert Predictor(Path("hf://ann/faces")).model.path.name == model.path.name
        for given, expected in zip(
            load_model("hf://ann/faces").get_weights(), load_model(bundle).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(given, expected)
        assert len([asked for asked in hub.asked if asked.startswith("GET /api/models")]) == 1  # once per process

    def test_a_revision_is_a_branch_or_a_commit(self, hub, bundle, tmp_path):
        other = tmp_path / "other"
        small_bundle(other, spec=dataclasses.replace(small_face_spec(), recipe="other"))
        first = hub.commit("ann/faces", files_of(bundle))
        hub.commit("ann/faces", files_of(other), branch="next")
        assert read_spec("hf://ann/faces@next").recipe == "other"
        assert read_spec(f"hf://ann/faces@{first}").recipe == read_spec(bundle).recipe

    def test_only_listed_model_files_are_downloaded(self, hub, bundle):
        others = {"evil.pkl": pickle.dumps(print), "code.py": b"raise SystemExit", "unlisted.tflite": b"x"}
        document = json.loads((bundle / "spec.json").read_text())
        document["files"]["evil.pkl"] = dict(next(iter(document["files"].values())))
        spec = json.dumps(document).encode()
        hub.commit("ann/faces", {**files_of(bundle), **others, "spec.json": spec})
        folder = fetch("hf://ann/faces")
        names = {file.name for file in folder.iterdir()}
        assert names == {"spec.json", *read_spec(bundle).files}
        assert not [asked for asked in hub.asked if "evil" in asked or "code.py" in asked or "unlisted" in asked]

    def test_a_changed_file_is_refused(self, hub, bundle):
        files = files_of(bundle)
        name = next(name for name in files if name.endswith(".tflite"))
        hub.commit("ann/faces", {**files, name: files[name][:-1] + bytes([files[name][-1] ^ 1])})
        with pytest.raises(KpdetectError, match=mentions(name, "sha256")):
            fetch("hf://ann/faces")

    def test_a_file_larger_than_stated_is_not_downloaded(self, hub, bundle):
        hub.commit("ann/faces", files_of(bundle))
        name = next(iter(read_spec(bundle).files))
        hub.stated_sizes = {name: 10**10}
        with pytest.raises(KpdetectError, match=mentions("hf://ann/faces", name, "10000000000")):
            fetch("hf://ann/faces")
        hub.stated_sizes = {"spec.json": 10**8}
        with pytest.raises(KpdetectError, match=mentions("hf://ann/faces", "spec.json", "100000000")):
            fetch("hf://ann/faces")

    def test_other_repositories_are_one_line_errors(self, hub, bundle):
        hub.commit("ann/text", {"config.json": b"{}"})
        hub.commit("ann/half", {name: data for name, data in files_of(bundle).items() if name.endswith(".json")})
        hub.commit("ann/broken", {"spec.json": b"{"})
        for address, parts in {
            "hf://ann/none": ("hf://ann/none", "HF_TOKEN"),
            "hf://ann/text": ("hf://ann/text", "spec.json"),
            "hf://ann/half": ("hf://ann/half", "spec.json"),
            "hf://ann/broken": ("spec.json",),
            "hf://ann/text@v9": ("hf://ann/text@v9", "v9"),
        }.items():
            with pytest.raises(KpdetectError, match=mentions(*parts)) as caught:
                read_spec(address)
            assert "\n" not in str(caught.value)


class TestOffline:
    def test_an_earlier_download_is_used(self, hub, bundle, monkeypatch):
        hub.commit("ann/faces", files_of(bundle))
        folder = fetch("hf://ann/faces")
        hub_module._fetch.cache_clear()
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        assert fetch("hf://ann/faces") == folder
        hub_module._fetch.cache_clear()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert fetch("hf://ann/faces") == folder

    @pytest.mark.parametrize("how", ["no server", "offline", "fault"])
    def test_without_one_the_error_is_one_line(self, hub, bundle, monkeypatch, how):
        hub.commit("ann/faces", files_of(bundle))
        if how == "no server":
            monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        elif how == "offline":
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        else:
            hub.failing = True
        with pytest.raises(KpdetectError, match=mentions("hf://ann/faces")) as caught:
            runtime.load("hf://ann/faces")
        assert "\n" not in str(caught.value)

    def test_without_the_package_the_error_says_what_to_install(self, monkeypatch):
        hub_module._fetch.cache_clear()
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(KpdetectError, match=mentions("hf://ann/faces", "pip install", "hub")):
            read_spec("hf://ann/faces")


class TestPublish:
    def test_what_is_published_is_what_is_loaded(self, hub, bundle, capsys):
        assert main([str(bundle), "--to", "hf://ann/faces", "--name", "Faces of Ann", "--private"]) == 0
        assert "https://huggingface.co/ann/faces/commit/" in capsys.readouterr().out
        (files,) = hub.commits["ann/faces"].values()
        assert set(files) == {"spec.json", "README.md", *read_spec(bundle).files}
        assert hub.private == {"ann/faces"}
        folder = fetch("hf://ann/faces")
        assert read_spec(folder) == read_spec(bundle)
        for name in read_spec(bundle).files:
            checked_file(folder, read_spec(bundle), name)
        assert files["README.md"].decode() == model_card(read_spec(bundle), "Faces of Ann", "hf://ann/faces")

    def test_own_files_stay_and_others_stay_behind(self, hub, bundle, tmp_path):
        copy = tmp_path / "run"
        shutil.copytree(bundle, copy)
        (copy / "README.md").write_text("# mine\n")
        (copy / "private.csv").write_text("secret")
        (copy / next(name for name in read_spec(bundle).files if name.endswith(".onnx"))).unlink()
        publish(copy, "hf://ann/faces@v1", message="first")
        (files,) = hub.commits["ann/faces"].values()
        assert files["README.md"] == b"# mine\n"
        assert not [name for name in files if name.endswith((".csv", ".onnx"))]
        assert set(read_spec("hf://ann/faces@v1").files) == set(files) - {"README.md", "spec.json"}

    def test_without_a_token_the_hub_refuses(self, hub, bundle, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
        with pytest.raises(KpdetectError, match=mentions("hf://ann/faces")) as caught:
            publish(bundle, "hf://ann/faces")
        assert "\n" not in str(caught.value)

    def test_a_damaged_or_other_folder_is_not_published(self, hub, bundle, tmp_path):
        copy = tmp_path / "run"
        shutil.copytree(bundle, copy)
        name = next(iter(read_spec(bundle).files))
        (copy / name).write_bytes(b"x")
        for folder, part in ((copy, name), (bundle / "small.tflite", "spec.json")):
            with pytest.raises(KpdetectError, match=mentions(part)):
                publish(folder, "hf://ann/faces")
        assert not hub.asked


class TestCard:
    def test_metadata_are_those_of_the_spec(self):
        spec = read_spec("compact-160-v2")
        card = model_card(spec, "compact", "hf://ann/compact")
        metadata = yaml.safe_load(card.split("---\n")[1])
        assert (metadata["library_name"], metadata["pipeline_tag"]) == ("kpdetect", "keypoint-detection")
        assert metadata["license"] == "other"
        (model,) = metadata["model-index"]
        assert [result["metrics"][0]["value"] for result in model["results"]] == [row["nme"] for row in spec.errors]
        assert [result["dataset"]["type"] for result in model["results"]] == [row["dataset"] for row in spec.errors]
        assert spec.terms in card
        assert 'Predictor("hf://ann/compact")' in card
        for result in model["results"]:
            assert "inter-ocular" in result["metrics"][0]["name"]

    def test_a_model_without_data_and_errors_has_a_card(self):
        card = model_card(dataclasses.replace(small_face_spec(), terms="", errors=()), "small", "hf://ann/small")
        metadata = yaml.safe_load(card.split("---\n")[1])
        assert not {"license", "model-index"} & set(metadata)


def test_the_module_names_no_kind_of_file_that_runs_code() -> None:
    assert not set(hub_module.MODEL_SUFFIXES) & {".pkl", ".pt", ".pth", ".bin", ".py", ".joblib", ".pb", ".so"}
