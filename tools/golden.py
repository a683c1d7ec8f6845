"""Writes the golden numbers into the tests of the JavaScript package and of the modules for phones."""

import argparse
import json
from pathlib import Path

from kpdetect.exporters.golden import GOLDEN_FILE, golden_numbers

ROOT = Path(__file__).resolve().parents[1]
COPIES = ("web/package/tests", "examples/android/face/src/test/resources", "examples/ios/Tests/KpdetectTests")


def main() -> None:
    """Writes the files."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    text = json.dumps(golden_numbers()) + "\n"
    for folder in COPIES:
        if (ROOT / folder).is_dir():
            (ROOT / folder / GOLDEN_FILE).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
