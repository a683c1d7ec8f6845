"""Runs exported TFLite files on ARM: a Debian arm64 userland and LiteRT's arm64 wheel under qemu, compared with here.

    apt-get install mmdebstrap
    python benchmarks/arm64.py exported_models/compact/*.tflite [--cpus cortex-a53,max] [--work FOLDER]

mmdebstrap takes Debian's packages from its own mirror or the one given by `--mirror`, pip the wheels from where it is
set up to; some 300 MB, in `--work` or in a temporary folder. Packages are only unpacked, and Python is called through
qemu, so that binfmt_misc is not needed; mmdebstrap wants root, or a user with subordinate ids. The emulator is Debian
trixie's as well, for that of bookworm (7.2) runs into a segmentation fault in LiteRT. The same 50 crops of drawn faces
go one by one through each file, here and there.

Emulated arithmetic is exact, so that the differences are those of the kernels that XNNPACK takes on each processor.
Times say nothing and are not told. Measured with LiteRT 2.3.0 against an x86-64 processor (AVX-512), greatest and mean
distance between the points of both, in pixels of the crop:

| file | Cortex-A53, Cortex-A76 | max |
|---|---|---|
| `compact.tflite` | 0.00024, 0.00005 | 0.00014, 0.00003 |
| `compact_fp16.tflite` | 0.00025, 0.00005 | 0.00014, 0.00003 |
| `compact_int8.tflite` | 0.00028, 0.00005 | 0.00016, 0.00003 |

Cortex-A53 has neither half floats nor dot products, Cortex-A76 has both; `max` is all that qemu knows, SVE and SME too.
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

SUITE, ABI = "trixie", "3.13"  # a Debian release and its Python
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
WHEELS = ("ai-edge-litert", "numpy")  # of the versions installed here, so that only the processor differs
CROPS = 50
MARK = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

file, crops_file, points_file = sys.argv[1:]
interpreter = Interpreter(file, num_threads=1)
interpreter.allocate_tensors()
image, run = interpreter.get_input_details()[0], interpreter.get_signature_runner()
crops = np.load(crops_file).astype(image["dtype"])
np.save(points_file, np.concatenate([run(image=crop[None])["keypoints"] for crop in crops]))
"""  # What runs on both processors, one crop at a time; there is no kpdetect on the other one.


def build_userland(folder: Path, mirror: list[str]) -> None:
    """Unpacks Python of Debian arm64, an emulator that runs here, and the arm64 wheels; what is there stays."""
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
    """Debian packages, with all that they depend on, where they are not there yet."""
    if folder.exists():
        return
    options = ["--quiet", "--variant=extract", f"--architectures={architecture}", f"--include={packages}"]
    with atomic_folder(folder) as target:
        subprocess.run(["mmdebstrap", *options, SUITE, target, *mirror], check=True)
        (target / "lib").symlink_to("usr/lib")  # what base-files does where it is installed, not unpacked


def drawn_crops(file: Path) -> np.ndarray:
    """Crops (50, H, W, C) float32 of drawn faces, as a file's spec tells."""
    spec = read_spec(file)
    return evaluation_crops(load(f"synthetic:{CROPS}"), spec.crop, spec.channels)[0].astype(np.float32)


def run_mark(python: list[str | Path], file: Path, crops: np.ndarray) -> np.ndarray:
    """Points in pixels of the crops, as that Python marks them in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        crops_file, points_file = Path(folder, "crops.npy"), Path(folder, "points.npy")
        np.save(crops_file, crops)
        command = [*python, "-c", MARK, file.resolve(), crops_file, points_file]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stderr}")
        return np.load(points_file) * crops.shape[2:0:-1] - 0.5


def emulated_python(folder: Path, cpu: str) -> list[str | Path]:
    """The words that call the arm64 Python."""
    root = folder / "arm64"
    settings = ["-E", f"PYTHONHOME={root / 'usr'}", "-E", f"PYTHONPATH={folder / 'wheels'}"]
    return [folder / "qemu/usr/bin/qemu-aarch64", "-cpu", cpu, "-L", root, *settings, root / f"usr/bin/python{ABI}"]


def compare(files: list[Path], cpus: list[str], folder: Path) -> None:
    """Prints a row for each file and processor."""
    here = sysconfig.get_platform()
    print(f"LiteRT {version(WHEELS[0])}, {CROPS} drawn faces, against {here}; greatest and mean difference in pixels")
    for file in files:
        crops = drawn_crops(file)
        expected = run_mark([sys.executable], file, crops)
        for cpu in cpus:
            distance = np.linalg.norm(run_mark(emulated_python(folder, cpu), file, crops) - expected, axis=-1)
            print(f"{file.name:28} {cpu:12} {distance.max():.6f} {distance.mean():.6f}", flush=True)


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="exported .tflite files")
    parser.add_argument("--cpus", default="cortex-a53,cortex-a76,max", help="processors that qemu plays")
    parser.add_argument("--work", type=Path, help="folder for the userland, to use it again; else a temporary one")
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
