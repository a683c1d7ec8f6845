"""The server of the page: files, types, compression, headers, and errors; no browser and no TensorFlow is needed."""

import gzip
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from messages import mentions
from small_models import small_bundle, small_face_spec

from kpdetect.core.errors import KpdetectError
from kpdetect.detection import FaceFinder, finder
from kpdetect.export import export_model
from kpdetect.exporters import web_page, web_server
from kpdetect.exporters.fixed_shape import with_fixed_shape
from kpdetect.exporters.web_server import PageFile, files_to_serve, make_server
from kpdetect.modelfile import runtime
from kpdetect.modelfile.bundle import read_spec, shipped_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with files of batch 1 only."""
    work = tmp_path_factory.mktemp("web")
    small_bundle(work / "source", spec=small_face_spec())
    export_model(work / "source", work / "out", ("tflite",), batch=[1])
    return work / "out"


@pytest.fixture(scope="module")
def connection(model: Path) -> Iterator[http.client.HTTPConnection]:
    with make_server(files_to_serve(model), "localhost", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield http.client.HTTPConnection("localhost", server.server_address[1])
        server.shutdown()


def get(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response, response.read()


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/manifest.webmanifest", "application/manifest+json"),
        ("/settings.json", "application/json"),
        ("/model.tflite", "application/octet-stream"),
        ("/finder.tflite", "application/octet-stream"),
        ("/icon.svg", "image/svg+xml"),
        ("/samples/group.jpg", "image/jpeg"),
        ("/litert/litert_wasm_internal.wasm.gz", "application/gzip"),
        ("/filters/hat.png", "image/png"),
    ],
)
def test_files_have_their_types_and_the_security_headers(
    connection: http.client.HTTPConnection, path: str, media_type: str
) -> None:
    response, body = get(connection, path)
    assert response.status == 200
    assert body
    assert response.getheader("Content-Type") == media_type
    policy = response.getheader("Content-Security-Policy") or ""
    assert "default-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert response.getheader("X-Content-Type-Options") == "nosniff"


def test_texts_are_compressed_for_those_who_accept_it(connection: http.client.HTTPConnection) -> None:
    _, plain = get(connection, "/page.js")
    response, packed = get(connection, "/page.js", Accept_Encoding="gzip, br")
    assert response.getheader("Content-Encoding") == "gzip"
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 2


def test_a_known_file_is_not_sent_again(connection: http.client.HTTPConnection) -> None:
    response, _ = get(connection, "/page.js")
    tag = response.getheader("ETag") or ""
    response, body = get(connection, "/page.js", If_None_Match=tag)
    assert (response.status, body) == (304, b"")
    response, body = get(connection, "/page.js", "HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.getheader("Content-Length") or 0) > 1000


@pytest.mark.parametrize("path", ["/missing", "/../spec.json", "/%2e%2e/setup.py", "//etc/passwd", "/samples/", "/%00"])
def test_other_paths_are_not_found(connection: http.client.HTTPConnection, path: str) -> None:
    response, _ = get(connection, path)
    assert response.status == 404


def test_the_settings_name_files_that_are_served(connection: http.client.HTTPConnection) -> None:
    settings = json.loads(get(connection, "/settings.json")[1])
    for name in (*settings["models"].values(), settings["finder"], *settings["bytes"]):
        response, body = get(connection, f"/{name}")
        assert response.status == 200
        assert len(body) == settings["bytes"][name]
    assert settings["detector"]["stride"] == finder.STRIDE
    assert {one["name"] for one in settings["filters"]} == {"hat", "moustache", "sunglasses"}


def test_a_model_without_a_tflite_file_is_an_error(tmp_path: Path) -> None:
    small_bundle(tmp_path / "source", spec=small_face_spec())
    with pytest.raises(KpdetectError, match=mentions("no TFLite", "--batch 1")):
        files_to_serve(tmp_path / "source")


def test_the_packaged_model_is_served_with_a_batch_of_1() -> None:
    from ai_edge_litert.interpreter import Interpreter

    files = files_to_serve("compact")
    model: Any = Interpreter(model_content=files["model.tflite"].content)
    model.allocate_tensors()
    (details,) = model.get_input_details()
    assert details["shape"][0] == 1
    assert details["shape_signature"].tolist() in ([], details["shape"].tolist())
    crop = np.random.default_rng(2).integers(0, 256, details["shape"]).astype(details["dtype"])
    model.set_tensor(details["index"], crop)
    model.invoke()
    outputs = {detail["name"]: model.get_tensor(detail["index"]) for detail in model.get_output_details()}
    np.testing.assert_allclose(outputs["keypoints"], runtime.load("compact")(crop), atol=2e-3)


def test_a_file_that_computes_shapes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "tflite_ops", lambda content: {"SHAPE": 1})
    with pytest.raises(KpdetectError, match=mentions("--batch 1")):
        web_server.with_batch_1(shipped_model() / "compact_int8.tflite", read_spec(shipped_model()))


def test_a_port_that_is_taken_is_an_error() -> None:
    files = {"index.html": PageFile("index.html", b"<p>")}
    with (
        make_server(files, "localhost", 0) as server,
        pytest.raises(KpdetectError, match=mentions("--port")),
    ):
        make_server(files, "localhost", server.server_address[1])


def test_an_incomplete_installation_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web_page, "PACKAGE", tmp_path / "kpdetect")
    with pytest.raises(KpdetectError, match=mentions("reinstall", "build.mjs")):
        web_page.built_page()


def test_no_tensorflow_is_imported(model: Path) -> None:
    code = (
        "import sys; from kpdetect.exporters.web_server import files_to_serve; "
        f"files_to_serve({str(model)!r}); assert not {{'tensorflow', 'keras', 'jax'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_finder_of_fixed_shape_predicts_the_same() -> None:
    from ai_edge_litert.interpreter import Interpreter

    picture = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 1), np.uint8)
    fixed: Any = Interpreter(model_content=web_page.fixed_finder())
    fixed.allocate_tensors()
    (details,) = fixed.get_input_details()
    assert details["shape"].tolist() == [1, 256, 256, 1]
    fixed.set_tensor(details["index"], picture.astype(details["dtype"]))
    fixed.invoke()
    expected = FaceFinder()._network(picture[0, ..., 0])
    np.testing.assert_allclose(fixed.get_tensor(fixed.get_output_details()[0]["index"])[0], expected, atol=1e-4)


def test_a_shape_that_a_file_does_not_take_is_an_error() -> None:
    with pytest.raises(KpdetectError, match=mentions("cannot have the input shape")):
        with_fixed_shape(web_page.fixed_finder(), (1, 256, 256, 7), "finder.tflite")
