"""The web page in Chromium: the same points as in Python, messages, and no requests to other hosts."""

import dataclasses
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from messages import mentions
from small_models import small_model, small_spec

from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import CropRule
from kpdetect.core.images import read_image, write_image
from kpdetect.core.schema import IBUG68
from kpdetect.data import synthetic
from kpdetect.detection import Face, HaarDetector
from kpdetect.detection.haar import JUDGED_VOTES
from kpdetect.export import export_model
from kpdetect.exporters import web_page
from kpdetect.filters import apply_filters
from kpdetect.modelfile import bundle, runtime
from kpdetect.predict import Predictor

ON_CI = bool(os.environ.get("CI"))
if ON_CI:  # a skip could be overlooked there
    import playwright.sync_api as playwright
else:
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
expect = playwright.expect
PATIENCE_MS = 60_000  # the first detection loads and compiles 13 MB
expect.set_options(timeout=PATIENCE_MS)  # for each wait, also on a busy machine

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 reads its variables in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "exported_models" / "compact"
FLOATS = SHIPPED / "compact.tflite"  # the page computes in float32, `Predictor()` in int8
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


@pytest.fixture(scope="session")
def npm() -> str:
    try:
        return web_page.npm_path(Path("the built page"))
    except KpdetectError as error:
        return missing(str(error))


@pytest.fixture(scope="module")
def page_folder(npm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the shipped model."""
    out = tmp_path_factory.mktemp("page") / "out"
    export_model(SHIPPED, out, formats=("web",))
    return out / "web"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without log output; some systems lack the MIME type of .wasm."""

    extensions_map: ClassVar[dict[str, str]] = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: object) -> None:
        """Writes no log."""


@pytest.fixture(scope="module")
def address(page_folder: Path) -> Iterator[str]:
    """The address at which localhost serves the pages."""
    handler = functools.partial(Handler, directory=str(page_folder.parent))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}/"
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

    def open(self, browser: Any, folder: str = "web", **options: Any) -> Any:
        """Opens a page in a new context and waits until its model is loaded."""
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        self.contexts.append(context)
        context.on("request", lambda request: self.asked.append(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: self.mistakes.append(str(error)))
        page.goto(f"{self.address}{folder}/")
        expect(page.locator("#status")).to_contain_text(re.compile("photograph", re.I))  # loading has ended
        return page

    def end(self) -> None:
        for context in self.contexts:
            context.close()
        assert not self.mistakes
        assert not [url for url in self.asked if not url.startswith((self.address, "blob:", "data:"))]


@pytest.fixture
def visits(address: str) -> Iterator[Visits]:
    """Opens pages; script errors and requests to other hosts fail the test."""
    opened = Visits(address)
    yield opened
    opened.end()


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page shared by all tests that detect faces: the detector takes seconds to load."""
    opened = Visits(address)
    shared = opened.open(browser)
    assert not [url for url in opened.asked if "opencv" in url]  # 13 MB, loaded on demand
    yield shared
    # Requests of workers are recorded too, so `end` checks them.
    assert {"opencv.js", "haarcascade_profileface.xml"} <= {url.rsplit("/", 1)[1] for url in opened.asked}
    opened.end()


def open_picture(page: Any, path: Path) -> None:
    page.set_input_files("#file", path)
    expect(page.locator("#stage")).to_have_attribute("aria-busy", "false")


def saved_points(page: Any) -> dict[str, Any]:
    expect(page.locator("#save-points")).to_be_enabled()
    with page.expect_download() as download:
        page.click("#save-points")
    (report,) = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return dict(report)


def faces_of(report: dict[str, Any]) -> list[Face]:
    return [
        Face(np.array(face["keypoints"], np.float32), IBUG68, face["score"], None, np.array(face["box"], np.float32))
        for face in report["faces"]
    ]


def crop_pixels_apart(first: Face, second: Face) -> float:
    """The maximal distance between the points of two faces, in pixels of their crop."""
    crop = bundle.read_spec(SHIPPED).crop
    side = float(np.ptp(second.keypoints, axis=0).max()) * crop.margin
    return float(np.linalg.norm(first.keypoints - second.keypoints, axis=1).max() * crop.size_hw[0] / side)


def assert_equals_python(page: Any, path: Path) -> list[Face]:
    open_picture(page, path)
    faces = faces_of(saved_points(page))
    expected = Predictor(FLOATS, second_look=True)(path, boxes=[face.detection_box for face in faces])
    for face, same in zip(faces, expected, strict=True):
        assert crop_pixels_apart(face, same) < TOLERANCE_PX
        assert face.score == pytest.approx(same.score, abs=0.02)
    return faces


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """An image with two synthetic faces of different sizes."""
    small = synthetic.render(7, 5, 300)[0]
    picture = np.hstack([synthetic.render(7, 23, 512)[0], np.pad(small, ((106, 106), (0, 0), (0, 0)), "edge")])
    write_image(tmp_path / "drawn.png", picture)
    return tmp_path / "drawn.png"


def test_the_folder_is_complete_and_part_of_the_bundle(page_folder: Path) -> None:
    recorded = bundle.read_spec(page_folder.parent).files
    files = [path.relative_to(page_folder.parent).as_posix() for path in page_folder.rglob("*") if path.is_file()]
    assert set(files) | {"model.weights.h5"} == set(recorded)
    assert recorded["web/model.tflite"]["max_difference_px"] is not None
    assert bundle.read_spec(page_folder / "model.tflite").schema == IBUG68
    assert runtime.load(page_folder).path == page_folder / "model.tflite"  # the folder is a bundle too
    assert not list(page_folder.rglob("*.map"))


def test_points_and_boxes_equal_python(page: Any, drawn: Path) -> None:
    faces = assert_equals_python(page, drawn)
    expect(page.locator("#status")).to_have_text(re.compile(r"\b2\b"))
    boxes = HaarDetector(min_votes=JUDGED_VOTES)(read_image(drawn))
    for face in faces:
        # OpenCV.js and OpenCV may differ by a step of a cascade's window.
        assert np.abs(boxes - face.detection_box).max(axis=1).min() < 0.05 * np.ptp(face.detection_box[[0, 2]])
    assert page.locator("#time-model").inner_text().endswith(" ms")


def test_points_equal_python_on_photographs(page: Any, shared_data: Path) -> None:
    """One has faces of 30 pixels, the other an EXIF orientation."""
    for name, count in (("group.jpg", 6), ("portrait_exif.jpg", 1)):
        assert len(assert_equals_python(page, shared_data / "photos" / name)) >= count


def test_a_face_that_no_cascade_finds_is_found_by_the_model(page: Any, tmp_path: Path) -> None:
    """Cascades detect upright faces only; the model scans the whole image, as in Python."""
    tilt = cv2.getRotationMatrix2D((150, 150), 30, 1.0)
    tilted = cv2.warpAffine(synthetic.render(7, 0, 300)[0], tilt, (300, 300), borderMode=cv2.BORDER_REPLICATE)
    picture = np.pad(tilted, ((30, 30), (50, 50), (0, 0)), "edge")
    assert not len(HaarDetector(min_votes=JUDGED_VOTES)(picture))
    write_image(tmp_path / "tilted.png", picture)
    (face,) = assert_equals_python(page, tmp_path / "tilted.png")
    (expected,) = Predictor(FLOATS, detector="haar")(picture)
    assert crop_pixels_apart(face, expected) < TOLERANCE_PX


def test_exif_orientation_is_applied(page: Any, tmp_path: Path) -> None:
    image, _ = synthetic.render(7, 11, 400)
    turned = cv2.imencode(".jpg", cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)[..., ::-1])[1].tobytes()
    orientation_6 = bytes.fromhex("ffe1002245786966000049492a000800000001001201030001000000060000000000000000")
    (tmp_path / "turned.jpg").write_bytes(turned[:2] + orientation_6[:36] + turned[2:])
    assert np.abs(read_image(tmp_path / "turned.jpg").astype(int) - image).mean() < 5
    assert len(assert_equals_python(page, tmp_path / "turned.jpg")) == 1


def test_filters_equal_python(page: Any, drawn: Path) -> None:
    open_picture(page, drawn)
    page.uncheck("#points")
    for name in ("hat", "moustache", "sunglasses"):
        page.check(f"input[value={name}]")
    with page.expect_download() as download:
        page.click("#save-picture")
    for name in ("hat", "moustache", "sunglasses"):
        page.uncheck(f"input[value={name}]")
    page.check("#points")  # restores the page for the next test
    shown = read_image(download.value.path()).astype(int)
    faces = faces_of(saved_points(page))
    expected = apply_filters(read_image(drawn), faces, ["hat", "moustache", "sunglasses"]).astype(int)
    assert np.abs(read_image(drawn) - expected).mean() > 10  # the filters cover a part of the picture
    assert np.abs(shown - expected).mean() < 1


def test_messages_for_an_invalid_image_and_for_no_face(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    open_picture(page, tmp_path / "notes.png")
    expect(page.locator("#alert")).to_contain_text("notes.png")
    write_image(tmp_path / "grey.png", np.full((200, 300, 3), 128, np.uint8))
    open_picture(page, tmp_path / "grey.png")
    expect(page.locator("#status")).to_contain_text(re.compile(r"\bno face", re.I))
    expect(page.locator("#alert")).to_be_empty()
    expect(page.locator("#save-points")).to_be_disabled()


def test_a_dropped_file_is_opened(page: Any) -> None:
    page.evaluate(
        """async () => {
            const data = new DataTransfer();
            data.items.add(new File([await (await fetch("example.png")).blob()], "dropped.png"));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
        }"""
    )
    label = re.compile(r"dropped\.png.*\b2\b")
    expect(page.locator("#canvas")).to_have_attribute("aria-label", label)


def test_faces_of_the_camera_are_tracked(page: Any, moving_face: tuple[Path, npt.NDArray[np.float32]]) -> None:
    page.context.grant_permissions(["camera"])
    page.click("#camera")
    expect(page.locator("#status")).to_have_text(re.compile(r"\b1\b"))
    shape_expected = moving_face[1] - moving_face[1].mean(axis=0)
    middles = []
    for _ in range(8):
        page.wait_for_timeout(250)
        report = saved_points(page)
        assert (report["width"], report["height"]) == (640, 480)
        for face in report["faces"]:
            points = np.array(face["keypoints"])
            apart = np.linalg.norm(points - points.mean(axis=0) - shape_expected, axis=1).mean()
            assert apart < 0.08 * np.ptp(shape_expected)
            middles.append(points.mean(axis=0)[0])
    assert 5 <= len(middles) <= 8  # one face, which may be lost briefly on a busy machine
    assert np.ptp(middles) > 20  # the points follow the moving face
    expect(page.locator("#time-frame")).to_contain_text(" ms")
    page.click("#camera")
    expect(page.locator("#status")).to_contain_text(re.compile(r"\bcamera\b", re.I))
    expect(page.locator("#camera")).to_have_attribute("aria-pressed", "false")


def test_a_refused_camera_gives_a_message(visits: Visits, browser: Any) -> None:
    page = visits.open(browser, permissions=[])
    page.click("#camera")
    expect(page.locator("#alert")).to_contain_text(re.compile(r"camera.*allow", re.I | re.S))


def test_a_missing_camera_gives_a_message(visits: Visits, launch: Any) -> None:
    with launch(args=FLAGS) as without_camera:
        page = visits.open(without_camera, permissions=["camera"])
        page.click("#camera")
        expect(page.locator("#alert")).to_contain_text(re.compile(r"\bno camera\b", re.I))


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_as_wide_as_the_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.click("#example")
    expect(page.locator("#status")).to_have_text(re.compile(r"\b2\b"))
    assert page.evaluate("() => document.documentElement.scrollWidth") == width


def test_the_page_works_by_keyboard(visits: Visits, browser: Any) -> None:
    page = visits.open(browser)
    page.on("filechooser", lambda chooser: None)  # intercepts the dialogue, which would stay open
    page.keyboard.press("Tab")
    expect(page.locator("#open")).to_be_focused()
    with page.expect_file_chooser():
        page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#example")).to_be_focused()
    page.keyboard.press("Space")
    # The label is set as soon as the image is read; detected faces are not tested here.
    expect(page.locator("#canvas")).to_have_attribute("aria-label", re.compile(r"Example\."))


def test_a_model_of_whole_images_with_other_points(visits: Visits, browser: Any, page_folder: Path) -> None:
    """A model of the nose tip: no detector, no score, and no filter with matching anchors."""
    work = page_folder.parent / "nose"
    spec = dataclasses.replace(small_spec("imm-nose"), crop=CropRule((60, 80), 1.0, around="image"))
    bundle.save_bundle(small_model(spec), spec, work / "bundle")
    export_model(work / "bundle", work / "out", formats=("web",))
    page = visits.open(browser, "nose/out/web")
    page.click("#example")
    expect(page.locator("#status")).to_have_text(re.compile(r"\b1\b"))
    expect(page.locator("#filters")).to_be_hidden()
    report = saved_points(page)
    (expected,) = Predictor(work / "out" / "web" / "model.tflite")(web_page.example())
    assert np.abs(np.array(report["faces"][0]["keypoints"]) - expected.keypoints).max() < 0.01 * report["width"]


def test_the_typescript_compiles_and_its_tests_pass(npm: str, tmp_path: Path) -> None:
    work = tmp_path / "web"
    shutil.copytree(web_page.SOURCES, work, ignore=shutil.ignore_patterns(*web_page.NOT_SOURCES))
    for command in (
        ["ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"],
        ["run", "check"],
        ["test"],
    ):
        done = subprocess.run([npm, *command], cwd=work, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_without_node_the_error_names_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(KpdetectError, match=mentions("npm", "Node.js 20.19", "page-")):
        export_model(SHIPPED, tmp_path / "out", formats=("web",))
    assert not list(tmp_path.iterdir())


def test_an_old_node_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v18.19.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: str(old))
    with pytest.raises(KpdetectError, match=mentions("Node.js 20.19", "v18.19.1")):
        web_page.built_page()


def test_a_failing_npm_is_an_error_and_leaves_no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(web_page, "npm_path", lambda built: sys.executable)  # which has no command "ci"
    with pytest.raises(KpdetectError, match=mentions("ci --omit=dev")):
        web_page.built_page()
    assert not list(tmp_path.iterdir())
