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
# # 5. IMM: the nose tip, then the full face
#
# What you will see, in this order:
#
# - labelled faces,
# - a very small network that learns a single point, the nose tip; where it succeeds and where it fails,
# - how turning and shifting makes much of few pictures,
# - a larger network that learns all points of the face, and the kernels of its first layer.
#
# The IMM Face Database has 240 pictures of 40 people, with 58 points each. Set the environment variable
# `KPDETECT_DATA` to the folder that holds `imm_face_db/` to train on it; the line `SPEC` decides. Otherwise the same
# two recipes train on faces that kpdetect draws, which have 68 points.

# %%
import os

import numpy as np
from IPython.display import Image

from kpdetect import models, visualization
from kpdetect.core.geometry import CropRule
from kpdetect.data import load
from kpdetect.data.labelled_faces import crop_faces, mean_layout, read_history, select_evenly
from kpdetect.evaluation.predictions import predictions_of
from kpdetect.modelfile.bundle import load_bundle
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training import train
from kpdetect.training.augmentation_preview import transform_rows
from kpdetect.visualization.first_layer import first_convolution

SPEC = f"imm:{os.environ['KPDETECT_DATA']}/imm_face_db" if os.getenv("KPDETECT_DATA") else "synthetic:200"
# %%
faces = load(SPEC)
print(f"{faces.name}: {len(faces)} faces of {len(np.unique(faces.subjects))} people, scheme {faces.schema.name}")

two = select_evenly(faces, 2)
pictures, points = crop_faces(two, CropRule((480, 480), 1.25))
visualization.keypoint_sheet(pictures, points, faces.schema, two.subjects.tolist(), "out/faces.jpg")
Image("out/faces.jpg")

# %% [markdown]
# ## One point
#
# The recipe `imm-nose` takes the nose tip alone (in IMM, number 53 of 58 when you count from 1). The network sees 60x80
# grey pixels, scaled to -0.5 to 0.5 by its first layer, and answers with one `(x, y)` relative to the picture.

# %%
models.build("imm-nose", num_keypoints=1, input_shape=(60, 80, 1)).summary(line_length=88)

# %% [markdown]
# IMM shows each person in six pictures, so they are divided by person: 1 to 32 train, 33 to 40 validate. Divided by
# picture, the network could recognise people instead of noses, and the error would look better than it is. The
# recipe holds these persons out by itself where the data has them; of drawn faces, a tenth.
#
# Both recipes of this notebook take the whole picture and look for no face in it: IMM shows one face in each, in about
# the same place. And one point has no distance of eyes that its error could be divided by. So the NME is here the
# distance from the label over the **width of the picture**.

# %%
drawn = SPEC.startswith("synthetic")
nose_epochs = 20 if drawn else None  # None: the recipe's own
nose_run = train(TrainOptions("imm-nose", data=SPEC, epochs=nose_epochs, out="runs/notebook-5-nose", overwrite=True))

# %%
visualization.learning_curves(read_history(str(nose_run)), "out/nose-curves.png")
Image("out/nose-curves.png")

# %% [markdown]
# Compare the NME with that of *the mean face*, printed above. For one point, the mean face is a guess in the same
# place of every picture. Where faces stand in nearly the same place, as in IMM, that guess is hard to beat.
#
# ## Where it succeeds, and where it fails
#
# The five best and the five worst of the faces that were held out, by their error:

# %%
made = predictions_of(str(nose_run), faces, "val")
order = np.argsort(made.per_face)
chosen = np.concatenate([order[:5], order[-5:]]) if len(order) > 10 else order
visualization.prediction_sheet(
    made.crops[chosen],
    made.true_px[chosen],
    made.predicted_px[chosen],
    made.per_face[chosen],
    "out/nose.jpg",
    made.caption,
)
Image("out/nose.jpg")

# %% [markdown]
# Look at the failures for what they have in common: heads that are turned far, hard light, a face in an unusual place.
# Such pictures are rare in the training part; and with so few pixels and a loss that only asks for a small mean error,
# the network leans towards the place where noses are on average.

# %% [markdown]
# ## Much from few pictures
#
# Nearly two hundred pictures are few. The recipe `imm-full` turns and shifts each of them anew every time it comes up,
# the points along with it, so that the network never sees quite the same picture twice and cannot learn the pictures
# by heart.

# %%
rows = transform_rows(select_evenly(faces, 3), choose_recipe(TrainOptions(recipe="imm-full")), seed=0)
visualization.transform_sheet(rows, faces.schema, "recipe imm-full", "out/transforms.jpg")
Image("out/transforms.jpg", width=720)

# %% [markdown]
# There is no flip among them, because the source has none. If you add one (`--set augmentation.flip=true`), left and
# right points trade their numbers in mirrored pictures ([notebook 1](1_load_and_look_at_the_data.ipynb) shows why they
# must).
#
# ## The full face
#
# Now all points, on 180x240 pixels. With several points there is a distance of eyes again: the NME is now the mean
# distance from the labels over the distance of the outer eye corners, and so not comparable with the nose tip's.

# %%
full_epochs = 14 if drawn else None
full_run = train(TrainOptions("imm-full", data=SPEC, epochs=full_epochs, out="runs/notebook-5-full", overwrite=True))

# %%
visualization.learning_curves(read_history(str(full_run)), "out/full-curves.png")
Image("out/full-curves.png")

# %% [markdown]
# Validation can lie below training here, and that is no mistake: training pictures are turned and shifted, which is
# harder, and their loss is the mean over an epoch in which the network was still learning ([notebook
# 2](2_define_and_train.ipynb) measures both alike).

# %%
made = predictions_of(str(full_run), faces, "val", count=10)
visualization.prediction_sheet(made.crops, made.true_px, made.predicted_px, made.per_face, "out/full.jpg", made.caption)
Image("out/full.jpg")

# %% [markdown]
# This network ends in dense layers: all it knows of the picture passes through 24 numbers. After a short training its
# answers look much like one another, an average face in about the right place; compare the NME with that of the mean
# face once more. The recipe itself trains for 20 epochs. A network that draws heat maps, such as `compact` in notebook
# 2, learns faster.

# %%
whole = predictions_of(str(full_run), faces, "val")
visualization.point_errors(
    mean_layout(whole.faces), whole.per_point, whole.faces.schema, whole.caption, "out/errors.jpg"
)
Image("out/errors.jpg", width=720)

# %% [markdown]
# ## The first layer
#
# Twelve kernels of 5x5 pixels. Those that are red on one side and blue on the other answer to edges.

# %%
network, _ = load_bundle(full_run)
visualization.kernel_sheet(np.asarray(first_convolution(network).kernel), "imm-full, first layer", "out/kernels.png")
Image("out/kernels.png")

# %% [markdown]
# From the command line:
#
# ```
# kpdetect train --recipe imm-nose --data imm:DIR
# kpdetect train --recipe imm-full --data imm:DIR
# ```
#
# Next: [6, export and run without TensorFlow](6_export_and_run_without_tensorflow.ipynb).
