"""Owns the work of the command ``track``: follows a video's faces to its end, or until it is told to stop."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError
from kpdetect.core.images import Pixels
from kpdetect.core.options import option
from kpdetect.core.signals import stop_on_signals
from kpdetect.detection import Face
from kpdetect.tracking.smoothing import OneEuroOptions
from kpdetect.tracking.tracker import TrackedFace, Tracker, TrackerOptions
from kpdetect.tracking.video import Frame, Video, check_video_target, open_video, video_writer
from kpdetect.tracking.window import Window, check_display, numbered

Decorate = Callable[[Pixels, Sequence[Face]], Pixels]
"""A frame (H, W, 3) and its faces to the frame with sunglasses on."""

_EURO = OneEuroOptions()
_TRACKER = TrackerOptions()


@dataclass(frozen=True)
class TrackOptions:
    """Follows the faces of a video or camera, each with its number; Ctrl-C (q in the window) ends with whole files."""

    video: str = option(
        dataclasses.MISSING,
        "a video file, a stream's address, or a camera's number",
        metavar="VIDEO_OR_CAMERA_NUMBER",
        positional=True,
    )
    out: str | None = option(None, "write the marked video: .mp4, .mov, .mkv or .avi", metavar="FILE")
    json: str | None = option(None, "write one line of JSON per frame, - for stdout", metavar="FILE")
    filter: tuple[str, ...] = option((), "put these on the faces instead of points: sunglasses,hat,moustache")
    show: bool = option(False, "show the marked video in a window while it runs")
    model: str | None = option(None, "bundle, SavedModel, .tflite, .onnx or .keras; by default the shipped one")
    smooth: bool = option(True, "smooth the points with a One Euro filter per face")
    min_cutoff: float = option(
        _EURO.min_cutoff_hz, "Hz; less: still points tremble less, and begin to move later", metavar="HZ"
    )
    beta: float = option(_EURO.beta, "more: moving points lag less, and tremble more")
    min_face: float = option(
        0.05, "smallest face that is found, as a share of the picture's longer side; half takes four times as long"
    )
    detector: str | None = option(
        None, "find faces with: haar, for OpenCV's cascades, or YuNet's ONNX file", metavar="haar|FILE"
    )
    detect_every: int = option(_TRACKER.detect_every, "frames between two searches for new faces", metavar="N")
    threads: int = option(1, "threads of the model's runtime; one is enough for single faces")

    def tracker_options(self) -> TrackerOptions:
        """What of it a `Tracker` takes.

        Raises:
            KpdetectError: A number is out of its range.
        """
        euro = OneEuroOptions(self.min_cutoff, self.beta) if self.smooth else None
        return TrackerOptions(detect_every=self.detect_every, one_euro=euro)


@dataclass
class Tally:
    """What was done so far."""

    frames: int = 0
    faces_seen: int = 0
    seconds: float = 0.0
    ids: set[int] = field(default_factory=set)

    def add(self, faces: Sequence[TrackedFace], seconds: float) -> None:
        """Counts a frame."""
        self.frames += 1
        self.faces_seen += len(faces)
        self.seconds += seconds
        self.ids |= {face.id for face in faces}

    def line(self, video: Video, detections: int) -> str:
        """All of it, for people."""
        people = f"{len(self.ids)} face{'s' * (len(self.ids) != 1)}"
        rate = f"{1000 * self.seconds / max(self.frames, 1):.1f} ms a frame"
        text = f"{video.name}: {self.frames} frames, {people}, searched {detections} times, {rate}"
        broken = f"; {video.broken} frames could not be decoded and were left out"
        return text + broken * bool(video.broken)


def open_source(options: TrackOptions) -> Video:
    """Checks where to write and what to read, before any model is loaded.

    Raises:
        KpdetectError: There is no such video, no display for ``--show``, or a file cannot be written.
    """
    options.tracker_options()
    if options.out is not None:
        check_video_target(options.out)
        if (
            os.path.exists(options.out)
            and os.path.exists(options.video)
            and os.path.samefile(options.out, options.video)
        ):
            raise KpdetectError(f"--out {options.out}: expected another file than the video itself")
    if options.show:
        check_display()
    return open_video(options.video)


def follow(video: Video, tracker: Tracker, options: TrackOptions, decorate: Decorate) -> int:
    """Follows the faces of every frame and writes what the options ask for.

    Args:
        video: What `open_source` gave; closed at the end.
        tracker: A new one.
        options: Where to write.
        decorate: Draws on a frame what ``--out`` and ``--show`` show of its faces.

    Returns:
        The exit status: 130 where a file was not followed to its end; stopping a camera is its usual end.

    Raises:
        KpdetectError: Not one frame could be decoded, or a file cannot be written.
    """
    tally = Tally()
    with ExitStack() as stack:
        stack.callback(video.close)
        json_lines = stack.enter_context(_json_target(options.json))
        write = None if options.out is None else stack.enter_context(video_writer(options.out, video.rate))
        window = stack.enter_context(Window(video.name)) if options.show else None
        stopped = stack.enter_context(stop_on_signals())
        for frame in _with_progress(video):
            faces = _timed(tracker, frame, tally)
            if json_lines is not None and not _print(json.dumps(line_of(frame, faces), allow_nan=False), json_lines):
                break
            if write is not None or window is not None:
                picture = numbered(decorate(frame.pixels, [tracked.face for tracked in faces]), faces)
                if write is not None:
                    write(picture)
                if window is not None and not window.show(picture):
                    break
            if stopped():
                break
        if tally.frames == 0:
            raise KpdetectError(f"{video.name}: expected a video, but not one frame could be decoded")
    print(tally.line(video, tracker.detections), file=sys.stderr if options.json == "-" else sys.stdout)
    return 130 if stopped() and not video.live else 0


def line_of(frame: Frame, faces: Sequence[TrackedFace]) -> dict[str, Any]:
    """A frame's line of JSON: which one, when, and its faces; coordinates in pixels to a thousandth.

    The names of the points are left out, since each line would repeat them; ``scheme`` says which they are.
    """
    described = []
    for tracked in faces:
        description = tracked.face.to_dict()
        description.pop("names", None)
        described.append({"id": tracked.id, "scheme": tracked.face.schema.name, **description})
    return {"frame": frame.index, "time_s": round(frame.time_s, 4), "faces": described}


def _print(line: str, target: TextIO) -> bool:
    """Prints a line at once, for whoever reads along; False where the reader went, as ``| head`` does."""
    try:
        print(line, file=target, flush=target is sys.stdout)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at its end
        return False
    return True


def _timed(tracker: Tracker, frame: Frame, tally: Tally) -> list[TrackedFace]:
    start = time.perf_counter()
    faces = tracker(frame.pixels, frame.time_s)
    tally.add(faces, time.perf_counter() - start)
    return faces


def _with_progress(video: Video) -> Iterator[Frame]:
    from tqdm import tqdm  # here, since whoever imports the library needs no progress bar

    with tqdm(total=video.count, unit="frame", file=sys.stderr, disable=None) as bar:
        for frame in video:
            yield frame
            bar.update(frame.index + 1 - bar.n)


@contextmanager
def _json_target(path: str | None) -> Iterator[TextIO | None]:
    """Where the lines go: a file that is whole or not there, stdout, or nowhere."""
    if path is None or path == "-":
        yield None if path is None else sys.stdout
        return
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
        yield lines
