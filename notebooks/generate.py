"""Owns the way from a script to its notebook: runs it on drawn faces and keeps what its cells print and show.

From the root of the repository: ``python notebooks/generate.py``; with numbers, ``… generate.py 2 3``, those alone.
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
CELL_SECONDS = 300  # a cell that takes longer hangs
PASSING = re.compile(r"[IWEF]\d{4} |WARNING: All log messages|To enable the following|INFO: Created|.*\d%\|")
"""How lines of stderr begin that are of the moment: what C++ libraries tell of the machine, and progress bars."""


def scripts() -> list[Path]:
    """The notebooks as scripts, in their order."""
    return sorted(FOLDER.glob("[0-9]_*.py"))


def notebook_of(script: Path) -> NotebookNode:
    """The notebook that a script is the source of, without outputs; the same on every call.

    Args:
        script: In jupytext's percent format.
    """
    notebook = jupytext.read(script)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "jupytext": notebook.metadata["jupytext"]}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # jupytext draws them at random, and then every run would change every cell
    return notebook


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Runs a notebook from top to bottom on drawn faces, with this checkout's kpdetect; gives it with its outputs.

    Args:
        notebook: As `notebook_of` gives it; changed in place.
        folder: Where it runs, and where its `out/` and `runs/` go.

    Raises:
        CellExecutionError: A cell failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    environment.pop("KPDETECT_DATA", None)  # outputs must never show a photograph of real data
    resources = {"metadata": {"path": str(folder)}}
    # Of a progress bar, only what it shows at its end is kept.
    client = NotebookClient(notebook, timeout=CELL_SECONDS, resources=resources, coalesce_streams=True)
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_lasting, cell.outputs) if output.get("text") != ""]
    notebook.metadata.pop("language_info", None)  # which Python it was
    return notebook


def _lasting(output: NotebookNode) -> NotebookNode:
    """An output without lines that the next run prints differently."""
    if output.output_type == "stream" and output.name == "stderr":
        output.text = "".join(line for line in output.text.splitlines(True) if not PASSING.match(line) and line.strip())
    return output


def main(numbers: Sequence[str]) -> None:
    """Writes the notebooks with these numbers, or all of them."""
    for script in scripts():
        if not numbers or script.name[0] in numbers:
            with tempfile.TemporaryDirectory() as folder:
                notebook = execute(notebook_of(script), Path(folder))
            target = script.with_suffix(".ipynb")
            nbformat.write(notebook, target)
            print(f"{target.relative_to(FOLDER.parent)}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
