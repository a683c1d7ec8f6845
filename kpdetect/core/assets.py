"""Owns where the files are that come with kpdetect: in an installed package, or in a checkout."""

from pathlib import Path

from kpdetect.core.errors import KpdetectError

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package `kpdetect`."""


def shipped_file(folder: str, name: str, instead: str) -> Path:
    """A file of ``exported_models/<folder>``, which an installed package holds as ``kpdetect/_<folder>``.

    Args:
        folder: Such as ``finder``.
        name: The file's.
        instead: What a user can do without the file, as the end of "install kpdetect anew, or …".

    Raises:
        KpdetectError: It is in neither place.
    """
    places = (PACKAGE / f"_{folder}", PACKAGE.parent / "exported_models" / folder)
    for place in places:
        if (place / name).is_file():
            return place / name
    raise KpdetectError(
        f"no {name} ships with this kpdetect (looked in {', '.join(map(str, places))}); install kpdetect anew, "
        f"or {instead}"
    )
