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
# In this notebook:
#
# - labelled faces,
# - a very small network that learns one point, the nose tip; where it succeeds and where it fails,
# - more training pictures by rotation and shift,
# - a larger network that learns all points of the face, and the kernels of its first layer.
#
# The IMM Face Database has 240 pictures of 40 people, with 58 points each. Set the environment variable
# `KPDETECT_DATA` to the folder that contains `imm_face_db/` to train on it; the line `SPEC` reads it. By default, the
# same two recipes train on faces that kpdetect draws, which have 68 points.

# %%
import os

import numpy as np
from IPython.display import Image

from kpdetect import models, visualization
from kpdetect.core.geometry import CropRule
from kpdetect.core.log import show_messages
from kpdetect.data import load
from kpdetect.data.labelled_faces import crop_faces, mean_layout, read_history, select_evenly
from kpdetect.evaluation.predictions import predictions_of
from kpdetect.modelfile.bundle import load_bundle
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training import train
from kpdetect.training.augmentation_preview import transform_rows

SPEC = f"imm:{os.environ['KPDETECT_DATA']}/imm_face_db" if os.getenv("KPDETECT_DATA") else "synthetic:200"
show_messages()  # of the training
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
# The recipe `imm-nose` uses the nose tip only (in IMM, number 53 of 58, counted from 1). The input of the network is
# 60x80 grey pixels, which its first layer scales to -0.5 to 0.5. The output is one `(x, y)` relative to the picture.

# %%
models.build("imm-nose", num_keypoints=1, input_shape=(60, 80, 1)).summary(line_length=88)

# %% [markdown]
# IMM has six pictures of each person, so it is split by person: 1 to 32 for training, 33 to 40 for validation. With a
# split by picture, the network could remember people instead of finding noses, and the error would be too low. The
# recipe holds out these people if the data has them, and otherwise a tenth of all people.
#
# Both recipes of this notebook use the whole picture and detect no face, because each picture of IMM shows one face in
# nearly the same place. A single point has no eye distance to divide its error by, so the NME here is the distance from
# the label relative to the **width of the picture**.

# %%
drawn = SPEC.startswith("synthetic")
nose_epochs = 20 if drawn else None  # None: the number of the recipe
nose_run = train(
    TrainOptions(
        recipe="imm-nose",
        data=SPEC,
        epochs=nose_epochs,
        out="runs/notebook-5-nose",
        overwrite=True,  # so that this notebook can be run again
        deterministic=True,  # the same numbers in every run
    )
)

# %%
visualization.learning_curves(read_history(str(nose_run)), "out/nose-curves.png")
Image("out/nose-curves.png")

# %% [markdown]
# Compare the NME with that of *a constant prediction*, printed above. For one point, this is the same place in every
# picture. If faces are in nearly the same place, as in IMM, it is difficult to be better.
#
# ## Where it succeeds, and where it fails
#
# The four validation faces with the lowest and the four with the highest error:

# %%
made = predictions_of(str(nose_run), faces, "val")
order = np.argsort(made.per_face)
chosen = np.concatenate([order[:4], order[-4:]]) if len(order) > 8 else order
visualization.prediction_sheet(
    made.crops[chosen],
    made.true_px[chosen],
    made.predicted_px[chosen],
    made.per_face[chosen],
    "out/nose.jpg",
    made.caption,
)
Image("out/nose.jpg", width=880)

# %% [markdown]
# What do the failures have in common? Heads that are turned far, hard light, a face in an unusual place. Such pictures
# are rare in the training part. With so few pixels, and a loss that asks for a small mean error only, the network tends
# to predict the mean place of noses.

# %% [markdown]
# ## More from few pictures
#
# Less than two hundred training pictures are few. The recipe `imm-full` rotates and shifts picture and points at random
# in every epoch, so the network never receives the same picture twice and cannot memorise it.

# %%
rows = transform_rows(select_evenly(faces, 3), choose_recipe(TrainOptions(recipe="imm-full")), seed=0)
visualization.transform_sheet(rows, faces.schema, "recipe imm-full", "out/transforms.jpg")
Image("out/transforms.jpg", width=720)

# %% [markdown]
# There is no flip, as in the original project. If you add one (`--set augmentation.flip=true`), left and right points
# exchange their numbers in mirrored pictures ([notebook 1](1_load_and_look_at_the_data.ipynb) shows why).
#
# ## The full face
#
# Now all points, on 180x240 pixels. The NME is now relative to the distance of the outer eye corners, so it cannot be
# compared with that of the nose tip.

# %%
full_epochs = 14 if drawn else None
full_run = train(
    TrainOptions(
        recipe="imm-full",
        data=SPEC,
        epochs=full_epochs,
        out="runs/notebook-5-full",
        overwrite=True,
        deterministic=True,
    )
)

# %%
visualization.learning_curves(read_history(str(full_run)), "out/full-curves.png")
Image("out/full-curves.png")

# %% [markdown]
# Validation can be below training here: training pictures are rotated and shifted, which is more difficult, and their
# loss is the mean over an epoch in which the network still improved ([notebook 2](2_define_and_train.ipynb) measures
# both in the same way).

# %%
made = predictions_of(str(full_run), faces, "val", count=8)
visualization.prediction_sheet(
    made.crops, made.true_px, made.predicted_px, made.per_face, "out/full.jpg", made.caption, faces.schema
)
Image("out/full.jpg", width=880)

# %% [markdown]
# This network ends in dense layers, and all its information about the picture passes through 24 numbers. After a short
# training, its predictions are similar to each other: a mean face in about the right place. Compare the NME with that
# of a constant prediction again. The recipe itself trains for 100 epochs. A network with heat maps, such as `compact`
# in notebook 2, learns faster.

# %%
whole = predictions_of(str(full_run), faces, "val")
visualization.point_errors(
    mean_layout(whole.faces), whole.per_point, whole.faces.schema, whole.caption, "out/errors.jpg"
)
Image("out/errors.jpg", width=720)

# %% [markdown]
# ## The first layer
#
# Twelve kernels of 5x5 pixels. Those that are red on one side and blue on the other respond to edges.

# %%
network, _ = load_bundle(full_run)
visualization.kernel_sheet(
    np.asarray(visualization.first_convolution(network).kernel), "imm-full, first layer", "out/kernels.png"
)
Image("out/kernels.png")

# %% [markdown]
# On the command line:
#
# ```
# kpdetect train --recipe imm-nose --data imm:DIR
# kpdetect train --recipe imm-full --data imm:DIR
# ```
#
# Next: [6, export and run without TensorFlow](6_export_and_run_without_tensorflow.ipynb).
