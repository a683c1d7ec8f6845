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
# What you will see, in this order:
#
# - labelled faces with the number of each of their 68 points,
# - how a prediction is measured, and why half a pixel counts,
# - what happens to points when a picture is mirrored, and the mistake that is easy to make there,
# - what a recipe's transforms do to a picture and its points,
# - how faces are divided into training and validation, and why the published division leaks.
#
# The faces are drawn by kpdetect, so that nothing need be downloaded. To see the real ones, set the environment
# variable `KPDETECT_DATA` to the folder that holds `youtube_faces/` before you start Jupyter; the line `SPEC` decides.

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
# In the PyTorch notebook a face is a row of a CSV file: a name and 136 numbers. Here every format is read into one
# struct, `Annotations`, a row per face. Points are always `(x, y)` pairs, so 68 of them are `(68, 2)` and never 136.
# Nothing is decoded yet: `paths` says where each picture is, `read` fetches it.

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
# Look at labels before you train on them. The numbers start at 0 and run as in iBUG 300-W: jaw, brows, nose, eyes,
# mouth.

# %%
two = select_evenly(faces, 2)
pictures, points = crop_faces(two, CropRule((480, 480), 1.25))
visualization.keypoint_sheet(pictures, points, faces.schema, two.subjects.tolist(), "out/keypoints.jpg")
Image("out/keypoints.jpg")

# %% [markdown]
# The points have names, too, and this is where they lie on an average face. *Left* and *right* are the pictured
# person's own, so the left eye is on the right of the picture. The list says which two points change places in a
# mirrored picture; more on that below.

# %%
visualization.scheme_page(mean_layout(faces), faces.schema, "out/scheme.jpg")
Image("out/scheme.jpg")

# %% [markdown]
# ## How far off is far? NME, and half a pixel
#
# A distance in pixels says little: three pixels are much on a small face and nothing on a large one. So the distance of
# every point from its label is divided by the distance of the outer eye corners of the same face, and the mean over
# the points is the **normalised mean error**, NME. It is written in per cent.
#
# Now suppose that a program calls the middle of the top left pixel `(0.5, 0.5)` and another calls it `(0, 0)`. Both are
# right by themselves; together they are half a pixel off, in x and in y. The cell measures what that costs on
# crops of 112x112 pixels, the size that many small networks see.

# %%
crops, relative, matrices = evaluation_crops(faces, CropRule((112, 112), 1.35), channels=1)
in_crop = apply_matrix(matrices, faces.keypoints)
half_a_pixel = nme_per_face(in_crop, in_crop + 0.5, faces.visible, faces.schema)
three_pixels = nme_per_face(in_crop, in_crop + np.array([3.0, 0.0]), faces.visible, faces.schema)

print(f"every point half a pixel off in x and y: NME {100 * half_a_pixel.mean():.2f} %")
print(f"every point three pixels off in x:       NME {100 * three_pixels.mean():.2f} %")

# %% [markdown]
# A good model errs by a few per cent in all (notebook 3 measures one), so the half pixel is no small part of it, and
# no training takes it away. That is why kpdetect fixes one rule for all of its parts: **the middle of a pixel is the
# whole number**. A point relative to its crop is then `(x + 0.5) / width`, and its mirror image is `width - 1 - x`.

# %%
print("crops     ", crops.shape, crops.dtype, f"from {crops.min()} to {crops.max()}: a model here takes raw pixels")
print("relative  ", relative.shape, relative.dtype, f"from {relative.min():.2f} to {relative.max():.2f}")
print("the rule  ", np.allclose(relative, (in_crop + 0.5) / 112, atol=1e-6))

# %% [markdown]
# ## Mirrored pictures must swap left and right
#
# Mirroring doubles the data for free. But look at point 36, the outer corner of the person's *right* eye. In the
# mirrored picture that corner moves to the other side, where a viewer sees a *left* eye. Whoever moves the points and
# keeps their numbers teaches the network that point 36 is sometimes here and sometimes there, and it will learn the
# middle. So the points are moved **and** renumbered, by the scheme's `flip_permutation`.

# %%
mirrored = pictures[:1, :, ::-1]
moved = apply_matrix(horizontal_flip(pictures.shape[2]), points[:1])
swapped = moved[:, list(faces.schema.flip_permutation)]

wrong = nme_per_face(swapped, moved, two.visible[:1], faces.schema)[0]
print(f"the labels are wrong by NME {100 * wrong:.0f} % when the swap is forgotten")

titles = ["moved only: 36 is now on a left eye. Wrong", "moved and swapped: 36 is on a right eye again"]
visualization.keypoint_sheet(
    np.repeat(mirrored, 2, axis=0), np.concatenate([moved, swapped]), faces.schema, titles, "out/flip.jpg"
)
Image("out/flip.jpg")

# %% [markdown]
# ## What transforms do
#
# A recipe names the transforms of a training. `naimish` does what the PyTorch notebook does: `Rescale(250)` (the
# shorter side), `RandomCrop(224)`, and a flip. Picture and points are moved by one and the same matrix, so they cannot
# come apart. See that the colours, which stand for left and right, trade places in a mirrored picture.

# %%
rows = transform_rows(select_evenly(faces, 3), choose_recipe(TrainOptions(recipe="naimish")), seed=1)
visualization.transform_sheet(rows, faces.schema, "recipe naimish", "out/naimish.jpg")
Image("out/naimish.jpg")

# %% [markdown]
# The recipe `compact` crops to the face first and then varies much more: faces in the wild are turned, dark, blurred
# and partly hidden. Each row shows one transform by itself, and the last one all of them, as the network sees them.

# %%
rows = transform_rows(two, choose_recipe(TrainOptions(recipe="compact")), seed=1)
visualization.transform_sheet(rows, faces.schema, "recipe compact", "out/compact.jpg")
Image("out/compact.jpg", width=560)

# %% [markdown]
# ## Divide by person, not by picture
#
# A validation error should say how well the model does on people it has never seen. YouTube Faces are frames of
# videos: two frames of one video are nearly the same picture. In the division that the set is published with, the test
# frames are such neighbours of training frames, of the same people in the same videos. A model that merely remembers
# looks good on it. That is a **leak**, and an error measured there is too low.
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
    print("(drawn faces: each is a person of its own, so that any division would do; real ones need it)")

# %% [markdown]
# On the command line: `kpdetect show keypoints`, `kpdetect show scheme` and `kpdetect show transforms` draw these
# pictures for any data. Next: [2, define and train](2_define_and_train.ipynb).
