"""The command ``track``: its options, and the run from the first frame of a video to the last, or to a signal."""

from __future__ import annotations

import dataclasses
import json
import logging
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
from kpdetect.core.progress import TenthLines
from kpdetect.core.signals import stop_on_signals
from kpdetect.core.text import printable
from kpdetect.detection import Face
from kpdetect.tracking.smoothing import OneEuroOptions
from kpdetect.tracking.tracker import TrackedFace, Tracker, TrackerOptions
from kpdetect.tracking.video import Frame, Video, check_video_target, open_video, video_writer, writes_h264
from kpdetect.tracking.window import Window, check_display, draw_numbers

_LOG = logging.getLogger(__name__)

Draw = Callable[[Pixels, Sequence[Face]], Pixels]
"""A function from a frame (H, W, 3) and its faces to a copy with a drawing."""

_EURO = OneEuroOptions()
_TRACKER = TrackerOptions()


@dataclass(frozen=True)
class TrackOptions:
    """Tracks the faces of a video or a camera; each face keeps its number.

    Ctrl-C, or q in the window, ends the run; the files up to then are complete.
    """

    video: str = option(
        dataclasses.MISSING,
        "a video file, a stream's address, or a camera's number",
        metavar="VIDEO_OR_CAMERA_NUMBER",
        positional=True,
    )
    out: str | None = option(None, "write the video with drawings: .mp4, .mov, .mkv or .avi", metavar="FILE")
    json: str | None = option(None, "write one line of JSON per frame; - for stdout", metavar="FILE")
    filter: tuple[str, ...] = option(
        (),
        "draw filters instead of keypoints: sunglasses, hat, moustache, or your own JSON file",
        metavar="NAME[,NAME]",
    )
    numbers: bool | None = option(None, "draw the number of each face; by default without --filter")
    show: bool = option(False, "show the video with drawings in a window")
    model: str | None = option(
        None, "a model's name, or a bundle, SavedModel, .tflite, .onnx or .keras file; the packaged model by default"
    )
    smooth: bool = option(True, "smooth the keypoints with a One Euro filter")
    min_cutoff: float = option(
        _EURO.min_cutoff_hz, "Hz; lower: less jitter of points at rest, and later starts of movements", metavar="HZ"
    )
    beta: float = option(_EURO.beta, "higher: less lag of moving points, and more jitter")
    min_face: float = option(
        0.05, "smallest face, as a share of the picture's longer side; half of it takes four times as long"
    )
    detector: str | None = option(
        None, "the face detector: haar for OpenCV's cascades, or YuNet's ONNX file", metavar="haar|FILE"
    )
    detect_every: int = option(_TRACKER.detect_every, "frames between two detections of new faces", metavar="N")
    threads: int = option(1, "threads of the model's runtime; one is enough for single faces")
    device: str | None = option(None, "where the model runs: cpu, gpu, or gpu:1 for the second GPU", metavar="NAME")
    untrusted: bool = option(
        False, "the model is from a source that is not trusted: try it in a child process first, refuse SavedModels"
    )

    def tracker_options(self) -> TrackerOptions:
        """The options of the `Tracker`.

        Raises:
            KpdetectError: A number is out of its range.
        """
        euro = OneEuroOptions(self.min_cutoff, self.beta) if self.smooth else None
        return TrackerOptions(detect_every=self.detect_every, one_euro=euro)


@dataclass
class TrackSummary:
    """Counts of the frames so far.

    Attributes:
        frames: The number of frames.
        seconds: The time of tracking, without reading, drawing and writing.
        ids: The numbers of the faces.
    """

    frames: int = 0
    seconds: float = 0.0
    ids: set[int] = field(default_factory=set)

    def add(self, faces: Sequence[TrackedFace], seconds: float) -> None:
        """Adds a frame."""
        self.frames += 1
        self.seconds += seconds
        self.ids |= {face.id for face in faces}

    def line(self, video: Video, detections: int) -> str:
        """The last line of a run."""
        people = f"{len(self.ids)} face{'s' * (len(self.ids) != 1)}"
        rate = f"{1000 * self.seconds / max(self.frames, 1):.1f} ms a frame"
        text = f"{printable(video.name)}: {self.frames} frames, {people}, {detections} detections, {rate}"
        return text + f"; left out {video.broken} frames that could not be decoded" * bool(video.broken)


def open_source(options: TrackOptions) -> Video:
    """Checks the options and opens the video, before a model is loaded.

    Raises:
        KpdetectError: There is no such video, no display for ``--show``, or a file cannot be written.

    Example:
        ``video = open_source(TrackOptions("clip.mp4"))``
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


def track_video(video: Video, tracker: Tracker, options: TrackOptions, draw: Draw) -> int:
    """Tracks the faces of every frame, and writes the files that the options name.

    Args:
        video: The result of `open_source`; it is closed at the end.
        tracker: A new tracker.
        options: The options of the command.
        draw: Draws the faces of a frame, for ``--out`` and ``--show``.

    Returns:
        The exit status: 130 if a file was not tracked to its end, otherwise 0, also for a camera that was stopped.

    Raises:
        KpdetectError: No frame could be decoded, or a file cannot be written.

    Example:
        ``track_video(video, Tracker(predict, detect), options, draw)``
    """
    summary = TrackSummary()
    with_numbers = not options.filter if options.numbers is None else options.numbers
    with ExitStack() as stack:
        stack.callback(video.close)
        json_lines = stack.enter_context(_json_target(options.json))
        write = None
        if options.out is not None:
            if not writes_h264(options.out):
                _LOG.warning(_WRITTEN_BY_OPENCV.format(path=options.out))
            sound_of = None if video.live or not os.path.isfile(options.video) else options.video
            write = stack.enter_context(video_writer(options.out, video.rate, sound_of))
        window = stack.enter_context(Window(video.name)) if options.show else None
        stopped = stack.enter_context(stop_on_signals())
        for frame in _with_progress(video):
            start = time.perf_counter()
            faces = tracker(frame.pixels, frame.time_s)
            summary.add(faces, time.perf_counter() - start)
            if json_lines is not None and not _print(json.dumps(line_of(frame, faces), allow_nan=False), json_lines):
                break
            if write is not None or window is not None:
                picture = draw(frame.pixels, [tracked.face for tracked in faces])
                if with_numbers:
                    picture = draw_numbers(picture, faces)
                if write is not None:
                    write(picture, frame.time_s)
                if window is not None and not window.show(picture):
                    break
            if stopped():
                break
        if summary.frames == 0:
            raise KpdetectError(f"{video.name}: expected a video, but no frame could be decoded")
    print(summary.line(video, tracker.detections), file=sys.stderr if options.json == "-" else sys.stdout)
    return 130 if stopped() and not video.live else 0


_WRITTEN_BY_OPENCV = (
    "{path}: written by OpenCV, without sound, at a constant frame rate, and not as H.264, which browsers "
    "need; for these install PyAV (pip install av) and write .mp4, .mov or .mkv"
)


def line_of(frame: Frame, faces: Sequence[TrackedFace]) -> dict[str, Any]:
    """The JSON of a frame: ``frame``, ``time_s``, and ``faces`` with ``id``, ``scheme`` and `Face.to_dict` of each.

    The names of the points are left out, since each line would repeat them.
    """
    described = []
    for tracked in faces:
        description = tracked.face.to_dict()
        description.pop("names", None)
        described.append({"id": tracked.id, "scheme": tracked.face.schema.name, **description})
    return {"frame": frame.index, "time_s": round(frame.time_s, 4), "faces": described}


def _print(line: str, target: TextIO) -> bool:
    """Prints a line without delay; returns False if the reader of a pipe has closed it, as ``| head`` does."""
    try:
        print(line, file=target, flush=target is sys.stdout)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python reports it again at exit
        return False
    return True


def _with_progress(video: Video) -> Iterator[Frame]:
    """Yields the frames and shows the progress, as a bar on a terminal, else as lines; frames may be left out."""
    if not sys.stderr.isatty():
        lines = TenthLines(f"tracking {video.name}", video.count or 0)
        for frame in video:
            yield frame
            if video.count:
                lines.update(frame.index + 1)
        return
    from tqdm import tqdm  # here, since the library itself needs no progress bar

    with tqdm(total=video.count, unit="frame", file=sys.stderr) as bar:
        for frame in video:
            yield frame
            bar.update(frame.index + 1 - bar.n)


@contextmanager
def _json_target(path: str | None) -> Iterator[TextIO | None]:
    """The target of the lines: a file that is written atomically, stdout, or None."""
    if path is None or path == "-":
        yield None if path is None else sys.stdout
        return
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
        yield lines
