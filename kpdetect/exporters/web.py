"""Export to a web page: a static folder with the page, a TFLite file for LiteRT.js, and the face finder."""

import dataclasses
from pathlib import Path

from kpdetect.exporters import web_page
from kpdetect.exporters.source import Source
from kpdetect.exporters.tflite import write_tflite
from kpdetect.modelfile import bundle


def write_web(source: Source, path: Path) -> None:
    """Writes the page and its model with batch 1 and float16 weights; the folder is a bundle too.

    LiteRT.js rejects a free batch, and returns zeros where a graph computes a shape, so the graph is built for batch 1.

    Raises:
        KpdetectError: The page is not part of this installation, or an op has no built-in kernel.
    """
    path.mkdir()
    model = path / web_page.MODEL_FILE
    write_tflite(dataclasses.replace(source, batch=1), model, half=True)
    spec = dataclasses.replace(source.spec, files={model.name: bundle.file_record(model)})
    for name, content in web_page.page_files(spec, {"wasm": model, "webgpu": model}).items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if content != target:
            target.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
