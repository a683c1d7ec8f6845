"""Checks that code in documents runs, links resolve, and figures equal ``results.csv``.

Python blocks of a page run one after the other with one namespace, in a folder with small synthetic files. Lines of
shell blocks that start with ``kpdetect`` or ``python -m kpdetect.NAME`` run in the same folder, except `PARSED_ONLY`:
those commands take minutes or start other processes, so only their options are checked here; other tests run them.
Lines that start with one of `OTHER_PROGRAMS` are not run.

A comment above a block changes this: ``<!-- not run: REASON -->`` or ``<!-- parsed only: REASON -->``.
"""

import ast
import csv
import importlib
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from small_models import small_bundle, small_face_spec

from kpdetect.core import options as command_options
from kpdetect.core.images import read_image, write_image
from kpdetect.core.schema import user_schema
from kpdetect.data import load

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("exported_models/*/README.md"),
    ]
)
PARSED_ONLY = ("train", "tune", "export", "benchmark", "label")
OTHER_PROGRAMS = ("pip ", "git ", "cd ", "python -m pytest", "ruff ", "mypy", "mkdocs ", "python tools/")
HISTORY = ("docs/development/compact.md", "docs/development/training.md", "CHANGELOG.md")
"""Documents of the development; their figures are not those of the shipped model."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def tool(name: str) -> Any:
    """A script of ``tools/`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        language: As written after the fence.
        code: Its text.
        line: Where it starts, from 1.
        mark: ``not run``, ``parsed only``, or empty.
        reason: Why.
    """

    language: str
    code: str
    line: int
    mark: str
    reason: str


_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|parsed only): (?P<reason>[^\n]*?) -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def blocks_of(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        block = Block(match["language"], match["code"], line, match["mark"] or "", match["reason"] or "")
        if block.language in languages:
            found.append(block)
    return found


def prose_of(page: Path) -> str:
    """The text of a page without code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


NAMES = ("nose_tip", "left_eye_outer", "right_eye_outer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the code in the documents reads."""
    here = tmp_path_factory.mktemp("documents")
    (here / "exported_models").symlink_to(ROOT / "exported_models")
    portrait = pytest.importorskip(
        "skimage.data", reason="scikit-image ships the photograph"
    ).astronaut()  # NASA, public domain
    write_image(here / "photo.jpg", portrait)
    write_labelled_faces(here, count=16)
    _write_clip(here / "clip.mp4", portrait)
    cv2.imwrite(str(here / "crown.png"), np.full((500, 500, 4), 255, np.uint8))
    anchors = {"left_eye_outer": [310, 420], "right_eye_outer": [190, 420]}
    (here / "crown.json").write_text(json.dumps({"picture": "crown.png", "anchors": anchors}))
    coco = {
        "categories": [{"keypoints": ["left_eye", "right_eye", "nose", "chin"]}],
        "images": [{"id": 7, "file_name": "photo.jpg"}],
        "annotations": [{"image_id": 7, "keypoints": [240, 110, 2, 210, 110, 2, 225, 135, 2, 0, 0, 0]}],
    }
    (here / "coco.json").write_text(json.dumps(coco))
    line = {"image": "photo.jpg", "points": [[210, 110], [240, 110], [225, 130]]}
    (here / "faces.jsonl").write_text(json.dumps(line) + "\n")
    return here


def write_labelled_faces(here: Path, count: int) -> None:
    """``my_faces.csv`` with photographs of three points, and ``runs/mine``, a small model of these."""
    faces = load(f"synthetic:{count}").select(NAMES)
    header = ["image", *(f"{name}_{axis}" for name in NAMES for axis in "xy"), "subject"]
    with (here / "my_faces.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row, path in enumerate(faces.paths.tolist()):
            name = f"photos/{row:02d}.png"
            write_image(here / name, faces.read(path))
            writer.writerow([name, *faces.keypoints[row].ravel().tolist(), f"person {row // 2}"])
    rule = {"val_fraction": 0.3, "seed": 0}
    spec = replace(
        small_face_spec(), schema=user_schema(NAMES), data=("my_faces.csv",), extra={"seed": 0, "split": rule}
    )
    small_bundle(here / "runs" / "mine", spec=spec)
    (here / "runs" / "mine" / "history.csv").write_text(
        "epoch,loss,val_loss,val_nme,val_nme_mirrored\n1,3,3,9,9\n2,2,2,8,8\n"
    )


def _write_clip(file: Path, portrait: np.ndarray) -> None:
    frame = cv2.cvtColor(cv2.resize(portrait, (256, 256)), cv2.COLOR_RGB2BGR)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), 10, (256, 256))
    for _ in range(4):
        writer.write(frame)
    writer.release()


@pytest.fixture
def registries() -> Iterator[None]:
    """Removes entries that the code of a page adds to the registries."""
    from kpdetect import models
    from kpdetect.data.sources import SOURCES
    from kpdetect.models.losses import LOSSES
    from kpdetect.recipes import RECIPES

    known: tuple[dict[str, Any], ...] = (SOURCES, LOSSES, RECIPES, models.ARCHITECTURES)
    before = [dict(registry) for registry in known]
    yield
    for registry, entries in zip(known, before, strict=True):
        registry.clear()
        registry.update(entries)


@each_page
@pytest.mark.usefixtures("registries")
def test_python_blocks_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    namespace: dict[str, Any] = {"__name__": "document"}
    for block in blocks_of(page, "python"):
        name = f"{page.relative_to(ROOT)}:{block.line}"
        code = compile("\n" * block.line + block.code, name, "exec")  # errors show the line of the page
        if not block.mark:
            exec(code, namespace)


class Parsed(Exception):
    """Raised after the options of a command were parsed."""


@each_page
def test_shell_blocks_run(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for words, parse_only in commands_of(page):
        if parse_only:
            parse(words, monkeypatch)
        else:
            module = importlib.import_module(f"kpdetect.{words[0]}")
            assert module.main(words[1:]) == 0, shlex.join(words)


def commands_of(page: Path) -> Iterator[tuple[list[str], bool]]:
    """The arguments of each kpdetect command of a page, and whether it is only parsed."""
    for block in blocks_of(page, "shell"):
        if block.mark == "not run":
            continue
        for line in block.code.replace("\\\n", " ").splitlines():
            line = line.rpartition("&&")[2].strip()
            if match := re.match(r"(?:kpdetect |python -m kpdetect\.)(.*)", line):
                words = shlex.split(match[1], comments=True)
                inspects = "--inspect" in words  # export --inspect only reads a file, which is fast
                yield words, block.mark == "parsed only" or (words[0] in PARSED_ONLY and not inspects)
            else:
                assert line.startswith(OTHER_PROGRAMS) or not line, f"{page.name}:{block.line}: {line}"


def parse(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parses the options of a command without running it."""
    module = importlib.import_module(f"kpdetect.{words[0]}")

    def parse_and_stop(*arguments: Any) -> None:
        options = command_options.parse_options(*arguments)
        if words[0] == "train":
            from kpdetect.recipes import choose_recipe

            choose_recipe(options)
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr(module, "parse_options", parse_and_stop)
        with pytest.raises(Parsed):
            module.main(list(words[1:]))


def test_the_page_of_five_steps_has_the_commands_of_its_benchmark() -> None:
    spec = importlib.util.spec_from_file_location("five_steps", ROOT / "benchmarks/five_steps.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    made = [
        ["train", *benchmark.command(name, "youtube-faces:DIR", Path("runs/five-steps"))] for name in benchmark.STEPS
    ]
    on_page = [words for words, _ in commands_of(ROOT / "docs/from-student-project.md") if words[0] == "train"]
    assert [sorted(words) for words in on_page] == [sorted(words) for words in made]


@each_page
def test_every_block_has_a_language_and_a_reason_if_it_is_not_run(page: Path) -> None:
    known = {"python", "shell", "csv", "json", "text", "kotlin", "swift"}
    for block in blocks_of(page, *known, ""):
        # The two set-up commands of the README are fixed, with plain fences.
        setup = 'pip install ".[' in block.code
        assert block.language or setup, f"{page.name}:{block.line}"
        assert not block.mark or block.reason


def test_the_readme_has_the_two_set_up_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 'pip install ".[train]" && python -m kpdetect.train\n' in readme
    assert 'pip install ".[test]" && python -m pytest\n' in readme
    assert 'pip install --quiet ".[test]"' in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_picture_of_the_readme_is_drawn_by_the_shipped_model() -> None:
    pytest.importorskip("skimage.data", reason="scikit-image ships the photograph")
    drawn = tool("example_picture").example_picture().astype(float)
    shown = read_image(ROOT / "exported_models/compact/example.jpg").astype(float)
    assert np.abs(drawn - shown).mean() < 3, "python tools/example_picture.py draws it"  # JPEG is lossy


# Links

_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s#]*)(?:#(?P<anchor>[^)\s]+))?\)")
_PATH = re.compile(
    r"`(?:python )?((?:benchmarks|docs|examples|exported_models|kpdetect|notebooks|tests|tools)/[\w./-]+)"
)


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs both make them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_resolve(page: Path) -> None:
    for match in _LINK.finditer(prose_of(page)):
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name}: {target}"
        assert not match["anchor"] or match["anchor"] in anchors_of(file), f"{page.name}: {match.group()}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    for path in _PATH.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path.rstrip(".")).exists(), f"{page.name}: {path}"


def test_the_site_has_every_page() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs').as_posix()}\n" in config, page


def test_the_api_reference_has_every_package() -> None:
    packages = {file.parent.name for file in (ROOT / "kpdetect").glob("[a-z]*/__init__.py")}
    pages = {page.stem for page in (ROOT / "docs/api").glob("*.md")} - {"index"}
    assert pages == packages


def test_the_api_reference_names_modules_that_exist() -> None:
    named = re.findall(r"^::: (\S+)", "\n".join(page.read_text() for page in (ROOT / "docs/api").glob("*.md")), re.M)
    assert named
    for module in named:
        assert importlib.util.find_spec(module) is not None, module


def test_the_quick_start_lists_every_extra() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    extras = re.findall(r'^        "(\w+)": ', setup[setup.index("extras_require") :], re.MULTILINE)
    listed = re.findall(r'^\| `pip install "\.\[(\w+)\]"` \|', (ROOT / "docs/index.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(extras)


def test_the_quick_start_lists_every_command() -> None:
    from kpdetect.__main__ import COMMANDS

    listed = re.findall(r"^\| `kpdetect (\w+)` \|", (ROOT / "docs/index.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def test_the_page_of_pictures_lists_every_picture() -> None:
    from kpdetect.show import PICTURES

    page = (ROOT / "docs/evaluate.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w-]+)` \|", page[page.index("kinds of pictures") :], re.MULTILINE)
    assert sorted(listed) == sorted(PICTURES)


def test_the_page_of_formats_lists_every_kind_of_data() -> None:
    from kpdetect.data.sources import SOURCES

    page = (ROOT / "docs/data-formats.md").read_text(encoding="utf-8")
    table = page[: page.index("Every row is checked")]
    assert set(re.findall(r"`([\w-]+):", table)) - {"KIND"} == set(SOURCES)


def test_the_recipes_page_has_every_recipe() -> None:
    from kpdetect.recipes import RECIPES

    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/recipes.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(RECIPES) <= {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}


# Figures


def test_tables_and_figures_are_those_of_the_results() -> None:
    assert not tool("results_tables").outdated(), "python tools/results_tables.py rewrites them"


def test_the_readme_shows_five_results() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"<!-- table: readme -->\n(.*?)<!-- /table -->", readme, re.DOTALL)
    assert len(table[1].splitlines()) == 2 + 5


def test_the_errors_in_the_description_of_the_shipped_model_are_those_of_the_results() -> None:
    tables = tool("results_tables")
    rows = {(row.file, row.dataset, row.boxes): row for row in tables.read_measured().rows if row.model == "compact"}
    spec = json.loads((ROOT / "exported_models/compact/spec.json").read_text(encoding="utf-8"))
    assert spec["errors"]
    for error in spec["errors"]:
        row = rows[error["file"], error["dataset"], error["boxes"]]
        assert {name: getattr(row, name) for name in error} == error


def test_a_marker_of_an_unknown_figure_is_an_error() -> None:
    tables = tool("results_tables")
    for page in ("<!-- table: nope -->\n<!-- /table -->", "<!-- fig: 300w.nope -->1<!-- /fig -->"):
        with pytest.raises(Exception, match="nope"):
            tables.rewritten(page, tables.read_measured())


_ERROR = re.compile(r"\b\d+\.\d\d ?%")
"""An error as all documents write it, with two decimals."""


@each_page
def test_no_line_begins_with_a_figure(page: Path) -> None:
    """For GitHub and MkDocs, a line that begins with a comment is HTML, which ends the paragraph."""
    assert "\n<!-- fig" not in page.read_text(encoding="utf-8")


@each_page
def test_errors_come_from_the_results_or_from_a_named_script(page: Path) -> None:
    """Tables with errors are generated or name the script that measures them; errors in sentences are generated."""
    if page.relative_to(ROOT).as_posix() in HISTORY:
        pytest.skip("a document of history")
    text = re.sub(r"<!-- table: .*?<!-- /table -->", "", prose_of(page), flags=re.DOTALL)
    text = re.sub(r"<!-- fig: .*?<!-- /fig -->", "", text)
    text = re.sub(r"^Measured by `\S+`\.\n+(?:\|.*\n)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
    assert not _ERROR.findall(text)


def python_prose() -> Iterator[tuple[str, str]]:
    """Names and texts: docstrings of examples and recipes, and the Markdown of notebooks."""
    for file in [*ROOT.glob("examples/*.py"), *ROOT.glob("kpdetect/recipes/*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes = (ast.Module, ast.FunctionDef, ast.ClassDef)
        texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, nodes)]
        yield file.relative_to(ROOT).as_posix(), "\n".join(texts)
    for file in ROOT.glob("notebooks/[0-9]_*.py"):
        lines = file.read_text(encoding="utf-8").splitlines()
        yield file.relative_to(ROOT).as_posix(), "\n".join(line for line in lines if line.startswith("# "))


@pytest.mark.parametrize(("name", "text"), [pytest.param(*pair, id=pair[0]) for pair in python_prose()])
def test_instructions_contain_no_measured_errors(name: str, text: str) -> None:
    assert not re.findall(r"\b\d+\.\d+ ?%", text)


# The site


def test_the_site_builds(tmp_path: Path) -> None:
    build = pytest.importorskip("mkdocs.commands.build", reason="pip install '.[docs]'")
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build.build(config)
    pages = {page.relative_to(tmp_path / "site").as_posix() for page in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "results.html", "models/compact.html", "api/inference.html"} <= pages
    assert "examples/" in (tmp_path / "site" / "export.html").read_text()
    shows_demo = "demo/index.html" in (tmp_path / "site" / "browser.html").read_text()
    assert shows_demo == (tmp_path / "site" / "demo" / "settings.json").is_file()
