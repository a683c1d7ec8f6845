"""The command ``web``: serves the page that finds faces and their keypoints in the browser."""

import contextlib
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass

from kpdetect.core.options import option, parse_options, run_command
from kpdetect.exporters.web_server import files_to_serve, make_server

DEFAULT_PORT = 8000


@dataclass(frozen=True)
class WebOptions:
    """Serves a page that finds faces and their keypoints in photographs, videos and the camera, all in the browser.

    Neither Node.js nor TensorFlow is needed. The page asks no other server, and no picture leaves the browser.
    """

    model: str = option(
        "compact",
        "name of a packaged model, a model's folder with TFLite files, such a file, or the folder of kpdetect export "
        "--formats web",
    )
    port: int = option(DEFAULT_PORT, "port; 0 chooses a free one")
    host: str = option("localhost", "address to listen at; others than localhost are open to the network")
    open: bool = option(False, "open the page in a browser")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``web`` until it is interrupted."""
    options = parse_options(WebOptions, argv, "web", "kpdetect web --open")
    files = files_to_serve(options.model)
    with make_server(files, options.host, options.port) as server:
        address = f"http://{options.host}:{server.server_address[1]}/"
        print(address, flush=True)
        print("stop with Ctrl+C", file=sys.stderr)
        if options.open:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
