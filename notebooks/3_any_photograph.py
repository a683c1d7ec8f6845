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
# # 3. The complete pipeline on any photograph
#
# In this notebook:
#
# - a photograph with two faces, and the boxes that the face finder returns,
# - each step from a box to points in pixels of the photograph, and all steps in one call,
# - groups of points by name, boxes of your own, and a photograph without a face,
# - the errors of the packaged model on labelled faces, with labelled boxes and with the detector.
#
# Write the name of your own file into the line `PHOTO` to use it. The labelled faces at the end are drawn by kpdetect,
# or real ones if the environment variable `KPDETECT_DATA` is set to the folder that contains `youtube_faces/`; the line
# `SPEC` reads it.

# %%
import os
import sys

import numpy as np
from IPython.display import Image
from skimage.data import astronaut

from kpdetect import Face, Predictor, draw_faces, visualization
from kpdetect.core.geometry import apply_matrix, invert, scaling, to_pixels, translation
from kpdetect.core.images import read_image, to_channels, warp_crop, write_image
from kpdetect.data import load
from kpdetect.data.labelled_faces import select_evenly
from kpdetect.detection import FaceFinder
from kpdetect.evaluation import evaluator
from kpdetect.evaluation.end_to_end import evaluate_end_to_end

SPEC = f"youtube-faces:{os.environ['KPDETECT_DATA']}/youtube_faces" if os.getenv("KPDETECT_DATA") else "synthetic:60"
PHOTO = "out/photo.png"  # write the name of your own photograph here

# %% [markdown]
# The photograph shows Eileen Collins and is by NASA, in the public domain; it is part of scikit-image. A smaller mirror
# image is put beside it, for a second face.

# %%
small = warp_crop(astronaut()[:, ::-1], scaling(400 / 512), (400, 400))
write_image("out/photo.png", np.concatenate([astronaut()[:400], small], axis=1))

photograph = read_image(PHOTO)
print(photograph.shape, photograph.dtype)

# %% [markdown]
# ## Step 1: detect the faces
#
# The PyTorch notebook uses one Haar cascade and enlarges its squares by hand. The square of a cascade is not the box
# that models are trained with: the smallest box around the points, from the brows to the chin and from ear to ear.
# `FaceFinder` is a small network that predicts this box. It runs on the photograph in several sizes, to find small and
# large faces, and merges boxes of the same face. (`HaarDetector` uses several cascades and converts their squares; it
# is slower and finds fewer faces.)

# %%
predictor = Predictor()  # the packaged model, which needs no TensorFlow
spec = predictor.model.spec

boxes = FaceFinder()(photograph)
print(boxes.round(1))

# %% [markdown]
# ## Step 2: crop
#
# The crop rule converts a box to a crop: a square around its centre, larger by a margin for inexact boxes. Training and
# prediction use the same rule, which is part of the model file. Crops are reduced with antialiasing, as in training.
# The model takes raw pixels, so nothing is normalised here.

# %%
print(spec.crop)
to_crop = spec.crop.matrix(boxes)  # a 3x3 matrix per face, from photograph to crop
crops = np.stack([warp_crop(to_channels(photograph, spec.channels), matrix, spec.crop.size_hw) for matrix in to_crop])
print("crops", crops.shape, crops.dtype)
write_image("out/crops.png", np.concatenate(list(crops), axis=1))
Image("out/crops.png")

# %% [markdown]
# ## Step 3: predict, and return to the photograph
#
# The model predicts all faces in one batch, relative to each crop, from 0 to 1. Two steps lead back: to pixels of the
# crop, and with the inverse matrix to pixels of the photograph. Half a pixel matters here too: pixel centres are
# integers, so the relative coordinate `r` is the pixel `r * width - 0.5`. Without the half, every point of a face that
# is larger in the photograph than in the crop is wrong by more than half a pixel.

# %%
relative = predictor.model(crops)
keypoints = apply_matrix(invert(to_crop), to_pixels(relative, spec.crop.size_hw))
found = [Face(points, spec.schema, detection_box=box) for points, box in zip(keypoints, boxes, strict=True)]
print("points", keypoints.shape, "in pixels of the photograph")

write_image("out/faces.jpg", draw_faces(photograph, found))
Image("out/faces.jpg", width=720)

# %% [markdown]
# ## All steps in one call
#
# With boxes of your own, each face is predicted once, as above. Detected faces are predicted a second time, in an
# upright crop around their first points, because detected boxes are inexact.

# %%
again = predictor(PHOTO, boxes)  # a file or an RGB array
print("the same points as above:", np.allclose([face.keypoints for face in again], keypoints, atol=1e-3))

found = predictor(PHOTO)
for face in found:
    print("box", face.box.round(1), " nose tip", face.point("nose_tip").round(1), " left eye", face["left_eye"].shape)
    print("  score", round(face.score, 3), " expected error", face.uncertainty.mean().round(1), "pixels")

# %% [markdown]
# The score is the probability that this is a face; faces below 0.5 are left out. The uncertainty is the expected error
# of each point, in pixels.
#
# The largest face comes first. `face["left_eye"]` is a group of points and `face.point("nose_tip")` a single one; left
# is the person's left. This is the first face, enlarged four times:

# %%
corner, opposite = found[0].box[:2] - 40, found[0].box[2:] + 40
closer = scaling(4) @ translation(*-corner)
width, height = np.rint(4 * (opposite - corner)).astype(int)
enlarged = Face(apply_matrix(closer, found[0].keypoints), spec.schema)
write_image("out/closer.jpg", draw_faces(warp_crop(photograph, closer, (height, width)), [enlarged]))
Image("out/closer.jpg", width=480)

# %% [markdown]
# ## Boxes of your own, and no face
#
# If you know the boxes of the faces, pass them, and no detector runs. A photograph without a face gives an empty list.

# %%
by_hand = predictor(photograph, boxes=[(175, 85, 275, 180)])
print("moved by", np.abs(by_hand[0].keypoints - found[0].keypoints).mean().round(2), "pixels on average")
print("no face:", predictor(astronaut()[300:]))

# %% [markdown]
# ## Measure the error
#
# On labelled faces, the **NME** is the mean distance of the points from their labels, relative to the distance of the
# outer eye corners. There are three of them:
#
# - *plain*: on the pictures as they are,
# - *mirrored*: on their mirror images, which should be nearly the same,
# - *centred*: without the mean shift of the set. The labels of some sets are shifted to one side, which a model that is
#   trained with mirrored pictures cannot learn.
#
# The model was trained on photographs and not on drawn faces. It was trained on most of the real faces of
# `KPDETECT_DATA`, so their errors are too low.

# %%
faces = select_evenly(load(SPEC), 60)
measured = evaluator.evaluate(predictor.model, faces, spec)
print(f"{faces.name}, {len(faces)} faces, labelled boxes:")
print(f"  plain    {100 * measured.plain.mean:.2f} %")
print(f"  mirrored {100 * measured.mirrored:.2f} %")
print(f"  centred  {100 * measured.centred:.2f} %")

# %% [markdown]
# These errors are with labelled boxes. For photographs, measure the whole prediction: the detector's boxes, the score,
# the second prediction, and missed faces. Detected boxes are inexact by a few per cent; the curve shows the error for
# boxes that are moved and scaled.

# %%
found, _ = evaluate_end_to_end(predictor, faces, spec)
print(f"detector: {found.missed} of {len(faces)} faces missed; plain {100 * found.errors.mean():.2f} % on the others")

visualization.box_jitter_curve(evaluator.box_jitter_curve(predictor.model, faces, spec), "out/jitter.png")
Image("out/jitter.png", width=520)

# %% [markdown]
# This notebook ran without TensorFlow:

# %%
print("TensorFlow is loaded:", "tensorflow" in sys.modules)

# %% [markdown]
# On the command line:
#
# ```
# kpdetect predict photo.jpg --draw faces.jpg --json points.json
# kpdetect evaluate MODEL --data SPEC --boxes finder
# ```
#
# Next: [4, fun with keypoints](4_fun_with_keypoints.ipynb).
