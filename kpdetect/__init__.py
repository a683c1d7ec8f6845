"""kpdetect: train, measure and ship facial keypoint models with Keras."""

__version__ = "0.1.0"
