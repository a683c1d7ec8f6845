"""Child processes that are forked while other threads predict."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from kpdetect.core.fork import renew_after_fork
from kpdetect.core.images import cv2
from kpdetect.data import load
from kpdetect.predict import Predictor

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def status_of(child: int, seconds: float) -> int | str:
    """The exit status of a child, or ``hangs`` if it does not end and is killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="macOS has libraries that do not work after a fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_children_predict_the_same_as_the_parent(threads):
    faces = load("synthetic:1")
    photo = np.asarray(cv2.resize(faces.read(faces.paths[0]), (640, 640)), np.uint8)
    predictor = Predictor(threads=threads)
    (expected,) = predictor(photo)
    stop = threading.Event()

    def predict_until_stopped() -> None:
        while not stop.is_set():
            predictor(photo)

    workers = [threading.Thread(target=predict_until_stopped) for _ in range(3)]
    for worker in workers:
        worker.start()
    statuses = []
    try:
        for _ in range(6):
            time.sleep(0.05)
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    (face,) = predictor(photo)
                    status = 0 if np.allclose(face.keypoints, expected.keypoints, atol=1e-3) else 3
                finally:
                    os._exit(status)
            statuses.append(status_of(child, 60))
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert statuses == [0] * 6
    (after,) = predictor(photo)  # the parent continues to predict
    np.testing.assert_allclose(after.keypoints, expected.keypoints, atol=1e-3)


class Locked:
    """Holds a lock, like another thread at the time of a fork."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        self.lock = threading.Lock()


def test_locks_are_new_in_the_child_and_objects_can_be_collected():
    kept, gone = Locked(), Locked()
    del gone
    kept.lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(0 if kept.lock.acquire(timeout=5) else 3)
    assert status_of(child, 20) == 0
    assert kept.lock.locked()
