"""Hooks of ``mkdocs.yml``: pages that lie outside ``docs/``, and links between them and to files of the repository.

A link in a document is written for a reader of the repository: ``../examples/webcam.py``. On the site, a link to a
page of the site is rewritten to that page, and a link to any other file becomes the name of the file. The page for
browsers, with the packaged model, is part of the site and shown in *In a browser*.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from kpdetect.core.errors import KpdetectError
from kpdetect.exporters.web_server import PageFile, files_to_serve

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"

INCLUDED = {
    "exported_models/compact/README.md": "models/compact.md",
    "exported_models/compact/example.jpg": "models/example.jpg",
    "exported_models/finder/README.md": "models/finder.md",
    "exported_models/imagenet/README.md": "models/imagenet.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files outside ``docs/``, by their place in the repository, and their place on the site."""

WIDE = ("results.md",)
"""Pages of wide tables, which take the place of the table of contents."""

DEMO = "demo"
DEMO_MARK = "<!-- live demo -->"
DEMO_FRAME = f'<iframe class="demo" src="{DEMO}/index.html" title="Live demo" allow="camera; clipboard-write"></iframe>'

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)\s*$", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files of `INCLUDED`."""
    for source, target in INCLUDED.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites the links of a page; code blocks stay as they are."""
    place = page.file.src_uri
    if DEMO_MARK in markdown and demo_files():
        markdown = markdown.replace(DEMO_MARK, DEMO_FRAME)
    if place in WIDE:
        page.meta["hide"] = ["toc"]
    source = next((name for name, target in INCLUDED.items() if target == place), f"{DOCS}/{place}")
    pieces, end = [], 0
    for fence in _FENCE.finditer(markdown):
        pieces += [_with_links(markdown[end : fence.start()], source, place), fence.group()]
        end = fence.end()
    return "".join([*pieces, _with_links(markdown[end:], source, place)])


def on_post_build(config: MkDocsConfig) -> None:
    """Writes the files of the live demo."""
    for name, file in demo_files().items():
        target = Path(config.site_dir) / DEMO / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)


def demo_files() -> dict[str, PageFile]:
    """Returns the files of the page for browsers; none while the packaged model has no file of batch 1."""
    try:
        return files_to_serve("compact")
    except KpdetectError:
        return {}


def _with_links(text: str, source: str, place: str) -> str:
    """Text with links that work on the site.

    Args:
        text: Markdown without code blocks.
        source: The page's file in the repository.
        place: The page's file on the site.
    """

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            return match.group()
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / file).exists():
            return match.group()  # mkdocs reports it
        if file.startswith(f"{DOCS}/"):
            on_site = file.removeprefix(f"{DOCS}/")
        elif file in INCLUDED:
            on_site = INCLUDED[file]
        else:
            return match["text"] if "`" in match["text"] else f"{match['text']} (`{file}`)"
        relative = os.path.relpath(on_site, posixpath.dirname(place) or ".")
        return f"{match['image']}[{match['text']}]({relative}{match['anchor'] or ''})"

    return _LINK.sub(link, text)
