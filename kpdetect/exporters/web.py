"""Export to a web page: a static folder with the page and a TFLite file for LiteRT.js."""

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
        KpdetectError: The page cannot be built (see `kpdetect.exporters.web_page`), or an op has no built-in kernel.
    """
    model = path / web_page.MODEL_FILE
    web_page.write_page(path)
    write_tflite(dataclasses.replace(source, batch=1), model, half=True)
    bundle.write_spec(dataclasses.replace(source.spec, files={model.name: bundle.file_record(model)}), path)
