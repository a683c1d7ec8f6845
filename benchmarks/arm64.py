"""Runs exported TFLite files on emulated ARM processors and compares the results with this processor's.

    apt-get install mmdebstrap
    python benchmarks/arm64.py exported_models/compact/*.tflite [--cpus cortex-a53,max] [--work FOLDER]

mmdebstrap downloads Debian packages from its mirror or from `--mirror`, and pip the wheels: about 300 MB, into `--work`
or a temporary folder. Packages are only unpacked, and Python is started by qemu, so binfmt_misc is not needed;
mmdebstrap needs root, or a user with subordinate ids. The emulator is that of Debian trixie, because that of bookworm
(7.2) ends with a segmentation fault in LiteRT. The same 50 crops of drawn faces are predicted one by one on both.

Emulated arithmetic is exact, so differences come from the kernels that XNNPACK chooses for each processor. Times of an
emulator have no meaning and are not printed. Largest and mean distance between the keypoints, in pixels of the crop,
measured with LiteRT 2.3.0 and an x86-64 processor with AVX-512:

| file | Cortex-A53, Cortex-A76 | max |
|---|---|---|
| `compact.tflite` | 0.00024, 0.00005 | 0.00014, 0.00003 |
| `compact_fp16.tflite` | 0.00025, 0.00005 | 0.00014, 0.00003 |
| `compact_int8.tflite` | 0.00028, 0.00005 | 0.00016, 0.00003 |

Cortex-A53 has no half floats and no dot products, Cortex-A76 has both; `max` has everything that qemu emulates,
including SVE and SME.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from kpdetect.core.atomic_write import atomic_folder
from kpdetect.data import load
from kpdetect.data.crops import evaluation_crops
from kpdetect.modelfile.bundle import read_spec

SUITE, ABI = "trixie", "3.13"  # the Debian release and its Python
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
WHEELS = ("ai-edge-litert", "numpy")  # in the versions installed here
CROPS = 50
PREDICT = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

file, crops_file, points_file = sys.argv[1:]
interpreter = Interpreter(file, num_threads=1)
interpreter.allocate_tensors()
image, run = interpreter.get_input_details()[0], interpreter.get_signature_runner()
crops = np.load(crops_file).astype(image["dtype"])
np.save(points_file, np.concatenate([run(image=crop[None])["keypoints"] for crop in crops]))
"""  # Runs on both processors, one crop at a time; kpdetect is not installed on the emulated one.


def build_userland(folder: Path, mirror: list[str]) -> None:
    """Unpacks Python for Debian arm64, the emulator and the arm64 wheels, unless they are there."""
    here = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    unpack(folder / "arm64", "arm64", "python3-minimal,libpython3-stdlib,libstdc++6", mirror)
    unpack(folder / "qemu", here, "qemu-user", mirror)
    if not (folder / "wheels").exists():
        platforms = [f"--platform={name}" for name in PLATFORMS]
        wheels = [f"{name}=={version(name)}" for name in WHEELS]
        options = ["--quiet", "--only-binary=:all:", f"--python-version={ABI}", *platforms]
        with atomic_folder(folder / "wheels") as target:
            subprocess.run(
                [sys.executable, "-m", "pip", "install", *options, f"--target={target}", *wheels], check=True
            )


def unpack(folder: Path, architecture: str, packages: str, mirror: list[str]) -> None:
    """Unpacks Debian packages with their dependencies, unless the folder exists."""
    if folder.exists():
        return
    options = ["--quiet", "--variant=extract", f"--architectures={architecture}", f"--include={packages}"]
    with atomic_folder(folder) as target:
        subprocess.run(["mmdebstrap", *options, SUITE, target, *mirror], check=True)
        (target / "lib").symlink_to("usr/lib")  # base-files does this when it is installed


def drawn_crops(file: Path) -> np.ndarray:
    """Crops (50, H, W, C) float32 of synthetic faces, as described by the spec of a file."""
    spec = read_spec(file)
    return evaluation_crops(load(f"synthetic:{CROPS}"), spec.crop, spec.channels)[0].astype(np.float32)


def run_predict(python: list[str | Path], file: Path, crops: np.ndarray) -> np.ndarray:
    """Keypoints in pixels of the crops, predicted by a Python interpreter in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        crops_file, points_file = Path(folder, "crops.npy"), Path(folder, "points.npy")
        np.save(crops_file, crops)
        command = [*python, "-c", PREDICT, file.resolve(), crops_file, points_file]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stderr}")
        return np.asarray(np.load(points_file) * crops.shape[2:0:-1] - 0.5)


def emulated_python(folder: Path, cpu: str) -> list[str | Path]:
    """The command that starts the arm64 Python."""
    root = folder / "arm64"
    settings = ["-E", f"PYTHONHOME={root / 'usr'}", "-E", f"PYTHONPATH={folder / 'wheels'}"]
    return [folder / "qemu/usr/bin/qemu-aarch64", "-cpu", cpu, "-L", root, *settings, root / f"usr/bin/python{ABI}"]


def compare(files: list[Path], cpus: list[str], folder: Path) -> None:
    """Prints a line for each file and processor."""
    here = sysconfig.get_platform()
    print(
        f"LiteRT {version(WHEELS[0])}, {CROPS} drawn faces, compared with {here}; largest and mean difference in pixels"
    )
    for file in files:
        crops = drawn_crops(file)
        expected = run_predict([sys.executable], file, crops)
        for cpu in cpus:
            distance = np.linalg.norm(run_predict(emulated_python(folder, cpu), file, crops) - expected, axis=-1)
            print(f"{file.name:28} {cpu:12} {distance.max():.6f} {distance.mean():.6f}", flush=True)


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="exported .tflite files")
    parser.add_argument("--cpus", default="cortex-a53,cortex-a76,max", help="processors that qemu emulates")
    parser.add_argument("--work", type=Path, help="folder that keeps the packages; a temporary one by default")
    parser.add_argument("--mirror", nargs=1, default=[], help="Debian mirror for mmdebstrap")
    arguments = parser.parse_args()
    if shutil.which("mmdebstrap") is None:
        parser.error("mmdebstrap is not installed: apt-get install mmdebstrap")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.work or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        build_userland(folder, arguments.mirror)
        compare(arguments.files, arguments.cpus.split(","), folder)


if __name__ == "__main__":
    main()
