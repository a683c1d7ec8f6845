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
# # 1. Load and look at the data
#
# In this notebook:
#
# - labelled faces with the numbers of their 68 points,
# - how a prediction is measured, and why half a pixel matters,
# - what happens to points when a picture is mirrored, and a common mistake,
# - what the transforms of a recipe do to a picture and its points,
# - how faces are split into training and validation, and why the published split leaks.
#
# The faces are drawn by kpdetect, so nothing is downloaded. To use real ones, set the environment variable
# `KPDETECT_DATA` to the folder that contains `youtube_faces/` before you start Jupyter; the line `SPEC` reads it.

# %%
import os

import numpy as np
from IPython.display import Image

from kpdetect import visualization
from kpdetect.core.geometry import CropRule, apply_matrix, horizontal_flip
from kpdetect.data import load, split_by_subject
from kpdetect.data.crops import evaluation_crops
from kpdetect.data.labelled_faces import crop_faces, mean_layout, select_evenly
from kpdetect.evaluation.metrics import nme_per_face
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training.augmentation_preview import transform_rows

SPEC = f"youtube-faces:{os.environ['KPDETECT_DATA']}/youtube_faces" if os.getenv("KPDETECT_DATA") else "synthetic:300"

# %% [markdown]
# ## Load
#
# In the PyTorch notebook, a face is a row of a CSV file: a name and 136 numbers. kpdetect reads every format into the
# same class, `Annotations`, with one row per face. Points are `(x, y)` pairs, so 68 points are an array `(68, 2)`.
# `load` decodes no picture yet: `paths` has the place of each picture, and `read` decodes one.

# %%
faces = load(SPEC)

print(f"{faces.name}: {len(faces)} faces of {len(np.unique(faces.subjects))} people, scheme {faces.schema.name}")
for attribute in ("paths", "keypoints", "visible", "boxes", "subjects"):
    array = getattr(faces, attribute)
    print(f"  {attribute:10} {array.dtype.kind}  {array.shape}")

# %%
first = faces.read(faces.paths[0])
print("picture   ", first.shape, first.dtype)
print("face box  ", faces.boxes[0].round(1), " the smallest box around the points")
print("nose tip  ", faces.keypoints[0, faces.schema.index("nose_tip")].round(1))

# %% [markdown]
# ## Look
#
# Look at labels before you train on them. The numbers start at 0, in the order of iBUG 300-W: jaw, brows, nose, eyes,
# mouth.

# %%
two = select_evenly(faces, 2)
pictures, points = crop_faces(two, CropRule((480, 480), 1.25))
visualization.keypoint_sheet(pictures, points, faces.schema, two.subjects.tolist(), "out/keypoints.jpg")
Image("out/keypoints.jpg")

# %% [markdown]
# The points also have names. The next picture shows them on the mean face. *Left* and *right* are those of the pictured
# person, so the left eye is on the right of the picture. The list shows which two points are exchanged in a mirrored
# picture; the reason follows below.

# %%
visualization.scheme_page(mean_layout(faces), faces.schema, "out/scheme.jpg")
Image("out/scheme.jpg")

# %% [markdown]
# ## The error: NME, and half a pixel
#
# A distance in pixels means little: three pixels are much on a small face and nothing on a large one. Therefore the
# distance of each point from its label is divided by the distance of the outer eye corners of the same face. The mean
# over all points is the **normalised mean error** (NME), in per cent.
#
# Suppose that one program calls the centre of the top left pixel `(0.5, 0.5)` and another one calls it `(0, 0)`. Each
# is correct alone, but together they are off by half a pixel in x and y. The next cell measures how much that is in
# crops of 112x112 pixels, a usual input size of small networks.

# %%
crops, relative, matrices = evaluation_crops(faces, CropRule((112, 112), 1.35), channels=1)
in_crop = apply_matrix(matrices, faces.keypoints)
half_a_pixel = nme_per_face(in_crop, in_crop + 0.5, faces.visible, faces.schema)
three_pixels = nme_per_face(in_crop, in_crop + np.array([3.0, 0.0]), faces.visible, faces.schema)

print(f"every point half a pixel off in x and y: NME {100 * half_a_pixel.mean():.2f} %")
print(f"every point three pixels off in x:       NME {100 * three_pixels.mean():.2f} %")

# %% [markdown]
# The error of a good model is a few per cent (notebook 3 measures one), so half a pixel is a large part of it, and
# training does not remove it. kpdetect uses one rule everywhere: **the centre of a pixel is an integer**. A point
# relative to its crop is then `(x + 0.5) / width`, and its mirror image is at `width - 1 - x`.

# %%
print("crops     ", crops.shape, crops.dtype, f"from {crops.min()} to {crops.max()}: models take raw pixels")
print("relative  ", relative.shape, relative.dtype, f"from {relative.min():.2f} to {relative.max():.2f}")
print("the rule  ", np.allclose(relative, (in_crop + 0.5) / 112, atol=1e-6))

# %% [markdown]
# ## Mirrored pictures exchange left and right
#
# Mirroring doubles the data. But look at point 36, the outer corner of the *right* eye. In the mirrored picture it is
# on the other side, at an eye that looks like a *left* one. If points are moved but keep their numbers, point 36 is
# sometimes on the left and sometimes on the right, and a network learns the mean of both. Therefore points are moved
# **and** renumbered, with the `flip_permutation` of the scheme.

# %%
mirrored = pictures[:1, :, ::-1]
moved = apply_matrix(horizontal_flip(pictures.shape[2]), points[:1])
swapped = moved[:, list(faces.schema.flip_permutation)]

wrong = nme_per_face(swapped, moved, two.visible[:1], faces.schema)[0]
print(f"error of the labels without the exchange: NME {100 * wrong:.0f} %")

titles = ["moved only: 36 is at a left eye (wrong)", "moved and exchanged: 36 is at a right eye"]
visualization.keypoint_sheet(
    np.repeat(mirrored, 2, axis=0), np.concatenate([moved, swapped]), faces.schema, titles, "out/flip.jpg"
)
Image("out/flip.jpg")

# %% [markdown]
# ## Transforms
#
# A recipe names the transforms of a training. `naimish` has those of the PyTorch notebook: `Rescale(250)` (the shorter
# side), `RandomCrop(224)`, and a flip. The same matrix moves picture and points. The colours stand for left and right;
# they are exchanged in mirrored pictures.

# %%
rows = transform_rows(select_evenly(faces, 3), choose_recipe(TrainOptions(recipe="naimish")), seed=1)
visualization.transform_sheet(rows, faces.schema, "recipe naimish", "out/naimish.jpg")
Image("out/naimish.jpg")

# %% [markdown]
# The recipe `compact-112` crops to the face first and then varies it much more: faces in photographs are turned,
# dark, blurred and partly hidden. Each row shows one transform alone, and the last row all of them, as the network
# receives them.

# %%
rows = transform_rows(two, choose_recipe(TrainOptions(recipe="compact-112")), seed=1)
visualization.transform_sheet(rows, faces.schema, "recipe compact-112", "out/compact.jpg")
Image("out/compact.jpg", width=560)

# %% [markdown]
# ## Split by person, not by picture
#
# A validation error should measure how well a model works on people who are not in the training data. YouTube Faces are
# frames of videos, and two frames of one video are nearly the same picture. In the published split, test frames are
# neighbours of training frames: the same people in the same videos. A model that only remembers faces has a low error
# there. This is a **leak**, and errors measured on that split are too low.
#
# `split_by_subject` keeps all pictures of a person on one side.

# %%
train, val, _ = split_by_subject(faces, val_fraction=0.1)
print(f"train {len(train)} faces, validation {len(val)} faces")
print("people in both:", len(np.intersect1d(train.subjects, val.subjects)))

if SPEC.startswith("youtube-faces:"):
    published = load(SPEC.replace("youtube-faces:", "youtube-faces-published-test:"))
    known = np.isin(published.subjects, faces.subjects).mean()
    print(f"published test: {100 * known:.0f} % of {len(published)} faces are of people in the training list")
else:
    print("(each drawn face is a person of its own, so every split works; real faces need this one)")

# %% [markdown]
# On the command line, `kpdetect show keypoints`, `kpdetect show scheme` and `kpdetect show transforms` draw these
# pictures for any data. Next: [2, define and train](2_define_and_train.ipynb).
