"""Draws the keypoints of all faces on the picture of a webcam, in a window; the key q ends it.

    python examples/webcam.py            # camera 0; also a number, a video file or an address

`kpdetect.Tracker` follows each face from frame to frame, so that its points are steady and its number stays.
"""

import sys
import time
from collections.abc import Sequence

import cv2

from kpdetect import Predictor, Tracker, draw_faces
from kpdetect.detection import make_detector


def main(argv: Sequence[str] | None = None) -> int:
    """Shows frames until the source ends or q is pressed; returns the number of frames."""
    source = next(iter(sys.argv[1:] if argv is None else argv), "0")
    capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    tracker = Tracker(Predictor(), make_detector())
    start, frames = time.monotonic(), 0
    while True:
        there, frame_bgr = capture.read()
        if not there:
            return frames
        image = cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB)
        faces = [tracked.face for tracked in tracker(image, time.monotonic() - start)]
        cv2.imshow("kpdetect", cv2.cvtColor(draw_faces(image, faces, boxes=False), cv2.COLOR_RGB2BGR))
        frames += 1
        if cv2.waitKey(1) & 0xFF == ord("q"):
            return frames


if __name__ == "__main__":
    main()
