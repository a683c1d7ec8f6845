"""Serves the page for browsers: compressed, with its MIME types and security headers, without Node.js or TensorFlow."""

import gzip
import hashlib
import http.server
import mimetypes
import os
import threading
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from kpdetect.core.errors import KpdetectError
from kpdetect.exporters import web_page
from kpdetect.exporters.fixed_shape import with_fixed_shape
from kpdetect.modelfile.bundle import model_kind, read_spec
from kpdetect.modelfile.graphs import tflite_ops
from kpdetect.modelfile.registry import PathLike, resolve
from kpdetect.modelfile.spec import Spec

CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asks again each time, and is told that nothing changed
}
TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".gz": "application/gzip",
    ".tflite": "application/octet-stream",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
}
COMPRESSED = {".html", ".js", ".css", ".json", ".svg", ".tflite", ".webmanifest", ".txt"}


class PageFile:
    """One file of the page; its compressed form is made when it is first asked for.

    Example:
        ``PageFile("page.css", b"body {}").media_type`` is ``text/css; charset=utf-8``.

    Args:
        name: Its name in the page's folder.
        content: Its bytes, or its path.
    """

    def __init__(self, name: str, content: bytes | Path) -> None:
        self.content = content if isinstance(content, bytes) else content.read_bytes()
        self.tag = f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'
        suffix = PurePosixPath(name).suffix
        kind = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        self.media_type = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        self._lock = threading.Lock()
        self._is_compressed = suffix in COMPRESSED
        self._packed: bytes | None = None

    def packed(self) -> bytes | None:
        """Returns the gzip form; None for formats that are compressed already."""
        if not self._is_compressed:
            return None
        with self._lock:
            if self._packed is None:
                self._packed = gzip.compress(self.content, 6, mtime=0)
        return self._packed


def files_to_serve(model: PathLike) -> dict[str, PageFile]:
    """Returns the files of the page of a model.

    Example:
        ``files_to_serve("compact")["index.html"]``

    Args:
        model: The folder of ``kpdetect export --formats web``; a model's folder with TFLite files, of which those of
            batch 1 are preferred; such a file; or the name of a packaged model.

    Raises:
        KpdetectError: There is no such model, it has no TFLite file, or its only one computes shapes.
    """
    place = resolve(model)
    if (place / web_page.SETTINGS_FILE).is_file() and (place / "index.html").is_file():
        found = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
        return {name: PageFile(name, path) for name, path in found.items()}
    spec = read_spec(place)
    if model_kind(place) == "tflite":
        candidates = [place]
    else:
        candidates = [place / name for name in spec.files if name.endswith(".tflite") and (place / name).is_file()]
    fixed = {name for name, record in spec.files.items() if record.get("batch") == 1}
    models = _by_accelerator([path for path in candidates if path.name in fixed])
    if not models and candidates:
        models = {"wasm": with_batch_1(candidates[0], spec)}
    if not models:
        raise KpdetectError(
            f"{model}: has no TFLite file, which browsers need; export one with --formats tflite --batch 1"
        )
    files = web_page.page_files(spec, models)
    return {name: PageFile(name, content) for name, content in files.items()}


def with_batch_1(path: Path, spec: Spec) -> bytes:
    """Returns a TFLite file with a batch of 1 instead of a free one.

    Example:
        ``with_batch_1(Path("mine.tflite"), read_spec("mine.tflite"))``

    Raises:
        KpdetectError: The file is damaged, or computes shapes, for which LiteRT.js returns zeros.
    """
    content = path.read_bytes()
    if "SHAPE" in tflite_ops(content):
        raise KpdetectError(
            f"{path}: computes shapes, which browsers cannot; export it with --formats tflite --batch 1"
        )
    return with_fixed_shape(content, (1, *spec.input_shape), path.name)


def _by_accelerator(paths: list[Path]) -> dict[str, bytes | Path]:
    """Returns the smallest file for the processor, and the smallest of those with float activations for the GPU."""
    by_size = sorted(paths, key=lambda path: path.stat().st_size)
    floats = [path for path in by_size if "_int8" not in path.name]
    models: dict[str, bytes | Path] = {"wasm": by_size[0]} if by_size else {}
    return models | ({"webgpu": floats[0]} if floats else {})


def make_server(files: Mapping[str, PageFile], host: str, port: int) -> http.server.ThreadingHTTPServer:
    """Returns a server of the page; ``serve_forever`` runs it.

    Example:
        ``make_server(files_to_serve("compact"), "localhost", 8000).serve_forever()``

    Args:
        files: From `files_to_serve`.
        host: The address to listen at.
        port: The port; 0 chooses a free one.

    Raises:
        KpdetectError: The address is not available.
    """
    try:
        return _Server((host, port), partial(_Handler, files))
    except (OSError, OverflowError) as error:
        raise KpdetectError(f"cannot listen at {host}:{port}: {error}; choose another --port") from error


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # On Windows, another program could listen at the same port.
    allow_reuse_address = os.name != "nt"


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD of the page's files."""

    protocol_version = "HTTP/1.1"
    server_version = "kpdetect"
    sys_version = ""

    def __init__(self, files: Mapping[str, PageFile], *arguments: object) -> None:
        self._files = files
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Sends a file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Sends the headers of a file."""
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/") or "index.html"
        file = self._files.get(name)
        if file is None:
            self._send(HTTPStatus.NOT_FOUND, b"not found\n", {"Content-Type": "text/plain; charset=utf-8"}, with_body)
            return
        headers = {"Content-Type": file.media_type, "ETag": file.tag, "Vary": "Accept-Encoding"}
        if self.headers.get("If-None-Match") == file.tag:
            self._send(HTTPStatus.NOT_MODIFIED, b"", headers, with_body=False)
            return
        packed = file.packed() if "gzip" in self.headers.get("Accept-Encoding", "") else None
        if packed is not None:
            headers["Content-Encoding"] = "gzip"
        self._send(HTTPStatus.OK, file.content if packed is None else packed, headers, with_body)

    def _send(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **headers}.items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Writes no log."""
