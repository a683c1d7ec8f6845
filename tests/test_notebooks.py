"""Notebooks: each is generated from its script, runs on synthetic faces, and contains no local paths."""

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("[0-9]_*.py"))
LARGEST = 1_000_000  # bytes: a clone fetches every version of every notebook
STRICT = "import warnings\nwarnings.filterwarnings('error', module='kpdetect|__main__')"
MACHINE = re.compile(r"/(home|root|tmp|work|Users|var|opt|mnt|private)/|[A-Z]:\\\\")

each_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """`notebooks/generate.py` as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "notebooks/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(script: Path) -> nbformat.NotebookNode:
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """All text outputs."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found.append(output.get("text", ""))
            found += [text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")]
    return found


def test_there_are_seven_notebooks_and_the_readme_names_each() -> None:
    readme = (ROOT / "notebooks/README.md").read_text(encoding="utf-8")
    assert [script.name[0] for script in SCRIPTS] == ["1", "2", "3", "4", "5", "6", "7"]
    assert all(f"({script.stem}.ipynb)" in readme for script in SCRIPTS)


@each_notebook
def test_a_notebook_equals_its_script(script: Path, generate: ModuleType) -> None:
    made, kept = generate.notebook_of(script), committed(script)
    assert [(cell.id, cell.cell_type, cell.source) for cell in kept.cells] == [
        (cell.id, cell.cell_type, cell.source) for cell in made.cells
    ], "python notebooks/generate.py makes them anew"


@each_notebook
def test_a_committed_notebook_was_run_completely_and_is_small(script: Path) -> None:
    notebook = committed(script)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert script.with_suffix(".ipynb").stat().st_size < LARGEST
    nbformat.validate(notebook)


@each_notebook
def test_committed_outputs_contain_no_local_paths_and_no_shared_data(script: Path) -> None:
    for text in texts(committed(script)):
        assert not MACHINE.search(text)
        assert str(ROOT) not in text
        assert str(Path.home()) not in text
        assert not re.search(r"youtube|imm_face|\bimm:", text)
        assert "warning:" not in text.lower()


@each_notebook
def test_a_notebook_has_no_definitions_and_selects_its_data_in_one_line(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    text = script.read_text(encoding="utf-8")
    decisions = [line for line in text.splitlines() if "os.environ" in line]
    assert len(decisions) == ("kpdetect.data" in text)
    assert all(line.startswith("SPEC = ") and "synthetic:" in line for line in decisions)


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_from_top_to_bottom(
    script: Path, generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPDETECT_DATA", str(tmp_path / "must not be read"))
    notebook = generate.notebook_of(script)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(STRICT, id="strict"))
    before = sorted(path.name for path in (ROOT / "notebooks").iterdir())
    ran = generate.execute(notebook, tmp_path)
    shown = [kind for cell in ran.cells for output in cell.get("outputs", []) for kind in output.get("data", {})]
    assert any(kind.startswith("image/") for kind in shown)
    assert not [text for text in texts(ran) if "warning:" in text.lower()]
    assert sorted(path.name for path in (ROOT / "notebooks").iterdir()) == before


def test_progress_is_removed_from_stderr(generate: ModuleType) -> None:
    noise = "I0000 00:00:1.5 7 port.cc:153] on\ncropping: 100%|███| 5/5 [00:00<00:00]\n\ntrain    3 faces\n"
    kept = generate._lasting(nbformat.v4.new_output("stream", name="stderr", text=noise))
    assert kept.text == "train    3 faces\n"
