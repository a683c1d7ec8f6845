"""Predicts the hours and the money of labelling very many photographs, from constants measured on one machine.

    python benchmarks/growth.py                                           # the table of docs/scale.md
    python benchmarks/growth.py --photographs 1e8 --machines 50 --cores 16 --price 0.04 --megapixels 12
    python benchmarks/growth.py --measure PHOTO [PHOTO …] --workers 2     # measures the constants on this machine
    python benchmarks/growth.py --check PHOTO [PHOTO …] --workers 2       # also labels, and compares

Every stage is measured in as many processes at once as there are workers: cores share caches and memory, so that one
process alone is faster. ``--check`` labels the given photographs, repeated to ``--repeat`` files, with the command.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PHOTOGRAPHS = (10**6, 10**8, 10**9)
MACHINES = (1, 10, 100)
SIZES = (0.5, 2.0)
"""Megapixels that the photographs are scaled to: two, because a stage costs a part per photograph and one per pixel."""


@dataclass(frozen=True)
class Constants:
    """Seconds of one core, while all cores are busy.

    The defaults were measured on two cores of a virtual machine with AVX-512, on 61 photographs of AFW scaled to
    `SIZES`, with 2.7 faces each.

    Attributes:
        read: Per photograph, from a local disk.
        decode_per_mp: Per megapixel of a JPEG.
        find: Per photograph.
        find_per_mp: Per megapixel: the shrinking for the face finder.
        mark: Per face, with the candidates that are rejected and the second look.
        write: Per face.
        bytes_per_face: Size of a face in the tables.
        start: Seconds from the command to the first photograph.
    """

    read: float = 7e-05
    decode_per_mp: float = 0.0053
    find: float = 0.0130
    find_per_mp: float = 0.0032
    mark: float = 0.0504
    write: float = 0.0012
    bytes_per_face: float = 1190.0
    start: float = 4.0


@dataclass(frozen=True)
class Job:
    """What is labelled, and where.

    Attributes:
        photographs: Their number.
        megapixels: Mean size of a photograph.
        faces: Mean number of faces in a photograph.
        megabytes: Mean size of a file.
        machines: Number of machines.
        cores: Cores of a machine, each with a worker.
        price: Price of a core for an hour.
        megabytes_per_second: What a machine reads from the storage at most.
        part: Photographs of a part, as ``--part``.
        losses_per_hour: Mean number of times that a machine is lost in an hour. Its unfinished parts are repeated.
    """

    photographs: float = 1e6
    megapixels: float = 2.0
    faces: float = 1.5
    megabytes: float = 0.6
    machines: int = 1
    cores: int = 16
    price: float = 0.04
    megabytes_per_second: float = 100.0
    part: int = 256
    losses_per_hour: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """What a job costs.

    Attributes:
        hours: From the command to its end.
        core_hours: Hours of all cores that are paid for.
        money: Their price.
        photographs_per_second: Of all machines, without the start.
        gigabytes: Size of the tables.
        limit: What limits the speed: ``cores`` or ``storage``.
    """

    hours: float
    core_hours: float
    money: float
    photographs_per_second: float
    gigabytes: float
    limit: str


def seconds_per_photograph(constants: Constants, megapixels: float, faces: float) -> float:
    """Seconds of one core for a photograph.

    >>> constants = Constants(read=0.0, decode_per_mp=0.01, find=0.02, find_per_mp=0.0, mark=0.004, write=0.0)
    >>> round(seconds_per_photograph(constants, megapixels=2.0, faces=3.0), 6)
    0.052
    """
    per_pixel = (constants.decode_per_mp + constants.find_per_mp) * megapixels
    return constants.read + constants.find + per_pixel + (constants.mark + constants.write) * faces


def predict(constants: Constants, job: Job) -> Prediction:
    """The cost of a job.

    The workers share nothing but the storage, so they are as fast as their number, until the storage limits them. At
    the end, a worker waits for the last part of another one; a lost machine loses half a part per core on average.

    Args:
        constants: Measured on a core like those of the job.
        job: What is labelled, and where.
    """
    seconds = seconds_per_photograph(constants, job.megapixels, job.faces)
    workers = job.machines * job.cores
    by_cores = workers / seconds
    by_storage = job.machines * job.megabytes_per_second / job.megabytes
    rate = min(by_cores, by_storage)
    part_seconds = job.part * workers / rate  # a part takes a worker this long
    lost = job.losses_per_hour / 3600 * (part_seconds / 2 + constants.start)  # share of the time
    last = part_seconds / 2 if workers > 1 else 0.0
    hours = (constants.start + job.photographs / rate / (1 - min(lost, 0.99)) + last) / 3600
    core_hours = hours * workers
    gigabytes = job.photographs * job.faces * constants.bytes_per_face / 1e9
    return Prediction(
        hours, core_hours, core_hours * job.price, rate, gigabytes, "cores" if by_cores <= by_storage else "storage"
    )


def table(constants: Constants, job: Job, numbers: Sequence[float], machines: Sequence[int]) -> str:
    """The predictions for several numbers of photographs and of machines, as a table in Markdown."""
    lines = ["| photographs | machines | photographs/s | hours | core hours | price | tables |", "|" + "---|" * 7]
    for photographs in numbers:
        for number in machines:
            cost = predict(constants, dataclasses.replace(job, photographs=photographs, machines=number))
            lines.append(
                f"| {photographs:,.0f} | {number} | {cost.photographs_per_second:,.0f} | {cost.hours:,.1f} | "
                f"{cost.core_hours:,.0f} | {cost.money:,.0f} | {cost.gigabytes:,.0f} GB |"
            )
    return "\n".join(lines)


# Measurement


def measure(photos: Sequence[Path], workers: int, seconds: float) -> Constants:
    """Measures the constants in several processes at once; their medians count.

    Args:
        photos: JPEG photographs with faces.
        workers: Number of processes.
        seconds: Least number of seconds for each of `SIZES`.
    """
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in SIZES:
            for number, photo in enumerate(photos):
                write_scaled(photo, megapixels, Path(folder, f"{megapixels}", f"{number:04}.jpg"))
        command = [sys.executable, __file__, "--process", folder, "--seconds", str(seconds)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
        found = [Constants(**json.loads(process.communicate()[0])) for process in processes]
    names = [field.name for field in dataclasses.fields(Constants)]
    return Constants(**{name: statistics.median(getattr(each, name) for each in found) for name in names})


def write_scaled(photo: Path, megapixels: float, file: Path) -> None:
    """Writes a photograph with a number of pixels as JPEG."""
    from kpdetect.core.images import cv2, read_image, write_image

    pixels = read_image(photo)
    scale = (megapixels * 1e6 / (pixels.shape[0] * pixels.shape[1])) ** 0.5
    write_image(file, cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def constants_of_process(folder: Path, seconds: float) -> Constants:
    """Measures the constants in this process, on one core, on the scaled photographs of a folder."""
    from kpdetect.core.images import cv2, decode_image
    from kpdetect.detection import FaceFinder, make_detector
    from kpdetect.inference.bulk.tables import Counts, LabelResult, faces_table, write_table
    from kpdetect.predict import Predictor

    cv2.setNumThreads(1)
    predictor, finder = Predictor(), make_detector(None, True)
    assert isinstance(finder, FaceFinder)
    schema = predictor.model.spec.schema
    total = dict.fromkeys(("read", "mark", "write"), 0.0)
    decode, find = ([0.0] * len(SIZES) for _ in range(2))
    photographs, faces, size = [0] * len(SIZES), 0, 0
    clock = Clock()
    for index, megapixels in enumerate(SIZES):
        files = sorted((folder / f"{megapixels}").glob("*.jpg"))
        predictor.batch([str(file) for file in files[:8]])  # fills caches
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            results = []
            for start in range(0, len(files), 8):
                clock.start()
                contents = [file.read_bytes() for file in files[start : start + 8]]
                total["read"] += clock.lap()
                pixels = [decode_image(content, "photo") for content in contents]
                decode[index] += clock.lap()
                for each in pixels:
                    finder.detect(each)
                seconds_to_find = clock.lap()
                find[index] += seconds_to_find
                found = predictor.batch(pixels, workers=1)  # finds once more
                total["mark"] += clock.lap() - seconds_to_find
                results += [
                    LabelResult("photograph.jpg", (each.shape[0], each.shape[1]), own)
                    for each, own in zip(pixels, found, strict=True)
                ]
            count = sum(len(result.faces) for result in results)
            clock.start()
            write_table(folder / f"{os.getpid()}.parquet", faces_table(results, schema), Counts(len(results), count, 0))
            total["write"] += clock.lap()
            size += (folder / f"{os.getpid()}.parquet").stat().st_size
            photographs[index] += len(results)
            faces += count
    small, large = SIZES
    find_small, find_large = (sum_ / count for sum_, count in zip(find, photographs, strict=True))
    find_per_mp = (find_large - find_small) / (large - small)
    return Constants(
        read=total["read"] / sum(photographs),
        decode_per_mp=sum(decode) / sum(size * count for size, count in zip(SIZES, photographs, strict=True)),
        find=find_small - find_per_mp * small,
        find_per_mp=find_per_mp,
        mark=total["mark"] / faces,
        write=total["write"] / faces,
        bytes_per_face=size / faces,
    )


class Clock:
    """Seconds between two moments."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Starts again."""
        self.began = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call."""
        now = time.perf_counter()
        seconds, self.began = now - self.began, now
        return seconds


def check(constants: Constants, photos: Sequence[Path], workers: int, repeat: int) -> None:
    """Labels photographs with the command and prints the predicted beside the measured speed."""
    from kpdetect.core.images import read_image

    shapes = [read_image(photo).shape for photo in photos]
    megapixels = statistics.mean(shape[0] * shape[1] / 1e6 for shape in shapes)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeat):
            photo = photos[number % len(photos)].resolve()
            os.symlink(photo, Path(folder, f"{number:06}{photo.suffix}"))
        words = [folder, "--out", f"{folder}/labels", "--workers", str(workers), "--part", "32"]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "kpdetect.label", *words], capture_output=True, text=True, check=True
        )
        seconds = time.perf_counter() - began
    line = done.stdout.splitlines()[-1]
    rate = float(line.rpartition(", ")[2].split()[0])
    faces = int(line.split(", ")[1].split()[0]) / repeat
    each = seconds_per_photograph(constants, megapixels, faces)
    print(f"{repeat} photographs, {megapixels:.2f} megapixels, {faces:.2f} faces each, {workers} workers")
    print(f"predicted {workers / each:.1f} photographs/s, measured {rate:.1f} ({workers / each / rate - 1:+.0%})")
    print(f"start {seconds - repeat / rate:.1f} s")


def main() -> None:
    """Prints the table, or measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", nargs="+", type=float, default=PHOTOGRAPHS)
    parser.add_argument("--machines", nargs="+", type=int, default=MACHINES)
    others = [field for field in dataclasses.fields(Job) if field.name not in ("photographs", "machines")]
    for field in others:
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help=kind.__name__)
    parser.add_argument("--measure", nargs="+", type=Path, metavar="PHOTO", help="measure the constants here")
    parser.add_argument("--check", nargs="+", type=Path, metavar="PHOTO", help="measure, label, and compare")
    parser.add_argument("--workers", type=int, default=2, help="processes of --measure and --check")
    parser.add_argument("--repeat", type=int, default=600, help="number of photographs of --check")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--process", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.process is not None:
        print(json.dumps(dataclasses.asdict(constants_of_process(arguments.process, arguments.seconds))))
        return
    if photos := arguments.measure or arguments.check:
        constants = measure(photos, arguments.workers, arguments.seconds)
        print(constants)
        if arguments.check:
            check(constants, photos, arguments.workers, arguments.repeat)
        return
    job = Job(**{field.name: getattr(arguments, field.name) for field in others})
    print(table(Constants(), job, arguments.photographs, arguments.machines))


if __name__ == "__main__":
    main()
