"""The wheel: its files, and prediction with it from a folder outside the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, so that setuptools' build folder does not appear in the checkout.
    source = folder / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_ships_the_model_but_no_test_and_no_training_file(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "kpdetect/_compact/spec.json" in names
    assert "kpdetect/_compact/compact_int8.tflite" in names
    assert "kpdetect/_compact/model.weights_fp16.npz" in names
    assert "kpdetect/_finder/finder.tflite" in names
    assert "kpdetect/_imagenet/efficientnet_lite0.npz" in names
    assert "kpdetect/py.typed" in names
    assert not [name for name in names if name.startswith("tests/") or name.endswith(".h5")]


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """setup.py lists data files by hand, so that new ones may be missing."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a Git checkout, which lists the files of the package")
    listing = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD", "kpdetect"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(listing.stdout.split()) - set(zipfile.ZipFile(wheel).namelist())


def test_the_predictor_works_from_the_wheel_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    program = (
        "import sys, pathlib, kpdetect; assert pathlib.Path(kpdetect.__file__).is_relative_to(sys.argv[1])\n"
        "from kpdetect.data import synthetic\n"
        "from kpdetect.predict import Predictor\n"
        "image, points = synthetic.render(seed=5, index=0, size=256)\n"
        "face, = Predictor()(image, boxes=[(*points.min(0), *points.max(0))])\n"
        "assert face.keypoints.shape == (68, 2), face.keypoints.shape\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert Predictor('compact-160-v2').model.path.name == 'compact_int8.tflite'\n"
        "from kpdetect.modelfile.bundle import load_bundle\n"
        "model, spec = load_bundle('compact')  # as --init-from compact does\n"
        "assert model.input_shape == (None, 160, 160, 1), model.input_shape\n"
        "print('ok')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(site)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "ok\n", done.stderr
