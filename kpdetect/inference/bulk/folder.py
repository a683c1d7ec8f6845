"""Owns the folder that labels go to: which settings they are of, and which parts are done."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpdetect.core.atomic_write import write_json
from kpdetect.core.errors import KpdetectError
from kpdetect.inference.bulk.tables import Counts, read_counts, write_table

SETTINGS_FILE = "settings.json"
FACES_FOLDER = "faces"
ERRORS_FOLDER = "errors"


@dataclass(frozen=True)
class LabelFolder:
    """A folder of labels: ``settings.json``, and a table for each part in ``faces`` and in ``errors``.

    Attributes:
        path: The folder.
    """

    path: Path

    def open(self, settings: dict[str, Any]) -> None:
        """Begins a labelling here, or goes on with the one of the same settings.

        Args:
            settings: All that the labels depend on, ready for JSON.

        Raises:
            KpdetectError: The folder holds labels of other settings, or something else.
        """
        if (self.path / SETTINGS_FILE).is_file():
            self._check(settings)
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise KpdetectError(f"{self.path}: holds files that are no labels; choose another --out")
        else:
            write_json(str(self.path / SETTINGS_FILE), settings)
        for half_written in self.path.glob("*/.part-*"):  # of workers that were killed
            half_written.unlink(missing_ok=True)

    def done(self) -> dict[int, Counts]:
        """The parts that are done, and what they came to.

        Raises:
            KpdetectError: A part is damaged.
        """
        return {_number(file): read_counts(file) for file in sorted((self.path / FACES_FOLDER).glob("part-*.parquet"))}

    def write_part(self, number: int, faces: Any, errors: Any, counts: Counts) -> None:
        """Writes the tables of a part; it is done when the second one stands.

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
            raise KpdetectError(f"{file}: cannot be read as JSON ({error}); choose another --out") from error
        if not isinstance(before, dict) or before.keys() != settings.keys():
            raise KpdetectError(f"{file}: expected the settings of this version's labels; choose another --out")
        others = [
            f"{name} {before[name]} there, {settings[name]} now" for name in settings if before[name] != settings[name]
        ]
        if others:
            raise KpdetectError(
                f"{self.path}: holds labels of other settings: {'; '.join(others)}. "
                "Give the same ones to go on, or choose another --out"
            )


def _number(file: Path) -> int:
    return int(os.path.splitext(file.name)[0].removeprefix("part-"))
