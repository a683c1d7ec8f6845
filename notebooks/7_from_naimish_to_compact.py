# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. From a student project to an accurate model, in five steps
#
# `naimish` is the network of a student project: convolutions, then dense layers, trained on random crops of whole
# frames. `compact` is the network of the model that ships. This notebook goes from one to the other in five steps. Each
# step keeps the changes of the steps before it, and is measured on the same held-out people:
#
# 1. crop to the face,
# 2. a loss for small errors,
# 3. augmentation,
# 4. batch normalisation,
# 5. heatmaps and soft-argmax instead of dense layers.
#
# All pictures are half as large as in the project, and all trainings are short: about a hundred steps on drawn faces.
# [A student project, step by step](../docs/from-student-project.md) has the same steps on photographs, with more
# training and explanations. With the environment variable `KPDETECT_DATA` set to the folder that contains
# `youtube_faces/`, the cells below train on these frames.

# %%
import os

import numpy as np
import tensorflow as tf
from IPython.display import Image

from kpdetect import visualization
from kpdetect.data import load
from kpdetect.data.labelled_faces import read_history
from kpdetect.evaluation.predictions import predictions_of
from kpdetect.evaluation.results import read_rows
from kpdetect.recipes import TrainOptions
from kpdetect.training import train

SPEC = f"youtube-faces:{os.environ['KPDETECT_DATA']}/youtube_faces" if os.getenv("KPDETECT_DATA") else "synthetic:240"
tf.get_logger().setLevel("ERROR")  # several trainings in one process: TensorFlow warns that it traces anew
faces = load(SPEC)
print(f"{faces.name}: {len(faces)} faces of {len(np.unique(faces.subjects))} people")

# %% [markdown]
# ## The start: whole frames
#
# The project scales each frame to 250 pixels and cuts a square of 224 out of it at random. Here both are halved, and so
# are the mean and the deviation of the scaled targets: `(pixels - 50) / 25`. The network has to find the face and its
# points at once.

# %%
common = {"data": SPEC, "epochs": 8, "batch_size": 16, "overwrite": True}
half_size = ("crop.size_hw=112:112", "architecture_options.target_px=50:25")
train(TrainOptions(recipe="naimish", set=("image_side=125", *half_size), out="runs/steps/0-frames", **common))

# %% [markdown]
# ## Step 1: crop to the face
#
# With `image_side=none`, the crop is centred on the face box and has 1.35 times its side. In prediction, a face
# detector gives the box. All faces now have about the same place and size.

# %%
crop = ("image_side=none", "crop.margin=1.35", *half_size)
train(TrainOptions(recipe="naimish", set=crop, out="runs/steps/1-crop", **common))

# %% [markdown]
# ## Step 2: a loss for small errors
#
# The gradient of the squared error is proportional to the error, so that a few large errors outweigh many small ones.
# The [Wing loss](https://arxiv.org/abs/1711.06753) is logarithmic near zero. Its unit is per cent of the crop.

# %%
wing = ("loss_unit=100", *crop)
train(TrainOptions(recipe="naimish", loss="wing", set=wing, out="runs/steps/2-loss", **common))

# %% [markdown]
# ## Step 3: augmentation
#
# The project mirrors half of its pictures. Here they are also turned, scaled, shifted, and changed in brightness,
# contrast and gamma. The network cannot memorise its training faces. In exchange, it takes more epochs: in a training
# as short as this one, augmentation gains little or nothing.

# %%
augmentation = (
    "augmentation.rotation_deg=8",
    "augmentation.scale=0.12",
    "augmentation.shift=0.05",
    "augmentation.brightness=20",
    "augmentation.contrast=0.2",
    "augmentation.gamma=0.2",
)
varied = (*augmentation, *wing)
train(TrainOptions(recipe="naimish", loss="wing", set=varied, out="runs/steps/3-augmentation", **common))

# %% [markdown]
# ## Step 4: batch normalisation
#
# Each hidden layer normalises its outputs over the batch, so that all layers learn at a similar speed. In validation
# and prediction it uses running means of these statistics, which need some hundred steps to settle.

# %%
normalised = ("architecture_options.batch_norm=true", *varied)
train(TrainOptions(recipe="naimish", loss="wing", set=normalised, out="runs/steps/4-batch-norm", **common))

# %% [markdown]
# ## Step 5: heatmaps and soft-argmax
#
# A dense layer has separate weights for each place of the picture. `compact` is convolutional to the end: it outputs a
# heatmap per point, and the point is the mean of the places, weighted by the softmax of the heatmap. Crop, loss,
# augmentation and optimizer are those of step 4.

# %%
same = ("optimization.schedule=constant", "augmentation.blur=0", "augmentation.noise=0", "augmentation.cut_out=0")
train(
    TrainOptions(
        recipe="compact-112",
        optimizer="adam",
        learning_rate=1e-3,
        set=(*augmentation, *same),
        out="runs/steps/5-soft-argmax",
        **common,
    )
)

# %% [markdown]
# ## All steps
#
# NME on the held-out people, and the error of a constant prediction, the mean training target, in the same crops. A
# network that is not better than the constant has learned nothing yet.

# %%
names = ["0-frames", "1-crop", "2-loss", "3-augmentation", "4-batch-norm", "5-soft-argmax"]
rows = {name: read_rows(f"runs/steps/{name}/result.csv")[0] for name in names}
print(f"{'step':16}{'NME':>8}{'mirrored':>10}{'constant':>10}{'parameters':>12}")
for name, row in rows.items():
    print(f"{name:16}{row.nme:7.2f}%{row.nme_mirrored:9.2f}%{row.nme_constant:9.2f}%{row.parameters:12,}")

# %% [markdown]
# The validation error of each epoch, in per cent:

# %%
for name in names:
    print(f"{name:16}", *(f"{100 * error:6.1f}" for error in read_history(f"runs/steps/{name}")["val_nme"]))

# %% [markdown]
# After about a hundred steps, the networks without batch normalisation (steps 0 to 3) are near the constant prediction.
# The crop lowers that prediction's error and makes the task easier. Steps 4 and 5 have learned from the pictures. The
# training error of step 5 is the lowest, far below its validation error; a likely reason is that the running means of
# its batch normalisation have not settled yet. On photographs, with fifteen times as many steps, [the
# table](../docs/from-student-project.md#what-each-step-gains) looks different: step 1 gains most, step 5 is best, and
# step 3 pays with the boxes of a detector.

# %% [markdown]
# The first and the last network on the same held-out faces:

# %%
first = predictions_of("runs/steps/0-frames", faces, "val", count=6)
visualization.prediction_sheet(
    first.crops, first.true_px, first.predicted_px, first.per_face, "out/frames.jpg", first.caption
)
Image("out/frames.jpg")

# %%
last = predictions_of("runs/steps/5-soft-argmax", faces, "val", count=6)
visualization.prediction_sheet(
    last.crops, last.true_px, last.predicted_px, last.per_face, "out/heatmaps.jpg", last.caption
)
Image("out/heatmaps.jpg")
