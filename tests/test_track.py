"""Tracking: the One Euro filter, track numbers, videos, and broken frames."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from messages import lines_with, mentions

from kpdetect import track
from kpdetect.core.errors import KpdetectError
from kpdetect.core.geometry import apply_matrix, intersection_over_union, rotation, tight_box, translation
from kpdetect.core.images import cv2, warp_crop
from kpdetect.core.options import run_command
from kpdetect.core.schema import IBUG68
from kpdetect.data.synthetic import render
from kpdetect.detection import Face, make_detector
from kpdetect.predict import Predictor
from kpdetect.tracking import (
    OneEuroFilter,
    OneEuroOptions,
    Tracker,
    TrackerOptions,
    TrackOptions,
    Video,
    open_video,
    plausible,
    track_run,
    track_video,
    video_writer,
)
from kpdetect.tracking import video as video_module
from kpdetect.tracking.film_cut import CutDetector
from kpdetect.visualization import draw_faces

SHAPE = render(0, 0)[1] / 128 - 0.5  # the points of a face
BLACK = np.zeros((240, 320, 3), np.uint8)
RATE = 25.0


def points_at(x: float, y: float = 120.0, side: float = 60.0) -> np.ndarray:
    centered = SHAPE - (SHAPE.min(axis=0) + SHAPE.max(axis=0)) / 2
    return (centered * side / np.ptp(SHAPE, axis=0).max() + (x, y)).astype(np.float32)


class World:
    """Fake model and detector of faces on known paths. The first of two overlapping faces hides the other.

    If `scored`, boxes without a face have a low score.
    """

    def __init__(self, *ways: Callable[[int], np.ndarray | None], scored: bool = False) -> None:
        self.ways = ways
        self.scored = scored
        self.frame = -1
        self.searches: list[int] = []
        self.marked: list[int] = []

    def seen(self) -> np.ndarray:
        shown: list[np.ndarray] = []
        for way in self.ways:
            points = way(self.frame)
            if points is not None and not any(
                intersection_over_union(tight_box(points), tight_box(front))[0, 0] > 0.25 for front in shown
            ):
                shown.append(points)
        return np.reshape(shown, (-1, 68, 2))

    def detect(self, _: np.ndarray) -> np.ndarray:
        self.searches.append(self.frame)
        return tight_box(self.seen())

    def mark(self, _: np.ndarray, boxes: np.ndarray) -> list[Face]:
        """The face that overlaps a box most; without one, points that follow the box."""
        faces = []
        for box in np.asarray(boxes, np.float32):
            overlap = intersection_over_union(box, tight_box(self.seen()))[0]
            there = bool(overlap.max(initial=0) > 0.2)
            if there:
                points = self.seen()[overlap.argmax()]
            else:
                points = points_at(*((box[:2] + box[2:]) / 2), side=float((box[2:] - box[:2]).max()))
            faces.append(Face(points, IBUG68, (0.9 if there else 0.1) if self.scored else None, detection_box=box))
        self.marked.append(len(faces))
        return faces

    def run(self, count: int, options: TrackerOptions | None = None) -> list[dict[int, float]]:
        """For each frame, the x of the face of each track number."""
        tracker = Tracker(self.mark, self.detect, options)
        history = []
        for self.frame in range(count):
            faces = tracker(BLACK, self.frame / RATE)
            history.append({face.id: float(tight_box(face.raw_keypoints)[[0, 2]].mean()) for face in faces})
        return history


def still(x: float) -> Callable[[int], np.ndarray]:
    return lambda _: points_at(x)


# The filter


def test_constant_points_are_unchanged() -> None:
    smooth = OneEuroFilter(OneEuroOptions())
    for frame in range(20):
        np.testing.assert_allclose(smooth(points_at(100), frame / RATE, 60), points_at(100), atol=1e-4)


def test_noise_is_reduced_and_the_mean_is_kept() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (300, 68, 2))
    smooth = OneEuroFilter(OneEuroOptions())
    out = np.stack([smooth(points_at(100) + noise[at], at / RATE, 60) for at in range(300)])
    assert np.abs(np.diff(out, axis=0)).mean() < 0.6 * np.abs(np.diff(noise, axis=0)).mean()
    assert np.abs(out.mean(axis=0) - points_at(100)).max() < 0.4


def lag_px(beta: float, speed: float) -> float:
    smooth = OneEuroFilter(OneEuroOptions(1.0, beta))
    for frame in range(60):
        out = smooth(points_at(100 + speed * frame), frame / RATE, 60)
    return float((points_at(100 + speed * 59) - out)[:, 0].mean())


def test_a_higher_beta_reduces_the_lag_most_for_fast_points() -> None:
    lags = [lag_px(beta, 4.0) / 4.0 for beta in (0, 1, 10, 100)]
    assert lags == sorted(lags, reverse=True)
    assert lags[0] > 3 * lags[2]
    assert lag_px(10, 8.0) / 8.0 < lag_px(10, 0.5) / 0.5  # in frames


def test_near_and_far_faces_are_smoothed_equally() -> None:
    near, far = OneEuroFilter(OneEuroOptions()), OneEuroFilter(OneEuroOptions())
    noise = np.random.default_rng(0).normal(0, 1, (10, 68, 2))
    for frame in range(10):
        once = near(points_at(0, 0) + noise[frame], frame / RATE, 60)
        twice = far(2 * (points_at(0, 0) + noise[frame]), frame / RATE, 120)
    np.testing.assert_allclose(2 * once, twice, rtol=1e-4, atol=1e-3)


def test_frames_with_equal_times_are_accepted() -> None:
    smooth = OneEuroFilter(OneEuroOptions())
    smooth(points_at(100), 1.0, 60)
    assert np.isfinite(smooth(points_at(101), 1.0, 60)).all()


@pytest.mark.parametrize("values", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, 0.0), (float("nan"), 1.0, 1.0)])
def test_filter_options_out_of_range_are_errors(values: tuple[float, float, float]) -> None:
    with pytest.raises(KpdetectError, match=mentions("beta", "0", *map(str, values))):
        OneEuroOptions(*values)


def test_without_a_filter_the_points_are_those_of_the_model() -> None:
    world = World(lambda frame: points_at(100 + 3 * frame))
    for one_euro, same in ((None, True), (OneEuroOptions(), False)):
        tracker = Tracker(world.mark, world.detect, TrackerOptions(one_euro=one_euro))
        for world.frame in range(5):
            (tracked,) = tracker(BLACK, world.frame / RATE)
        np.testing.assert_array_equal(tracked.raw_keypoints, points_at(112))
        assert np.array_equal(tracked.face.keypoints, tracked.raw_keypoints) == same


# Numbers


def test_the_detector_runs_at_intervals_only() -> None:
    world = World(still(100), still(220))
    history = world.run(61)
    assert all(set(frame) == {1, 2} for frame in history)
    assert world.searches == [0, 30, 60]


def test_a_new_face_is_found_and_gets_a_new_number() -> None:
    world = World(still(80), lambda frame: points_at(220) if frame >= 10 else None)
    history = world.run(40)
    assert set(history[29]) == {1}
    assert set(history[30]) == {1, 2}


@pytest.mark.parametrize("scored", [False, True])
def test_numbers_are_kept_through_a_crossing(scored) -> None:
    ways = (lambda frame: points_at(60 + 4 * frame), lambda frame: points_at(260 - 4 * frame))
    world = World(*ways, scored=scored)
    history = world.run(48)
    first, last = history[0], history[-1]
    assert set(first) == set(last) == {1, 2}
    rightwards = min(first, key=lambda number: first[number])
    assert last[rightwards] == pytest.approx(60 + 4 * 47, abs=1)
    assert set().union(*history) == {1, 2}  # no third number, also while one face hides the other
    assert all(len(frame) >= 1 for frame in history)


@pytest.mark.parametrize("scored", [False, True])
def test_a_number_is_kept_through_a_short_loss_but_not_a_long_one(scored) -> None:
    for gone, expected in ((12, {1}), (50, {2})):
        world = World(
            lambda frame, gone=gone: None if 10 <= frame < 10 + gone else points_at(100 + frame), scored=scored
        )
        history = world.run(gone + 20)
        assert set(history[9]) == {1}
        assert history[15] == {}
        assert set(history[-1]) == expected


@pytest.mark.parametrize("scored", [False, True])
def test_a_face_dragged_back_before_its_loss_keeps_its_number(scored) -> None:
    def way(frame: int) -> np.ndarray | None:
        """Constant motion to the right; before it is hidden (frames 41 to 57), its points are dragged back."""
        if frame < 36 or frame >= 58:
            return points_at(60 + 3 * frame)
        return points_at(165 - 6 * (frame - 35)) if frame < 41 else None

    history = World(way, scored=scored).run(65)
    assert history[50] == {}
    assert set(history[-1]) == {1}


def test_a_face_elsewhere_does_not_get_the_number_of_a_lost_one() -> None:
    world = World(lambda frame: points_at(60) if frame < 10 else (points_at(250) if frame >= 15 else None))
    assert set(world.run(30)[-1]) == {2}


def test_a_face_that_leaves_the_picture_is_dropped() -> None:
    history = World(lambda frame: points_at(200 + 6 * frame)).run(40)
    assert history[10]
    assert not history[-1]


def test_a_scored_face_is_dropped_in_the_first_frame_without_it() -> None:
    world = World(lambda frame: points_at(100) if frame < 7 else None, scored=True)
    history = world.run(9)
    assert [set(frame) for frame in history] == [{1}] * 7 + [set()] * 2
    assert set(world.marked) == {1}
    unscored = World(still(100))
    unscored.run(9)
    assert max(unscored.marked) == 1
    assert len(unscored.marked) > len(world.marked)  # the second looks


@pytest.mark.parametrize("scored", [False, True])
def test_false_detections_are_rejected(scored) -> None:
    world = World(still(100), scored=scored)
    tracker = Tracker(world.mark, lambda _: [[200, 20, 260, 80]], TrackerOptions())
    world.frame = 0
    assert tracker(BLACK, 0.0) == []
    assert tracker.ids_given == 0


def test_collapsed_points_and_jumps_are_rejected() -> None:
    boxes = [[10, 10, 60, 60], [10, 10, 15, 15], [10, 10, 60, 14], [-60, 10, 10, 60], [300, 10, 350, 60]]
    assert plausible.plausible_boxes(boxes, (240, 320)).tolist() == [True, False, False, False, False]
    before = np.array([[10.0, 10, 60, 60]] * 3)
    after = before + np.array([[5, 5, 5, 5], [40, 0, 40, 0], [0, 0, 40, 40]])
    assert plausible.plausible_motion(before, after).tolist() == [True, False, False]


def test_tracker_options_out_of_range_are_errors() -> None:
    with pytest.raises(KpdetectError, match=mentions("detect_every=0", "1")):
        TrackerOptions(detect_every=0)


# Videos


class FakeCapture:
    """A capture of black frames; None is a frame that cannot be decoded."""

    def __init__(self, frames: Sequence[np.ndarray | None], count: float, rate: float = RATE) -> None:
        self.frames = list(frames)
        self.values = {cv2.CAP_PROP_FRAME_COUNT: count, cv2.CAP_PROP_FPS: rate}

    def read(self) -> tuple[bool, np.ndarray | None]:
        frame = self.frames.pop(0) if self.frames else None
        return frame is not None, frame

    def get(self, number: int) -> float:
        return self.values.get(number, 0.0)

    def release(self) -> None:
        self.frames = []


def test_a_broken_frame_is_counted_and_left_out() -> None:
    video = Video(FakeCapture([BLACK, None, None, BLACK, BLACK], 5), "clip", live=False)
    frames = list(video)
    assert [frame.index for frame in frames] == [0, 3, 4]
    assert frames[1].time_s == pytest.approx(3 / RATE)
    assert video.broken == 2


def test_truncated_files_and_files_without_a_length() -> None:
    short = Video(FakeCapture([BLACK, BLACK], 4), "clip", live=False)
    assert len(list(short)) == 2
    assert short.broken == 2
    unknown = Video(FakeCapture([BLACK, BLACK], 0, rate=float("nan")), "clip", live=False)
    assert len(list(unknown)) == 2
    assert (unknown.broken, unknown.count, unknown.rate) == (0, None, 30.0)


def test_an_unplugged_camera_ends_the_video() -> None:
    camera = Video(FakeCapture([BLACK, None, BLACK], 0), "camera 0", live=True)
    assert len(list(camera)) == 2
    assert camera.broken == 1


def test_a_real_file_with_a_broken_frame(tmp_path) -> None:
    path = tmp_path / "clip.avi"
    noise = np.random.default_rng(0).integers(0, 255, (8, 60, 80, 3), dtype=np.uint8)
    with video_writer(str(path), RATE) as write:
        for pixels in noise:
            write(pixels)
    data = bytearray(path.read_bytes())
    start = [at for at in range(len(data) - 3) if data[at : at + 3] == b"\xff\xd8\xff"][3]
    data[start : start + 1000] = bytes(1000)
    path.write_bytes(data)
    video = open_video(str(path))
    assert [frame.index for frame in video] == [0, 1, 2, 4, 5, 6, 7]
    assert video.broken == 1


def frames_in(path) -> int:
    video = open_video(str(path))
    count = len(list(video))
    video.close()
    return count


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
def test_a_written_video_is_read_back(tmp_path, suffix) -> None:
    path = tmp_path / f"clip{suffix}"
    picture = np.zeros((61, 83, 3), np.uint8)
    picture[:, :40] = (200, 30, 30)
    with video_writer(str(path), RATE) as write:
        for _ in range(5):
            write(picture)
        write(np.zeros((30, 40, 3), np.uint8))  # a frame of another size
    frames = list(open_video(str(path)))
    assert len(frames) == 6
    left = frames[2].pixels[20:40, 10:30].mean(axis=(0, 1))
    np.testing.assert_allclose(left, (200, 30, 30), atol=15)  # red stays red: channels are not swapped


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second at 25 frames per second, then five at 5, with one second of sound; written by PyAV."""
    av = pytest.importorskip("av", reason='needs PyAV: pip install "kpdetect[video]"')
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        video, sound = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=48_000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for time_ms in (*range(0, 1000, 40), *range(1000, 6000, 200)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), time_ms // 40, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(video.encode(frame))
        tone = np.sin(np.arange(48_000) * 0.05, dtype=np.float32).reshape(-1, 1000)
        for block, samples in enumerate(tone):
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 1000 * block
            container.mux(sound.encode(frame))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


def test_frame_times_are_those_of_the_container(clip) -> None:
    times = [frame.time_s for frame in open_video(str(clip))]
    assert len(times) == 50
    np.testing.assert_allclose(times[:26], np.arange(26) / 25, atol=1e-3)
    np.testing.assert_allclose(np.diff(times[25:]), 0.2, atol=1e-3)


def packets_of(path, kind: str) -> list[tuple[float, int]]:
    """Times and sizes of the audio or video packets."""
    av = pytest.importorskip("av", reason='needs PyAV: pip install "kpdetect[video]"')
    with av.open(str(path)) as container:
        stream = next(one for one in container.streams if one.type == kind)
        return sorted(
            (float(one.pts * one.time_base), one.size) for one in container.demux(stream) if one.pts is not None
        )


def track_nothing(video: Path, out: Path) -> None:
    """Tracks a video with a detector that finds nothing."""
    tracker = Tracker(lambda pixels, boxes: [], lambda pixels: np.zeros((0, 4)))
    assert track_video(open_video(str(video)), tracker, TrackOptions(str(video), out=str(out)), draw_faces) == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_are_kept_in_a_written_video(clip, tmp_path, suffix) -> None:
    pytest.importorskip("av", reason='needs PyAV: pip install "kpdetect[video]"')
    track_nothing(clip, tmp_path / f"out{suffix}")
    written = [time_s for time_s, _ in packets_of(tmp_path / f"out{suffix}", "video")]
    original = [time_s for time_s, _ in packets_of(clip, "video")]
    np.testing.assert_allclose(np.subtract(written, written[0]), np.subtract(original, original[0]), atol=2e-3)


def test_sound_is_copied_and_the_codec_is_h264(clip, tmp_path) -> None:
    av = pytest.importorskip("av", reason='needs PyAV: pip install "kpdetect[video]"')
    track_nothing(clip, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sorted(stream.codec_context.name for stream in container.streams) == ["aac", "h264"]
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    (written, original) = (packets_of(path, "audio") for path in (tmp_path / "out.mp4", clip))
    assert [size for _, size in written] == [size for _, size in original[: len(written)]]
    assert written[-1][0] == pytest.approx(1.0, abs=0.05)
    assert len(written) == len(original)
    np.testing.assert_allclose(
        [time_s for time_s, _ in written], [time_s for time_s, _ in original[: len(written)]], atol=1e-3
    )


@pytest.mark.slow
def test_a_written_video_plays_in_chromium_with_sound(clip, tmp_path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason='no Playwright: pip install "kpdetect[test]"')
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium on the PATH: apt-get install chromium")
        pytest.skip("no Chromium on the PATH: apt-get install chromium")
    track_nothing(clip, tmp_path / "out.mp4")
    (tmp_path / "page.html").write_text('<video id="clip" src="out.mp4"></video>')
    play = """async () => {
        const video = document.getElementById("clip");
        await video.play();
        await new Promise((resolve, reject) => {
            video.onended = resolve;
            video.onerror = () => reject(video.error.message);
            video.playbackRate = 4;
        });
        const quality = video.getVideoPlaybackQuality();
        return [video.videoWidth, video.videoHeight, video.duration, video.webkitAudioDecodedByteCount,
                quality.totalVideoFrames];
    }"""
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        width, height, duration, sound_bytes, frames = page.evaluate(play)
        browser.close()
    assert (width, height) == (64, 48)
    assert duration == pytest.approx(5.8, abs=0.3)
    assert sound_bytes > 1000
    assert frames > 10


def test_the_limits_without_pyav_are_reported_once(clip, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(video_module, "writes_h264", lambda path: False)
    monkeypatch.setattr(track_run, "writes_h264", lambda path: False)
    track_nothing(clip, tmp_path / "out.mp4")
    assert len(lines_with(capsys.readouterr().err, str(tmp_path / "out.mp4"), "PyAV")) == 1
    assert frames_in(tmp_path / "out.mp4") == 50


@pytest.mark.parametrize("h264", [True, False])
def test_a_video_with_lost_frames_is_removed(tmp_path, monkeypatch, h264) -> None:
    """As on a full disk, which OpenCV's writer does not report."""
    if h264:
        pytest.importorskip("av", reason='needs PyAV: pip install "kpdetect[video]"')
    monkeypatch.setattr(video_module, "writes_h264", lambda path: h264)
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"older")
    monkeypatch.setattr(video_module, "count_frames", lambda path: 3)
    with ExitStack() as stack:
        write = stack.enter_context(video_writer(str(target), RATE))
        for _ in range(4):
            write(BLACK)
        with pytest.raises(KpdetectError, match=mentions(str(target), "4", "3")):
            stack.close()
    assert target.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_tracks_end_at_a_film_cut() -> None:
    shots = [np.pad(render(3, index, 256)[0], ((20, 20), (20, 20), (0, 0)), mode="edge") for index in range(3)]
    tracker, ids, lags = Tracker(Predictor(), make_detector(judged=True)), [], []
    for frame in range(60):
        faces = tracker(np.roll(shots[frame // 20], frame % 20 // 4, axis=1), frame / RATE)
        ids.append([face.id for face in faces])
        lags.append(max((np.abs(face.face.keypoints - face.raw_keypoints).max() for face in faces), default=0.0))
    assert all(len(one) == 1 for one in ids)
    assert [ids[0], ids[19], ids[20], ids[39], ids[40], ids[59]] == [[1], [1], [2], [2], [3], [3]]
    assert lags[20] == lags[40] == 0  # no smoothing across the cut


def turned_picture(index: int, angle_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """A drawn face and its points, turned clockwise about the middle of a picture of 400 x 400 pixels."""
    picture, points = render(5, index, 200)
    middle = translation(100, 100) @ rotation(angle_deg, (99.5, 99.5))
    return warp_crop(picture, middle, (400, 400), 3), apply_matrix(middle, points)


def error_percent(points: np.ndarray, truth: np.ndarray) -> float:
    return float(100 * np.linalg.norm(points - truth, axis=-1).mean() / np.linalg.norm(truth[36] - truth[45]))


@pytest.mark.parametrize("angle_deg", [90.0, -135.0, 180.0])
def test_a_lying_head_is_found_and_kept(angle_deg: float) -> None:
    tracker = Tracker(Predictor(), make_detector(judged=True))
    for frame in range(8):
        picture, truth = turned_picture(1, angle_deg)
        faces = tracker(np.roll(picture, 3 * frame, axis=1), frame / RATE)
        assert [face.id for face in faces] == [1]
        assert error_percent(faces[0].raw_keypoints - (3 * frame, 0), truth) < 8
    assert tracker.detections == 1


def test_a_head_that_turns_over_keeps_its_number() -> None:
    tracker = Tracker(Predictor(), make_detector(judged=True))
    for frame in range(46):
        picture, truth = turned_picture(1, 4.0 * frame)
        faces = tracker(picture, frame / RATE)
        assert [face.id for face in faces] == [1]
        assert error_percent(faces[0].raw_keypoints, truth) < 8
    assert tracker.detections == 2  # at the start, and after a second


def test_flashes_and_fast_camera_motion_are_no_cuts() -> None:
    picture = np.random.default_rng(0).integers(0, 120, (12, 16, 3), np.uint8)
    wide = np.asarray(cv2.resize(picture, (960, 240), interpolation=cv2.INTER_CUBIC), np.uint8)
    flash = CutDetector()
    assert [flash(frame) for frame in (wide, wide, np.clip(wide + 100.0, 0, 255).astype(np.uint8), wide)] == [False] * 4
    pan = CutDetector()
    assert not any(pan(wide[:, 16 * step : 16 * step + 320]) for step in range(40))


def test_noise_is_no_cut_and_another_scene_is() -> None:
    random = np.random.default_rng(1)
    is_cut, cuts = CutDetector(), []
    for index in range(20):
        if index % 5 == 0:
            scene = np.asarray(cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (320, 240)), np.float32)
        noise = random.normal(0, 8, scene.shape)
        cuts.append(is_cut(np.clip(scene + noise, 0, 255).astype(np.uint8)))
    assert np.flatnonzero(cuts).tolist() == [5, 10, 15]


class Screen:
    """A fake window that records its frames."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, picture: np.ndarray) -> bool:
        SHOWN.append(picture)
        return True


SHOWN: list[np.ndarray] = []


@pytest.mark.parametrize(
    ("options", "numbered"),
    [
        ({}, True),
        ({"filter": ("hat",)}, False),
        ({"filter": ("hat",), "numbers": True}, True),
        ({"numbers": False}, False),
    ],
)
def test_numbers_are_drawn_only_without_filters(options, numbered, monkeypatch) -> None:
    monkeypatch.setattr(track_run, "Window", Screen)
    SHOWN.clear()
    world = World(still(100))
    world.frame = 0
    video, tracker = Video(FakeCapture([BLACK], 1), "clip", live=False), Tracker(world.mark, world.detect)
    assert track_video(video, tracker, TrackOptions("clip", show=True, **options), lambda pixels, faces: pixels) == 0
    assert bool(SHOWN[0].any()) is numbered


def test_a_video_without_frames_is_not_written(tmp_path) -> None:
    with (
        pytest.raises(KpdetectError, match=mentions(str(tmp_path / "a.mp4"))),
        video_writer(str(tmp_path / "a.mp4"), RATE),
    ):
        pass
    assert os.listdir(tmp_path) == []


def follow_world(tmp_path, act: Callable[[int], None]) -> tuple[int, World]:
    """Tracks a video of 30 frames; `act` is called with each frame number."""
    world = World(still(100))
    video = Video(FakeCapture([BLACK] * 30, 30), "clip", live=False)
    options = TrackOptions("clip", out=str(tmp_path / "out.mp4"), json=str(tmp_path / "out.jsonl"))
    tracker = Tracker(world.mark, world.detect)

    def decorate(pixels, faces):
        world.frame += 1
        act(world.frame)
        return draw_faces(pixels, faces)

    world.frame = 0
    return track_video(video, tracker, options, decorate), world


def test_a_line_of_json_per_frame(tmp_path, capsys) -> None:
    assert follow_world(tmp_path, lambda _: None)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(30))
    assert {face["id"] for line in lines for face in line["faces"]} == {1}
    np.testing.assert_allclose(lines[-1]["faces"][0]["keypoints"], points_at(100), atol=1e-2)
    assert frames_in(tmp_path / "out.mp4") == 30
    assert re.search(r"\bclip\b.*\b30\b.*\b1\b.*\b1\b", capsys.readouterr().out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_writer_keeps_complete_files(tmp_path, number) -> None:
    before = signal.getsignal(number)
    status, _ = follow_world(tmp_path, lambda frame: os.kill(os.getpid(), number) if frame == 10 else None)
    assert status == 130
    assert frames_in(tmp_path / "out.mp4") == 10
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 10
    assert signal.getsignal(number) == before


def test_an_error_leaves_no_partial_file(tmp_path) -> None:
    with pytest.raises(ZeroDivisionError):
        follow_world(tmp_path, lambda frame: 1 // (5 - frame))
    assert os.listdir(tmp_path) == []


# The command


def test_wrong_arguments_are_one_line_errors(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for words, parts in (
        ([str(tmp_path / "none.mp4")], [str(tmp_path / "none.mp4")]),
        ([str(tmp_path)], [str(tmp_path)]),
        ([str(text)], [str(text), ".mp4"]),
        (["97"], ["97"]),
        ([str(text), "--out", "points.txt"], [".txt", ".mp4"]),
        ([str(text), "--out", str(text)], ["--out", str(text)]),
        ([str(text), "--show"], ["--show", "--out", "DISPLAY"]),
        ([str(text), "--min-cutoff", "0"], ["beta", "0"]),
        ([str(text), "--filter", "sunglases"], ["sunglases", "sunglasses"]),
    ):
        assert run_command(track.main, words) == 2
        assert lines_with(capsys.readouterr().err.splitlines()[-1], *parts)


def test_the_command_tracks_a_synthetic_face(tmp_path) -> None:
    picture, truth = render(3, 0, 256)
    clip = tmp_path / "clip.mp4"
    with video_writer(str(clip), RATE) as write:
        for frame in range(12):
            write(np.roll(np.pad(picture, ((0, 0), (0, 64), (0, 0)), mode="edge"), 2 * frame, axis=1))
    words = [str(clip), "--json", str(tmp_path / "points.jsonl"), "--out", str(tmp_path / "marked.mp4")]
    assert track.main([*words, "--min-face", "0.3"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text().splitlines()]
    assert [[face["id"] for face in line["faces"]] for line in lines] == [[1]] * 12
    off = np.linalg.norm(np.array(lines[-1]["faces"][0]["keypoints"]) - truth - (22, 0), axis=-1).mean()
    assert off < 0.12 * IBUG68.normalizers(truth[None])[0]
    assert frames_in(tmp_path / "marked.mp4") == 12


@pytest.mark.parametrize("names", [["nose_tip"], ["nose_tip", "chin"]])
def test_models_without_enough_points_are_an_error(names) -> None:
    schema = IBUG68.subset([name for name in names if name in IBUG68.point_names])
    model = SimpleNamespace(spec=SimpleNamespace(schema=schema, crop=SimpleNamespace(around="face")))
    with pytest.raises(KpdetectError, match=mentions(str(schema.num_keypoints), schema.name)):
        track._detector(Predictor(model), 0.1)


def test_tracking_needs_no_tensorflow() -> None:
    code = "import sys, kpdetect.track; print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
