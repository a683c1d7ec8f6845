"""Logs for TensorBoard: curves, and pictures of validation predictions."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kpdetect import models, visualization
from kpdetect.core.geometry import to_pixels
from kpdetect.data import Annotations
from kpdetect.data.crops import evaluation_crops
from kpdetect.evaluation.metrics import nme_per_face
from kpdetect.recipes import Recipe

EPOCHS_BETWEEN_PICTURES = 5
PICTURED_FACES = 12


class PredictionPictures(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Writes a sheet of validation predictions for TensorBoard after the first epoch and every few epochs.

    Args:
        folder: Folder of the logs.
        val: Validation faces; at most `PICTURED_FACES` of them, evenly spaced, are shown.
        recipe: Crop and colour of the model.
        every: Number of epochs between two sheets.

    Example:
        >>> model.fit(batches, callbacks=[PredictionPictures(Path("logs"), val, recipe)])  # doctest: +SKIP
    """

    def __init__(self, folder: Path, val: Annotations, recipe: Recipe, every: int = EPOCHS_BETWEEN_PICTURES) -> None:
        super().__init__()
        shown = np.linspace(0, len(val) - 1, min(PICTURED_FACES, len(val))).astype(int)
        self.faces, self.crop, self.every = val.take(np.unique(shown)), recipe.crop, every
        self.crops, self.truth, _ = evaluation_crops(self.faces, recipe.crop, recipe.channels)
        self.writer = tf.summary.create_file_writer(str(folder / "predictions"))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Predicts the faces and writes the sheet."""
        if epoch and (epoch + 1) % self.every:
            return
        outputs = models.split_joined(self.model.predict_on_batch(self.crops))
        predicted = to_pixels(np.asarray(outputs[models.OUTPUT_NAME], np.float32), self.crop.size_hw)
        truth, visible = to_pixels(self.truth, self.crop.size_hw), self.faces.visible
        errors = nme_per_face(truth, predicted, visible, self.faces.schema, float(self.crop.size_hw[1]))
        truth = np.where(visible[..., None], truth, np.float32(np.nan))
        with tempfile.TemporaryDirectory() as folder:
            sheet = Path(folder) / "sheet.png"
            visualization.prediction_sheet(self.crops, truth, predicted, errors, sheet, schema=self.faces.schema)
            picture = tf.io.decode_png(sheet.read_bytes(), channels=3)
        with self.writer.as_default(step=epoch + 1):
            tf.summary.image("validation predictions", picture[tf.newaxis])
        self.writer.flush()
