"""Owns frames in and out: files, streams and cameras read with OpenCV, and video files written whole."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.images import Pixels, cv2
from kpdetect.core.options import quietly

CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""What OpenCV's own FFmpeg can always write; it has no H.264 encoder."""
USUAL_RATE = 30.0  # frames a second, where the source does not say
FASTEST_RATE = 1000.0  # some streams claim 90,000, which is their clock
MOST_BROKEN = 100  # in a row; what follows then is no video any more


class Capture(Protocol):
    """What reads frames: ``cv2.VideoCapture``, or anything that acts like one."""

    def read(self) -> tuple[bool, Any]:
        """The next frame (H, W, 3) as BGR, and whether there is one."""

    def get(self, property_number: int, /) -> float:
        """A property, such as ``cv2.CAP_PROP_FPS``."""

    def release(self) -> None:
        """Closes it."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video.

    Attributes:
        index: Its place, from 0; frames that could not be decoded count.
        time_s: When it was taken, in seconds from the first; by the frame rate for files, by the clock for cameras.
        pixels: (H, W, 3) uint8 RGB, turned as it is meant to be seen.
    """

    index: int
    time_s: float
    pixels: Pixels


class Video:
    """The frames of a file, a stream or a camera, once through; ``close`` it at the end.

    Args:
        capture: What reads the frames.
        name: What messages call it.
        live: A camera or a stream: it has no length, and its frames come when they come.
    """

    def __init__(self, capture: Capture, name: str, live: bool) -> None:
        self.name = name
        self.live = live
        self.broken = 0
        self._capture = capture
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if 0 < rate <= FASTEST_RATE else USUAL_RATE
        self.count = int(count) if not live and 0 < count < 1e9 else None

    def __iter__(self) -> Iterator[Frame]:
        """Gives the frames; those that cannot be decoded are left out, and counted in ``broken``.

        OpenCV says the same of a broken frame as of the end, so a file is read on until its own count is full.
        """
        start_s, index, failed = time.monotonic(), 0, 0
        while failed <= MOST_BROKEN:
            done, image_bgr = self._capture.read()
            if done and image_bgr is not None:
                self.broken, failed = self.broken + failed, 0
                taken_s = time.monotonic() - start_s if self.live else index / self.rate
                yield Frame(index, taken_s, np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8))
            elif not self.live and (self.count is None or index >= self.count):
                break
            else:
                failed += 1
            index += 1
        # Whatever lacks at the end of a file lacks; a camera's last failures are its end.
        self.broken += 0 if self.live else failed

    def close(self) -> None:
        """Lets the file or the camera go."""
        self._capture.release()


def open_video(source: str) -> Video:
    """Opens a video.

    Args:
        source: A file, a stream's address (``rtsp://…``, ``http://…``), or a camera's number, such as ``0``.

    Raises:
        KpdetectError: There is no such file or camera, or it is no video.
    """
    is_camera, is_stream = source.isdecimal(), "://" in source
    if not is_camera and not is_stream and not os.path.isfile(source):
        what = "that is a folder" if os.path.isdir(source) else "there is no such file"
        raise KpdetectError(f"{source}: expected a video file, a stream's address or a camera's number; {what}")
    with quietly(f"opening {'camera ' * is_camera}{source}"):  # OpenCV tells of every backend that it tries
        capture = cv2.VideoCapture(int(source)) if is_camera else cv2.VideoCapture(source)
    if capture.isOpened():
        return Video(capture, f"camera {source}" if is_camera else source, live=is_camera or is_stream)
    if is_camera:
        raise KpdetectError(f"camera {source}: there is none, or another program has it; 0 is usually the first")
    if is_stream:
        raise KpdetectError(f"{source}: this stream cannot be opened; is the address right, and does it need a login?")
    raise KpdetectError(f"{source}: expected a video that OpenCV can decode (such as .mp4, .avi, .mkv), and it is none")


def check_video_target(path: str) -> None:
    """Says before the work whether a video of this name can be written.

    Raises:
        KpdetectError: The suffix names no known format.
    """
    if Path(path).suffix.lower() not in CODECS:
        raise unknown_name("video format", Path(path).suffix or path, CODECS)


@contextmanager
def video_writer(path: str, rate: float) -> Iterator[Callable[[Pixels], None]]:
    """Gives a function that writes the next frame, (H, W, 3) uint8 RGB; the file stands when the block ends well.

    The first frame gives the size; later ones of another size are scaled to it.

    Args:
        path: The file; its suffix is one of `CODECS`.
        rate: Frames a second.

    Raises:
        KpdetectError: It cannot be written there, or not a single frame was.
    """
    check_video_target(path)
    with atomic_file(path) as temporary:
        writer = _Writer(str(temporary), CODECS[Path(path).suffix.lower()], rate)
        try:
            yield writer.write
        finally:
            frames = writer.close()
        if frames == 0:
            raise KpdetectError(f"{path}: not written, since there was not a single frame to write")


class _Writer:
    """Opens OpenCV's writer with the first frame, which has the size."""

    def __init__(self, path: str, codec: str, rate: float) -> None:
        self._path, self._codec, self._rate = path, codec, rate
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)
        self._frames = 0

    def write(self, pixels: Pixels) -> None:
        if self._writer is None:
            self._size_wh = (pixels.shape[1], pixels.shape[0])
            code = cv2.VideoWriter.fourcc(*self._codec)
            self._writer = cv2.VideoWriter(self._path, code, self._rate, self._size_wh)
            if not self._writer.isOpened():
                raise KpdetectError(f"{self._path}: OpenCV cannot write {self._codec} video there; try .avi")
        if (pixels.shape[1], pixels.shape[0]) != self._size_wh:  # OpenCV would leave it out without a word
            pixels = np.asarray(cv2.resize(pixels, self._size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def close(self) -> int:
        """Ends the file; gives how many frames it has."""
        if self._writer is not None:
            self._writer.release()
        return self._frames
