"""Finds the model files that are distributed with kpdetect, in an installed package or in a checkout."""

from pathlib import Path

from kpdetect.core.errors import KpdetectError

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package `kpdetect`."""


def packaged_file(folder: str, name: str, hint: str) -> Path:
    """Returns the path of a file of ``exported_models/<folder>/``.

    ``setup.py`` installs that folder as the data package ``kpdetect/_<folder>``. The installed
    copy is preferred; a checkout has only ``exported_models/``.

    Example:
        ``packaged_file("finder", "finder.tflite", "name another detector with --detector")``

    Args:
        folder: Folder name in ``exported_models/``, such as ``finder``.
        name: File name in that folder.
        hint: What the user can do without the file. It ends the error message "reinstall kpdetect, or …".

    Raises:
        KpdetectError: The file is in neither place.
    """
    places = (PACKAGE / f"_{folder}", PACKAGE.parent / "exported_models" / folder)
    for place in places:
        if (place / name).is_file():
            return place / name
    raise KpdetectError(
        f"{name} is not part of this installation of kpdetect (looked in {', '.join(map(str, places))}); "
        f"reinstall kpdetect, or {hint}"
    )
