"""What the tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real labelled faces; a test that asks for it is skipped where there is none."""
    fallback = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("KPDETECT_DATA", fallback))
    if not folder.is_dir():
        pytest.skip(f"no real data: KPDETECT_DATA is not set and {fallback} is not there")
    return folder
