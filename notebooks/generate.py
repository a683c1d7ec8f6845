"""Generates the notebooks from their scripts: runs them on synthetic faces and keeps the outputs of cells.

From the root of the repository: ``python notebooks/generate.py``, or ``python notebooks/generate.py 2 3`` for some.
"""

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
CELL_SECONDS = 300  # a longer cell is stopped
PASSING = re.compile(
    r"[IWEF]\d{4} |WARNING: All log|To enable the following|INFO: Created|training on |kpdetect: looking"
    r"|.*\d%\||.*\d %, .*[\d:]+ left"
)
"""Beginnings of lines of stderr that depend on the machine: messages of C++ libraries and devices, progress bars."""

TIMES = re.compile(r" - \d+m?s(?: - \d+m?s/(?:step|epoch))?(?= - )")
"""Times in the progress of Keras."""


def scripts() -> list[Path]:
    """The scripts of the notebooks, in order."""
    return sorted(FOLDER.glob("[0-9]_*.py"))


def notebook_of(script: Path) -> NotebookNode:
    """The notebook of a script, without outputs; the same on every call.

    Args:
        script: In jupytext's percent format.
    """
    notebook = jupytext.read(script)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "jupytext": notebook.metadata["jupytext"]}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # random by default, which would change every cell
    return notebook


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Runs a notebook on synthetic faces, with the kpdetect of this checkout.

    Args:
        notebook: The result of `notebook_of`; changed in place.
        folder: The working folder, which gets `out/` and `runs/`.

    Returns:
        The notebook with its outputs.

    Raises:
        CellExecutionError: A cell failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    environment.pop("KPDETECT_DATA", None)  # outputs must not show photographs of published data
    resources = {"metadata": {"path": str(folder)}}
    # Of a progress bar, only its last state is kept.
    client = NotebookClient(notebook, timeout=CELL_SECONDS, resources=resources, coalesce_streams=True)
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_lasting, cell.outputs) if output.get("text") != ""]
    notebook.metadata.pop("language_info", None)  # the version of Python
    return notebook


def _lasting(output: NotebookNode) -> NotebookNode:
    """An output without text that differs between runs."""
    if output.output_type == "stream" and output.name == "stderr":
        lines = [line for line in output.text.splitlines(True) if not PASSING.match(line) and line.strip()]
        output.text = TIMES.sub("", "".join(lines))
    return output


def main(numbers: Sequence[str]) -> None:
    """Writes the notebooks with the given numbers, or all of them."""
    for script in scripts():
        if not numbers or script.name[0] in numbers:
            with tempfile.TemporaryDirectory() as folder:
                notebook = execute(notebook_of(script), Path(folder))
            target = script.with_suffix(".ipynb")
            nbformat.write(notebook, target)
            print(f"{target.relative_to(FOLDER.parent)}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
