"""The output folder of ``label``: its settings, and the parts that are finished."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect.core.atomic_write import remove_leftovers, write_json
from kpdetect.core.errors import KpdetectError
from kpdetect.inference.bulk.tables import Counts, read_counts, write_table

SETTINGS_FILE = "settings.json"
FACES_FOLDER = "faces"
ERRORS_FOLDER = "errors"


@dataclass(frozen=True)
class LabelFolder:
    """A folder with ``settings.json``, and a table of each part in ``faces`` and in ``errors``.

    Attributes:
        path: The folder.
    """

    path: Path

    def open(self, settings: dict[str, Any]) -> None:
        """Creates the folder, or resumes labels of the same settings.

        Args:
            settings: Everything that the labels depend on, JSON-ready.

        Raises:
            KpdetectError: The folder contains labels of other settings, or other files.
        """
        if (self.path / SETTINGS_FILE).is_file():
            self._check(settings)
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise KpdetectError(f"{self.path}: contains other files than labels; choose another --out")
        else:
            write_json(str(self.path / SETTINGS_FILE), settings)
        for name in (ERRORS_FOLDER, FACES_FOLDER):
            if (self.path / name).is_dir():
                remove_leftovers(self.path / name)  # of killed workers; those of live ones stay

    def done(self) -> dict[int, Counts]:
        """The numbers and counts of the finished parts.

        Raises:
            KpdetectError: A part is damaged.
        """
        return {_number(file): read_counts(file) for file in sorted((self.path / FACES_FOLDER).glob("part-*.parquet"))}

    def write_part(self, number: int, faces: Any, errors: Any, counts: Counts) -> None:
        """Writes the two tables of a part. The part is finished once the table of faces, the second one, exists.

        Raises:
            KpdetectError: They cannot be written.
        """
        for folder, table in ((ERRORS_FOLDER, errors), (FACES_FOLDER, faces)):
            write_table(self.path / folder / f"part-{number:06d}.parquet", table, counts)

    def _check(self, settings: dict[str, Any]) -> None:
        file = self.path / SETTINGS_FILE
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise KpdetectError(f"{file}: expected JSON: {error}; choose another --out") from error
        if not isinstance(before, dict) or before.keys() != settings.keys():
            raise KpdetectError(f"{file}: expected the settings that this version writes; choose another --out")
        others = [
            f"{name} was {before[name]} and is {settings[name]}" for name in settings if before[name] != settings[name]
        ]
        if others:
            raise KpdetectError(
                f"{self.path}: contains labels of other settings: {'; '.join(others)}; "
                "use the same settings to resume, or choose another --out"
            )


def _number(file: Path) -> int:
    return int(os.path.splitext(file.name)[0].removeprefix("part-"))
