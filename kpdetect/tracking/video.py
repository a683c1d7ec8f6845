"""Frames of files, streams and cameras, and video files written atomically.

Reading needs OpenCV alone. Writing uses PyAV if it is installed: H.264, the frames' own times, and sound. OpenCV's
writer has MPEG-4 Part 2, which browsers do not play, a constant frame rate and no sound.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kpdetect.core.atomic_write import atomic_file
from kpdetect.core.errors import KpdetectError, unknown_name
from kpdetect.core.images import Pixels, cv2
from kpdetect.core.options import quietly
from kpdetect.core.text import is_utf8

_LOG = logging.getLogger(__name__)

CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""The codecs of OpenCV's writer. Its FFmpeg always has them, and no H.264 encoder."""
DEFAULT_RATE = 30.0  # frames a second, if the source does not state it
MAX_RATE = 1000.0  # some streams state 90,000, the rate of their clock
MAX_BROKEN = 100  # broken frames in a row, after which the video has ended
H264_TIME_BASE = Fraction(1, 90_000)  # seconds; the usual clock of MPEG, a multiple of all usual frame rates
H264_OPTIONS = {"crf": "18", "preset": "veryfast"}  # visually lossless, and faster than the tracking


class Capture(Protocol):
    """A source of frames: ``cv2.VideoCapture``, or an object with these methods."""

    def read(self) -> tuple[bool, Any]:
        """Whether there is a next frame, and the frame (H, W, 3) BGR."""

    def get(self, property_number: int, /) -> float:
        """A property, such as ``cv2.CAP_PROP_FPS``."""

    def release(self) -> None:
        """Closes it."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video.

    Attributes:
        index: Its index from 0; broken frames are counted.
        time_s: Its time in seconds since the first frame: the container's time of a file, the clock of a camera.
        pixels: (H, W, 3) uint8 RGB, with the container's rotation applied.

    Example:
        ``frame.time_s`` is the time in the container, not index / rate.
    """

    index: int
    time_s: float
    pixels: Pixels


class Video:
    """The frames of a file, a stream or a camera, which can be iterated once.

    Args:
        capture: The source of the frames.
        name: The name in messages.
        live: Whether it is a camera or a stream, which has no length.

    Attributes:
        rate: Frames a second; the average for a file of variable rate.
        count: The number of frames; None if it is unknown.
        broken: The number of frames so far that could not be decoded.

    Example:
        >>> for frame in open_video("clip.mp4"):  # doctest: +SKIP
        ...     print(frame.time_s, frame.pixels.shape)
    """

    def __init__(self, capture: Capture, name: str, live: bool) -> None:
        self.name = name
        self.live = live
        self.broken = 0
        self._capture = capture
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if 0 < rate <= MAX_RATE else DEFAULT_RATE
        self.count = int(count) if not live and 0 < count < 1e9 else None

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames; broken ones are left out and counted in `broken`.

        OpenCV reports a broken frame like the end of the file, so a file is read until its frame count is reached.
        """
        start_s, index, failed = time.monotonic(), 0, 0
        first_ms = last_ms = 0.0
        last = Frame(0, 0.0, np.zeros((0, 0, 3), np.uint8))
        while failed <= MAX_BROKEN:
            done, image_bgr = self._capture.read()
            if done and image_bgr is not None:
                self.broken, failed = self.broken + failed, 0
                now_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
                if last.pixels.size == 0:
                    first_ms = last_ms = now_ms
                if self.live:
                    time_s = time.monotonic() - start_s
                elif now_ms > last_ms:
                    time_s = (now_ms - first_ms) / 1000
                else:  # the container has no times
                    time_s = last.time_s + (index - last.index) / self.rate
                pixels = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
                last, last_ms = Frame(index, time_s, pixels), now_ms
                yield last
            elif not self.live and (self.count is None or index >= self.count):
                break
            else:
                failed += 1
            index += 1
        # At the end of a file missing frames are broken ones; a camera that fails has ended.
        self.broken += 0 if self.live else failed

    def close(self) -> None:
        """Closes the file or the camera."""
        self._capture.release()


def open_video(source: str) -> Video:
    """Opens a video.

    Args:
        source: A file, a stream's address (``rtsp://…``, ``http://…``), or a camera's number, such as ``0``.

    Raises:
        KpdetectError: There is no such file or camera, or it is not a video.

    Example:
        >>> video = open_video("clip.mp4")  # doctest: +SKIP
    """
    is_camera, is_stream = source.isdecimal(), "://" in source
    if not is_camera and not is_stream and not os.path.isfile(source):
        found = "that is a folder" if os.path.isdir(source) else "there is no such file"
        raise KpdetectError(f"{source}: expected a video file, a stream's address or a camera's number; {found}")
    if not is_utf8(source):
        raise KpdetectError(f"{source}: expected a file name in UTF-8, since OpenCV opens no other; rename the file")
    with quietly(f"opening {'camera ' * is_camera}{source}"):  # OpenCV reports every backend that it tries
        capture = cv2.VideoCapture(int(source)) if is_camera else cv2.VideoCapture(source)
    if capture.isOpened():
        return Video(capture, f"camera {source}" if is_camera else source, live=is_camera or is_stream)
    if is_camera:
        raise KpdetectError(f"camera {source}: not found, or used by another program; 0 is usually the first camera")
    if is_stream:
        raise KpdetectError(f"{source}: cannot open this stream; check the address, and whether it needs a password")
    raise KpdetectError(f"{source}: expected a video that OpenCV can decode (such as .mp4, .avi, .mkv)")


def check_video_target(path: str) -> None:
    """Checks the name of a video to write.

    Raises:
        KpdetectError: The suffix is not a known format, or the name is not UTF-8.
    """
    if Path(path).suffix.lower() not in CODECS:
        raise unknown_name("video format", Path(path).suffix or path, CODECS)
    if not is_utf8(path):
        raise KpdetectError(f"{path}: expected a file name in UTF-8, since OpenCV writes no other; choose another name")


def writes_h264(path: str) -> bool:
    """Whether `video_writer` writes this file with PyAV: H.264 with frame times and sound."""
    if Path(path).suffix.lower() == ".avi" or importlib.util.find_spec("av") is None:
        return False
    import av

    return "libx264" in av.codecs_available


@contextmanager
def video_writer(path: str, rate: float, sound_of: str | None = None) -> Iterator[Callable[..., None]]:
    """Yields a function ``write(pixels, time_s=None)`` for the next frame, (H, W, 3) uint8 RGB.

    The file gets its name after the block succeeded, and after it was opened again and its frames were counted. The
    first frame decides the size; frames of another size are scaled to it, and odd sides are extended by a pixel where
    H.264 needs it.

    Args:
        path: The file; its suffix is one of `CODECS`.
        rate: Frames a second, for frames without a time; all frames, if `writes_h264` is False.
        sound_of: A video file whose sound is copied, if `writes_h264`; None for no sound.

    Raises:
        KpdetectError: The file cannot be written, no frame was, or frames are missing in it, as on a full disk.

    Example:
        >>> with video_writer("out.mp4", rate=25.0) as write:  # doctest: +SKIP
        ...     write(np.zeros((240, 320, 3), np.uint8))
    """
    check_video_target(path)
    with atomic_file(path) as temporary:
        writer: _OpenCVWriter | _PyAVWriter
        if writes_h264(path):
            writer = _PyAVWriter(str(temporary), path, rate, sound_of)
        else:
            writer = _OpenCVWriter(str(temporary), path, rate)
        try:
            yield writer.write
        except BaseException:
            writer.abort()
            raise
        writer.close()
        if writer.frames == 0:
            raise KpdetectError(f"{path}: not written, since there was no frame to write")
        found = count_frames(str(temporary))
        if found < writer.frames:
            raise KpdetectError(
                f"{path}: expected a video of {writer.frames} frames, but only {found} could be read back; is the disk "
                "full? An existing file is unchanged"
            )


def count_frames(path: str) -> int:
    """The number of frames of a video file that can be decoded."""
    count = 0
    with quietly():  # OpenCV reports damaged files in its own words
        capture = cv2.VideoCapture(path)
        while capture.isOpened() and capture.grab():
            count += 1
        capture.release()
    return count


class _OpenCVWriter:
    """OpenCV's writer, opened with the first frame, whose size it needs."""

    def __init__(self, temporary: str, path: str, rate: float) -> None:
        self._temporary, self._path, self._rate = temporary, path, rate
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)
        self.frames = 0

    def write(self, pixels: Pixels, time_s: float | None = None) -> None:
        """Writes a frame; its time is ignored."""
        if self._writer is None:
            self._size_wh = (pixels.shape[1], pixels.shape[0])
            codec = CODECS[Path(self._path).suffix.lower()]
            self._writer = cv2.VideoWriter(self._temporary, cv2.VideoWriter.fourcc(*codec), self._rate, self._size_wh)
            if not self._writer.isOpened():
                raise KpdetectError(f"{self._path}: OpenCV cannot write {codec} video; is the disk full? Or try .avi")
        self._writer.write(cv2.cvtColor(_resized(pixels, self._size_wh), cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self) -> None:
        """Completes the file."""
        if self._writer is not None:
            self._writer.release()

    abort = close


class _PyAVWriter:
    """Writes H.264 with the frames' own times, and copies the sound of another file between the frames."""

    def __init__(self, temporary: str, path: str, rate: float, sound_of: str | None) -> None:
        import av

        self._av, self._path, self._rate = av, path, rate
        self._sound = None if sound_of is None else _Sound(sound_of, path)
        options = {"movflags": "+faststart"} if Path(path).suffix.lower() in (".mp4", ".mov") else {}
        self._container: Any = self._checked(lambda: av.open(temporary, "w", options=options))
        self._stream: Any = None
        self._size_wh = (0, 0)
        self._last_s = 0.0
        self.frames = 0

    def write(self, pixels: Pixels, time_s: float | None = None) -> None:
        """Encodes a frame, and copies the sound up to its time."""
        if self._stream is None:
            self._size_wh = (pixels.shape[1], pixels.shape[0])
            rate = Fraction(self._rate).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=rate, options=H264_OPTIONS)
            self._stream.width, self._stream.height = (side + side % 2 for side in self._size_wh)
            self._stream.pix_fmt = "yuv420p"  # the only one that all browsers play
            self._stream.codec_context.time_base = H264_TIME_BASE
            if self._sound is not None:
                self._sound.add_to(self._container)
        if time_s is None:
            time_s = self._last_s + (1 / self._rate if self.frames else 0.0)
        self._last_s = max(time_s, self._last_s + float(H264_TIME_BASE)) if self.frames else max(time_s, 0.0)
        same_size = _resized(pixels, self._size_wh)
        odd_y, odd_x = same_size.shape[0] % 2, same_size.shape[1] % 2
        even = np.pad(same_size, ((0, odd_y), (0, odd_x), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame.pts, frame.time_base = round(self._last_s / H264_TIME_BASE), H264_TIME_BASE
        self._checked(lambda: self._container.mux(self._stream.encode(frame)))
        self._copy_sound(self._last_s)
        self.frames += 1

    def close(self) -> None:
        """Completes the file, with the sound of the last frame."""
        if self._stream is not None:
            self._checked(lambda: self._container.mux(self._stream.encode()))
            self._copy_sound(self._last_s + 1 / self._rate)
        self._checked(self._container.close)
        if self._sound is not None:
            self._sound.close()

    def abort(self) -> None:
        """Closes an incomplete file, which is removed."""
        with suppress(OSError, self._av.FFmpegError):  # the first error is the one to report
            self._container.close()
        if self._sound is not None:
            self._sound.close()

    def _copy_sound(self, until_s: float) -> None:
        if self._sound is not None:
            for packet in self._sound.packets(until_s):
                self._checked(partial(self._container.mux, packet))

    def _checked(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except (OSError, self._av.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or error
            raise KpdetectError(f"{self._path}: cannot be written: {reason}; an existing file is unchanged") from error


class _Sound:
    """The packets of a video file's sound, copied without decoding."""

    def __init__(self, source: str, target: str) -> None:
        import av

        self._name = target
        self._container: Any = av.open(source)
        self._stream: Any = next(iter(self._container.streams.audio), None)
        self._target: Any = None
        video: Any = next(iter(self._container.streams.video), None)
        self._start_s = float(video.start_time * video.time_base) if video is not None and video.start_time else 0.0
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None

    def add_to(self, container: Any) -> None:
        """Adds a stream for the sound to a new file, if its format can contain it."""
        if self._stream is None:
            return
        codec = self._stream.codec_context.name
        if codec not in container.supported_codecs:
            suffix = Path(self._name).suffix
            _LOG.warning(f"{self._name}: left out the sound, since {suffix} cannot contain {codec}")
            return
        self._target = container.add_stream_from_template(self._stream)
        self._packets = self._container.demux(self._stream)
        self._next = next(self._packets, None)

    def packets(self, until_s: float) -> Iterator[Any]:
        """The packets from the last call's time to this one, in seconds since the first frame."""
        while self._next is not None:
            packet = self._next
            if packet.dts is not None:
                if float(packet.dts * packet.time_base) - self._start_s > until_s:
                    return
                shift = round(self._start_s / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._target
                yield packet
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Closes the file."""
        self._container.close()


def _resized(pixels: Pixels, size_wh: tuple[int, int]) -> Pixels:
    """A frame (H, W, 3) scaled to a size, if it has another one."""
    if (pixels.shape[1], pixels.shape[0]) == size_wh:
        return pixels
    return np.asarray(cv2.resize(pixels, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
