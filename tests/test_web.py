"""The web page in Chromium: the same faces as in Python, messages, and no requests to other hosts."""

import base64
import dataclasses
import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from small_models import COMPACT, small_face_spec, small_model, small_spec

from kpdetect.core.geometry import CropRule, intersection_over_union
from kpdetect.core.images import read_image, write_image
from kpdetect.core.schema import IBUG68
from kpdetect.data import load, synthetic
from kpdetect.detection import Face
from kpdetect.export import export_model
from kpdetect.exporters.web_server import files_to_serve, make_server
from kpdetect.filters import apply_filters
from kpdetect.measures import measure
from kpdetect.modelfile import bundle, runtime
from kpdetect.predict import Predictor

ON_CI = bool(os.environ.get("CI"))
if ON_CI:  # a skip could be overlooked there
    import playwright.sync_api as playwright
else:
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
expect = playwright.expect
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)  # for each wait, also on a busy machine

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "exported_models" / "compact"
SOURCES = ROOT / "web"
PACKAGE = SOURCES / "package"
AXE = PACKAGE / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync"]
TOLERANCE_PX = 0.5  # of the crop


def missing(what: str) -> NoReturn:
    """Skips a test that needs a missing program, or fails if the environment variable CI is set."""
    (pytest.fail if ON_CI else pytest.skip)(what)


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    return missing("no Chromium on the PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def page_folder(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the shipped model."""
    out = tmp_path_factory.mktemp("page") / "out"
    export_model(SHIPPED, out, formats=("web",))
    return out / "web"


@pytest.fixture(scope="module")
def python(page_folder: Path) -> Predictor:
    """The page's own file in Python."""
    return Predictor(page_folder / "model.tflite")


def serve(folder: Path) -> tuple[Any, str]:
    """Starts a server of a page's folder; returns it and its address."""
    server = make_server(files_to_serve(folder), "localhost", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://localhost:{server.server_address[1]}/"


@pytest.fixture(scope="module")
def address(page_folder: Path) -> Iterator[str]:
    """The address at which localhost serves the page."""
    server, where = serve(page_folder)
    with server:
        yield where
        server.shutdown()


@pytest.fixture(scope="module")
def launch(chromium: str) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        yield functools.partial(driver.chromium.launch, executable_path=chromium)


@pytest.fixture(scope="module")
def moving_face(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, npt.NDArray[np.float32]]:
    """A video of a synthetic face that moves horizontally, and its points in the first frame."""
    image, points = synthetic.render(7, 11, 320)
    path = tmp_path_factory.mktemp("video") / "face.mjpeg"
    with path.open("wb") as video:
        for turn in np.linspace(0, 2 * np.pi, 90, endpoint=False):  # three seconds
            frame = np.full((480, 640, 3), 128, np.uint8)
            x = int(160 + 60 * np.sin(turn))
            frame[80:400, x : x + 320] = image
            video.write(cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes())
    return path, points + np.array([160, 80], np.float32)


@pytest.fixture(scope="module")
def browser(launch: Any, moving_face: tuple[Path, Any]) -> Iterator[Any]:
    flags = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={moving_face[0]}"]
    with launch(args=[*FLAGS, *flags]) as running:
        yield running


@dataclasses.dataclass
class Visits:
    """Opened pages, the requests of pages and workers, and script errors."""

    address: str
    contexts: list[Any] = dataclasses.field(default_factory=list)
    asked: list[str] = dataclasses.field(default_factory=list)
    mistakes: list[str] = dataclasses.field(default_factory=list)

    def open(self, browser: Any, address: str | None = None, **options: Any) -> Any:
        """Opens a page in a new context and waits until its first sample is marked."""
        context = browser.new_context(**{"locale": "en-GB", "service_workers": "block", **options})
        context.set_default_timeout(PATIENCE_MS)
        self.contexts.append(context)
        context.on("request", lambda request: self.asked.append(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: self.mistakes.append(str(error)))
        page.goto(address or self.address)
        expect(page.locator("#items .badge").first).to_have_text(re.compile(r"\d"))
        expect(page.locator("#stage")).to_have_attribute("aria-busy", "false")
        return page

    def end(self) -> None:
        for context in self.contexts:
            context.close()
        assert not self.mistakes
        assert not [url for url in self.asked if not url.startswith(("http://localhost:", "blob:", "data:"))]


@pytest.fixture
def visits(address: str) -> Iterator[Visits]:
    """Opens pages; script errors and requests to other hosts fail the test."""
    opened = Visits(address)
    yield opened
    opened.end()


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page shared by most tests."""
    opened = Visits(address)
    yield opened.open(browser)
    opened.end()


def open_picture(page: Any, *paths: Path) -> None:
    page.set_input_files("#file", list(paths))
    expect(page.locator("#items li").last.locator(".badge")).to_have_text(re.compile(r"\d"))
    expect(page.locator("#stage")).to_have_attribute("aria-busy", "false")


def saved(page: Any, kind: str = "json") -> str:
    expect(page.locator(f"#save-{kind}")).to_be_enabled()
    with page.expect_download() as download:
        page.evaluate(f"document.querySelector('#save-{kind}').click()")
    return Path(download.value.path()).read_text(encoding="utf-8")


def report_of(page: Any, path: Path) -> dict[str, Any]:
    """The description of one picture; the file has all pictures of the user."""
    return next(one for one in reversed(json.loads(saved(page))) if one["image"] == path.name)


def faces_of(report: dict[str, Any]) -> list[Face]:
    return [
        Face(
            np.array(face["keypoints"], np.float32),
            IBUG68,
            face["score"],
            np.array(face["uncertainty"], np.float32),
            np.array(face["detection_box"], np.float32),
        )
        for face in report["faces"]
    ]


def crop_pixels_apart(first: Face, second: Face) -> float:
    """The maximal distance between the points of two faces, in pixels of their crop."""
    crop = bundle.read_spec(SHIPPED).crop
    side = float(np.ptp(second.keypoints, axis=0).max()) * crop.margin
    return float(np.linalg.norm(first.keypoints - second.keypoints, axis=1).max() * crop.size_hw[0] / side)


PREDICT = """async ([base64, boxes]) => {
    const { Predictor } = await import("./kpdetect.js");
    window.own ??= await Predictor.load({ base: "./", accelerator: "wasm" });
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const faces = await window.own(new Blob([bytes]), { boxes, secondLook: true });
    return faces.map(({ keypoints, score, visibility }) => ({ keypoints, score, visibility }));
}"""


def assert_equals_python(page: Any, python: Predictor, path: Path, tolerance_px: float = TOLERANCE_PX) -> list[Face]:
    """The page finds the faces that Python finds; in the same boxes, it predicts the points that Python predicts."""
    open_picture(page, path)
    faces = faces_of(report_of(page, path))
    expected = python(path)
    assert len(faces) == len(expected)
    overlap = intersection_over_union([face.box for face in faces], [face.box for face in expected])
    assert (overlap.max(axis=1) > 0.85).all()

    boxes = [face.detection_box.tolist() for face in expected]
    received = page.evaluate(PREDICT, [base64.b64encode(path.read_bytes()).decode(), boxes])
    again = Predictor(python.model, second_look=True)(path, boxes=boxes)
    for one, face in zip(received, again, strict=True):
        points = Face(np.array(one["keypoints"], np.float32), IBUG68)
        assert crop_pixels_apart(points, face) < tolerance_px
        assert one["score"] == pytest.approx(face.score, abs=0.03)
    return faces


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with two synthetic faces of different sizes."""
    small = synthetic.render(7, 5, 300)[0]
    picture = np.hstack([synthetic.render(7, 23, 512)[0], np.pad(small, ((106, 106), (0, 0), (0, 0)), "edge")])
    path = tmp_path_factory.mktemp("drawn") / "drawn.png"
    write_image(path, picture)
    return path


def test_the_folder_is_complete_and_part_of_the_bundle(page_folder: Path) -> None:
    recorded = bundle.read_spec(page_folder.parent).files
    files = [path.relative_to(page_folder.parent).as_posix() for path in page_folder.rglob("*") if path.is_file()]
    assert set(files) | {"model.weights.h5"} == set(recorded)
    assert recorded["web/model.tflite"]["max_difference_px"] is not None
    assert bundle.read_spec(page_folder / "model.tflite").schema == IBUG68
    assert runtime.load(page_folder).path == page_folder / "model.tflite"  # the folder is a bundle too
    assert not list(page_folder.rglob("*.map"))


def test_the_sample_is_marked_when_the_page_opens(page: Any) -> None:
    assert page.locator("#face-list li").count() >= 5
    assert page.locator("#canvas").get_attribute("aria-label").startswith("Drawn group")


def test_faces_and_points_equal_python(page: Any, python: Predictor, drawn: Path) -> None:
    assert len(assert_equals_python(page, python, drawn)) == 2


def test_faces_and_points_equal_python_on_photographs(page: Any, python: Predictor, shared_data: Path) -> None:
    """Groups, one of small faces, and photographs of up to 3 megapixels. How many Python finds is tested elsewhere."""
    for name in ("group.jpg", "the_beatles.jpg", "obamas.jpg", "portrait.jpg"):
        assert assert_equals_python(page, python, shared_data / "photos" / name)


def test_exif_orientation_is_applied(page: Any, python: Predictor, tmp_path: Path) -> None:
    image, _ = synthetic.render(7, 11, 400)
    turned = cv2.imencode(".jpg", cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)[..., ::-1])[1].tobytes()
    orientation_6 = bytes.fromhex("ffe1002245786966000049492a000800000001001201030001000000060000000000000000")
    (tmp_path / "turned.jpg").write_bytes(turned[:2] + orientation_6[:36] + turned[2:])
    assert np.abs(read_image(tmp_path / "turned.jpg").astype(int) - image).mean() < 5
    assert len(assert_equals_python(page, python, tmp_path / "turned.jpg")) == 1


def test_measures_equal_python(page: Any, drawn: Path) -> None:
    open_picture(page, drawn)
    report = report_of(page, drawn)
    for described, face in zip(report["faces"], faces_of(report), strict=True):
        received, expected = described["measures"], measure(face)
        for name in ("eye_openness", "mouth_openness", "smile", "eyes_closed"):
            assert received[name] == pytest.approx(expected[name], abs=1e-3)
        assert received["head_pose"] == pytest.approx(expected["head_pose"], abs=0.1)


def test_filters_equal_python(page: Any, drawn: Path) -> None:
    open_picture(page, drawn)
    names = ("hat", "moustache", "sunglasses")
    for button in (*(f"[value={name}]" for name in names), "#show-points", "#show-contours"):
        page.click(button)
    with page.expect_download() as download:
        page.click("#save")
    for button in (*(f"[value={name}]" for name in names), "#show-points", "#show-contours"):
        page.click(button)  # restores the page for the next test
    shown = read_image(download.value.path()).astype(int)
    faces = faces_of(report_of(page, drawn))
    expected = apply_filters(read_image(drawn), faces, list(names)).astype(int)
    assert np.abs(read_image(drawn) - expected).mean() > 10  # the filters cover a part of the picture
    assert np.abs(shown - expected).mean() < 1


def test_several_pictures_are_saved_in_formats_that_python_reads(page: Any, tmp_path: Path) -> None:
    pictures = []
    for index in (11, 12, 23):
        pictures.append(tmp_path / f"{index}.png")
        write_image(pictures[-1], synthetic.render(7, index, 300)[0])
    open_picture(page, *pictures)
    names = {Path(one["image"]).name for one in json.loads(saved(page))}
    assert {path.name for path in pictures} <= names
    for kind, spec in (("csv", "csv:faces.csv"), ("coco", "coco:faces.json")):
        text = saved(page, kind)
        if kind == "csv":
            rows = text.splitlines()
            text = (
                "\n".join([rows[0], *(row for row in rows if row.split(",")[0] in {p.name for p in pictures})]) + "\n"
            )
        else:
            document = json.loads(text)
            kept = {one["id"] for one in document["images"] if one["file_name"] in {p.name for p in pictures}}
            document["images"] = [one for one in document["images"] if one["id"] in kept]
            document["annotations"] = [one for one in document["annotations"] if one["image_id"] in kept]
            text = json.dumps(document)
        (tmp_path / spec.partition(":")[2]).write_text(text, encoding="utf-8")
        read = load(spec.replace(":", f":{tmp_path}/"))
        assert len(read) == 3
        assert read.schema.num_keypoints == 68


def test_messages_for_an_invalid_image_and_for_no_face(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "notes.png")
    expect(page.locator("#alert")).to_contain_text("notes.png")
    write_image(tmp_path / "grey.png", np.full((200, 300, 3), 128, np.uint8))
    open_picture(page, tmp_path / "grey.png")
    expect(page.locator("#status")).to_contain_text(re.compile(r"no face", re.I))
    expect(page.locator("#alert")).to_be_empty()


def test_dropped_files_are_opened(page: Any) -> None:
    before = page.locator("#items li").count()
    page.evaluate(
        """async () => {
            const data = new DataTransfer();
            const blob = await (await fetch("samples/astronaut.jpg")).blob();
            for (const name of ["one.jpg", "two.jpg"]) data.items.add(new File([blob], name, { type: "image/jpeg" }));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        }"""
    )
    expect(page.locator("#items li")).to_have_count(before + 2)
    expect(page.locator("#items li").last.locator(".badge")).to_have_text("1")


def test_faces_of_the_camera_are_tracked(
    visits: Visits, browser: Any, moving_face: tuple[Path, npt.NDArray[np.float32]]
) -> None:
    page = visits.open(browser, permissions=["camera"])
    page.click("#camera")
    expect(page.locator("#status")).to_have_text(re.compile(r"\b1 face"))
    mirrored = moving_face[1] * np.array([-1, 1], np.float32) + np.array([639, 0], np.float32)
    shape_expected = mirrored[IBUG68.flip_permutation, :]
    shape_expected = shape_expected - shape_expected.mean(axis=0)
    middles = []
    for _ in range(8):
        page.wait_for_timeout(250)
        (report,) = json.loads(saved(page))
        assert (report["width"], report["height"]) == (640, 480)
        for face in report["faces"]:
            points = np.array(face["keypoints"])
            apart = np.linalg.norm(points - points.mean(axis=0) - shape_expected, axis=1).mean()
            assert apart < 0.08 * np.ptp(shape_expected)
            middles.append(points.mean(axis=0)[0])
    assert 5 <= len(middles) <= 8  # one face, which may be lost briefly on a busy machine
    assert np.ptp(middles) > 20  # the points follow the moving face
    page.click("#photo")  # the photograph stays mirrored, and the camera stops
    expect(page.locator("#camera")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#items li").last.locator(".badge")).to_have_text("1")


def test_a_refused_camera_gives_a_message(visits: Visits, browser: Any) -> None:
    page = visits.open(browser, permissions=[])
    page.click("#camera")
    expect(page.locator("#alert")).to_contain_text(re.compile(r"camera.*allow", re.I | re.S))


def test_a_missing_camera_gives_a_message(visits: Visits, launch: Any) -> None:
    with launch(args=FLAGS) as without_camera:
        page = visits.open(without_camera, permissions=["camera"])
        page.click("#camera")
        expect(page.locator("#alert")).to_contain_text(re.compile(r"\bno camera\b", re.I))


def test_the_page_fits_every_screen(page: Any) -> None:
    for width, height in ((360, 740), (390, 844), (820, 1180), (1440, 900)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("() => document.documentElement.scrollWidth") == width
        for button in ("#save", "#share", "#open", "#camera"):
            box = page.locator(button).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height
    page.set_viewport_size({"width": 1280, "height": 720})


def test_the_page_works_by_keyboard(visits: Visits, browser: Any) -> None:
    page = visits.open(browser)
    page.on("filechooser", lambda chooser: None)  # intercepts the dialogue, which would stay open
    page.focus("#canvas")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#face")).to_be_visible()
    expect(page.locator("#face-list button").first).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#face")).to_be_hidden()
    page.keyboard.press("b")
    expect(page.locator("#show-boxes")).to_have_attribute("aria-pressed", "true")
    page.focus("#open")
    with page.expect_file_chooser():
        page.keyboard.press("Enter")


def test_the_words_change_with_the_language(visits: Visits, browser: Any) -> None:
    page = visits.open(browser, locale="de-DE")
    for language, word in (("de", "Gesicht"), ("fr", "visage"), ("es", "cara"), ("zh", "张脸"), ("en", "face")):
        page.select_option("#language", language)
        expect(page.locator("#status")).to_contain_text(word)
        assert page.evaluate("() => document.documentElement.lang") == language


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(visits: Visits, browser: Any, theme: str) -> None:
    if not AXE.is_file():
        pytest.skip("no axe-core: run npm ci in web/package")
    page = visits.open(browser, color_scheme=theme, reduced_motion="reduce")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        for step in ("", "#face-list button", "#grip, #zoom-out"):
            if step:
                page.locator(step).locator("visible=true").first.click()
            page.evaluate(AXE.read_text(encoding="utf-8"))
            found = page.evaluate(
                "async () => (await axe.run()).violations.map(({ id, nodes }) => [id, nodes[0].html])"
            )
            assert not found


def test_the_page_works_offline_after_the_first_visit(visits: Visits, browser: Any) -> None:
    page = visits.open(browser, service_workers="allow")
    page.wait_for_function(
        """async () => {
            const [name] = await caches.keys();
            const kept = name ? await (await caches.open(name)).keys() : [];
            const names = kept.map(({ url }) => url);
            return ["model.tflite", "finder.tflite", "worker.js", "page.js", ".wasm.gz", "group.jpg", "settings.json"]
                .every((part) => names.some((one) => one.endsWith(part)));
        }"""
    )
    page.context.set_offline(True)
    page.reload()
    expect(page.locator("#status")).to_have_text(re.compile(r"\b\d+ faces"))


def test_a_model_of_whole_images_with_other_points(
    visits: Visits, browser: Any, page_folder: Path, tmp_path: Path
) -> None:
    """A model of the nose tip: no detector, no score, and no filter with matching anchors."""
    spec = dataclasses.replace(small_spec("imm-nose"), crop=CropRule((60, 80), 1.0, around="image"))
    bundle.save_bundle(small_model(spec), spec, tmp_path / "bundle")
    export_model(tmp_path / "bundle", tmp_path / "out", formats=("web",))
    assert not (tmp_path / "out" / "web" / "finder.tflite").exists()
    server, address = serve(tmp_path / "out" / "web")
    with server:
        page = visits.open(browser, address)
        expect(page.locator("#status")).to_have_text(re.compile(r"\b1 face"))
        expect(page.locator("#filters")).to_be_hidden()
        (report,) = json.loads(saved(page))
        server.shutdown()
    sample = read_image(page_folder / "samples" / "group.jpg")
    (expected,) = Predictor(tmp_path / "out" / "web" / "model.tflite")(sample)
    assert np.abs(np.array(report["faces"][0]["keypoints"]) - expected.keypoints).max() < 0.01 * report["width"]


def test_a_model_with_score_and_visibility(visits: Visits, browser: Any, drawn: Path, tmp_path: Path) -> None:
    options = {**COMPACT, "heads": ["score", "visibility"]}
    spec = dataclasses.replace(small_face_spec(), architecture_options=options, score=True, visibility=True)
    bundle.save_bundle(small_model(spec), spec, tmp_path / "bundle")
    export_model(tmp_path / "bundle", tmp_path / "out", formats=("web",))
    boxes = [[120, 100, 390, 420]]
    (expected,) = Predictor(tmp_path / "out" / "web" / "model.tflite", second_look=True)(drawn, boxes=boxes)
    server, address = serve(tmp_path / "out" / "web")
    with server:
        page = visits.open(browser, address)
        (received,) = page.evaluate(PREDICT, [base64.b64encode(drawn.read_bytes()).decode(), boxes])
        server.shutdown()
    np.testing.assert_allclose(received["keypoints"], expected.keypoints, atol=0.5)
    assert received["score"] == pytest.approx(expected.score, abs=0.01)
    np.testing.assert_allclose(received["visibility"], expected.visibility, atol=0.01)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without log output."""

    def log_message(self, format: str, *args: object) -> None:
        """Writes no log."""


def test_the_plain_example_marks_a_photograph(
    browser: Any, page_folder: Path, python: Predictor, drawn: Path, tmp_path: Path
) -> None:
    shutil.copytree(page_folder, tmp_path / "kpdetect")
    shutil.copy(SOURCES / "examples" / "plain" / "index.html", tmp_path)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://localhost:{server.server_address[1]}/")
        expect(page.locator("#status")).to_have_text("Choose a photograph")
        page.set_input_files("input", drawn)
        yaws = ", ".join(f"{round(measure(face)['head_pose']['yaw_deg'])}°" for face in python(drawn))
        expect(page.locator("#status")).to_have_text(re.compile(r"^2 faces, turned by .+°, .+°$"))
        received = [int(number) for number in re.findall(r"-?\d+(?=°)", page.locator("#status").inner_text())]
        expected = [int(number) for number in re.findall(r"-?\d+(?=°)", yaws)]
        assert np.abs(np.subtract(received, expected)).max() <= 2
        page.close()
        server.shutdown()


def test_the_examples_are_short() -> None:
    files = [path for path in (SOURCES / "examples").rglob("*") if path.suffix in (".html", ".js", ".jsx")]
    assert len({path.parent for path in files}) == 3
    for path in files:
        if "node_modules" not in path.parts:
            assert len(path.read_text(encoding="utf-8").splitlines()) < 40


@pytest.fixture(scope="module")
def npm() -> str:
    """npm, with the packages of web/package installed."""
    path = shutil.which("npm")
    if path is None or shutil.which("node") is None:
        missing("no Node.js on the PATH")
    if not (PACKAGE / "node_modules" / "esbuild").is_dir():
        pytest.skip("run npm ci --ignore-scripts in web/package")
    return path


def test_the_package_has_the_module_its_types_and_the_worker(npm: str, tmp_path: Path) -> None:
    subprocess.run([npm, "run", "build"], cwd=PACKAGE, check=True, capture_output=True)
    done = subprocess.run([npm, "pack", "--json", "--dry-run"], cwd=PACKAGE, check=True, capture_output=True, text=True)
    (packed,) = json.loads(done.stdout)
    names = {file["path"] for file in packed["files"]}
    assert {"README.md", "dist/index.js", "dist/index.d.ts", "assets/worker.js"} <= names
    assert "assets/litert/litert_wasm_internal.wasm.gz" in names
    assert not [name for name in names if name.startswith(("src/", "tests/"))]
    assert packed["size"] < 7e6


@pytest.mark.parametrize("command", ["check", "test"])
def test_the_typescript_compiles_and_its_tests_pass(npm: str, command: str) -> None:
    done = subprocess.run([npm, "run", command], cwd=PACKAGE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_build_is_that_of_the_sources() -> None:
    """Node.js is not needed for it."""
    digest = hashlib.sha256()
    files = [path for folder in ("package/src", "page") for path in (SOURCES / folder).rglob("*") if path.is_file()]
    for name in sorted(path.relative_to(SOURCES).as_posix() for path in [*files, PACKAGE / "package.json"]):
        digest.update(name.encode() + b"\0" + (SOURCES / name).read_bytes() + b"\0")
    recorded = (SOURCES / "built" / "sources.sha256").read_text().strip()
    assert recorded == digest.hexdigest(), "run: node web/build.mjs"
