"""The code for phones: the documentation shows the examples, and the Kotlin module equals Python's golden numbers."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FACE = ROOT / "examples" / "android" / "face" / "src"


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


@pytest.mark.parametrize(
    ("page", "language", "folder"), [("android", "kotlin", "examples/android"), ("ios", "swift", "examples/ios")]
)
def test_the_code_of_a_page_is_that_of_the_example(page: str, language: str, folder: str) -> None:
    files = [path for suffix in ("kt", "kts", "swift") for path in (ROOT / folder).rglob(f"*.{suffix}")]
    code = "\n".join(squeezed(path.read_text(encoding="utf-8")) for path in files)
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        for part in re.split(r"\n\s*// …\n", block):
            if len(squeezed(part)) > 2:  # not the brace after an omission
                assert squeezed(part) in code


def test_the_kotlin_module_equals_the_golden_numbers(tmp_path: Path) -> None:
    """Needs kotlinc (npm install -g kotlin-compiler) and Java 17."""
    compiler = shutil.which(os.environ.get("KOTLINC", "kotlinc"))
    if compiler is None or shutil.which("java") is None:
        pytest.skip("no kotlinc and java on the PATH")
    sources = [*(FACE / "main/kotlin/kpdetect").glob("*.kt"), FACE / "test/kotlin/kpdetect/Golden.kt"]
    jar = tmp_path / "golden.jar"
    subprocess.run([compiler, *map(str, sources), "-include-runtime", "-d", str(jar)], check=True, timeout=600)
    golden = FACE / "test/resources/golden.json"
    done = subprocess.run(
        ["java", "-cp", str(jar), "kpdetect.GoldenKt", str(golden)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "golden numbers" in done.stdout
