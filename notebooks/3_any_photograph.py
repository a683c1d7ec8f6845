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
# What you will see, in this order:
#
# - a photograph with two faces, and the boxes that the face finder draws around them,
# - each step from a box to points in the photograph's own pixels, and all of them in one call,
# - parts of the face by name, boxes of your own, and a photograph without a face,
# - how well the model that ships does on labelled faces, and what the detector costs.
#
# Write the name of your own file into the line `PHOTO` to see it marked. The labelled faces at the end are drawn by
# kpdetect, or real ones where the environment variable `KPDETECT_DATA` names the folder that holds `youtube_faces/`;
# the line `SPEC` decides.

# %%
import os
import sys

import numpy as np
from IPython.display import Image
from skimage.data import astronaut

from kpdetect import visualization
from kpdetect.core.geometry import apply_matrix, invert, scaling, to_pixels, translation
from kpdetect.core.images import read_image, to_channels, warp_crop, write_image
from kpdetect.data import load
from kpdetect.data.labelled_faces import select_evenly
from kpdetect.detection import Face, FaceFinder
from kpdetect.evaluation import evaluator
from kpdetect.evaluation.end_to_end import evaluate_end_to_end
from kpdetect.predict import Predictor

SPEC = f"youtube-faces:{os.environ['KPDETECT_DATA']}/youtube_faces" if os.getenv("KPDETECT_DATA") else "synthetic:60"
PHOTO = "out/photo.png"  # write the name of your own photograph here

# %% [markdown]
# The photograph is NASA's of Eileen Collins, in the public domain; scikit-image ships it. To have two faces, her mirror
# image, a little smaller, stands beside her.

# %%
small = warp_crop(astronaut()[:, ::-1], scaling(400 / 512), (400, 400))
write_image("out/photo.png", np.concatenate([astronaut()[:400], small], axis=1))

photograph = read_image(PHOTO)
print(photograph.shape, photograph.dtype)

# %% [markdown]
# ## Step by step: find the faces
#
# The PyTorch notebook takes one Haar cascade and pads its squares by hand. A cascade's square is not the box that a
# model is trained with, which is the smallest box around the points, from brow to chin and from ear to ear.
# `FaceFinder` is a small network that was trained to tell that box itself. It looks at the photograph in several sizes,
# so that it sees small and large faces alike, and makes one box of those that show the same face. (`HaarDetector` asks
# several cascades, and moves and scales their squares; it is slower and finds fewer.)

# %%
predictor = Predictor()  # the model that ships with kpdetect; this loads no TensorFlow
spec = predictor.model.spec

boxes = FaceFinder()(photograph)
print(boxes.round(1))

# %% [markdown]
# ## From a box to what the model sees
#
# The crop rule says how a box becomes a crop: a square around its middle, somewhat larger, so that there is room when
# the box is a little off. It is the same rule in training and here, and it is written in the model's file. Crops are
# shrunk with antialiasing, as they were in training. There is nothing to normalise: the model takes raw pixels.

# %%
print(spec.crop)
to_crop = spec.crop.matrix(boxes)  # a 3x3 matrix a face, photograph to crop
crops = np.stack([warp_crop(to_channels(photograph, spec.channels), matrix, spec.crop.size_hw) for matrix in to_crop])
print("crops", crops.shape, crops.dtype)
write_image("out/crops.png", np.concatenate(list(crops), axis=1))
Image("out/crops.png")

# %% [markdown]
# ## From the model's answer back to the photograph
#
# All faces go through the model as one batch. It answers relative to each crop, 0 to 1. Two steps lead back: to the
# crop's pixels, and by the inverse of the matrix to the photograph's. Half a pixel counts here, too: the middle of a
# pixel is the whole number, so relative `r` stands at `r * width - 0.5`. Forget the half, and on a face that is larger
# in the photograph than in the crop every point is off by more than half a pixel.

# %%
relative = predictor.model(crops)
keypoints = apply_matrix(invert(to_crop), to_pixels(relative, spec.crop.size_hw))
found = [Face(points, spec.schema, detection_box=box) for points, box in zip(keypoints, boxes, strict=True)]
print("points", keypoints.shape, "in pixels of the photograph")

write_image("out/marked.jpg", visualization.draw_faces(photograph, found))
Image("out/marked.jpg", width=720)

# %% [markdown]
# ## All of that in one call
#
# With boxes of your own there is one look, as above. Faces that the detector finds get a second one, in a crop about
# their first points, turned upright, for a detector's box is often a little off.

# %%
again = predictor(PHOTO, boxes)  # a file or an RGB array
print("the same points as above:", np.allclose([face.keypoints for face in again], keypoints, atol=1e-3))

found = predictor(PHOTO)
for face in found:
    print("box", face.box.round(1), " nose tip", face.point("nose_tip").round(1), " left eye", face["left_eye"].shape)
    print("  a face:", round(face.score, 3), " points are expected to be off by", face.uncertainty.mean().round(1))

# %% [markdown]
# The score says whether this is a face at all; what scores below 0.5 is left out. The model tells of each point how far
# off it expects it to be, in pixels.
#
# Faces come biggest first. `face["left_eye"]` is a part of the face, `face.point("nose_tip")` a single point; left is
# the person's own. Here is the first face, four times as large, so that the points can be judged:

# %%
corner, opposite = found[0].box[:2] - 40, found[0].box[2:] + 40
closer = scaling(4) @ translation(*-corner)
width, height = np.rint(4 * (opposite - corner)).astype(int)
enlarged = Face(apply_matrix(closer, found[0].keypoints), spec.schema)
write_image("out/closer.jpg", visualization.draw_faces(warp_crop(photograph, closer, (height, width)), [enlarged]))
Image("out/closer.jpg", width=480)

# %% [markdown]
# ## Your own boxes, and no face at all
#
# A caller who knows where the faces are gives the boxes, and no detector runs. A photograph without a face gives an
# empty list; that is no error.

# %%
by_hand = predictor(photograph, boxes=[(175, 85, 275, 180)])
print("moved by", np.abs(by_hand[0].keypoints - found[0].keypoints).mean().round(2), "pixels on average")
print("no face:", predictor(astronaut()[300:]))

# %% [markdown]
# ## How good is it?
#
# On labelled faces it can be measured: the **NME** is the mean distance of the points from their labels over the
# distance of the outer eye corners. Three figures, since each hides something:
#
# - *plain*, on the pictures as they are,
# - *mirrored*, on their mirror images: a model without a fault on one side has nearly the same error,
# - *centred*, with the set's mean shift taken out: the labels of some sets stand a little to one side of what one sees,
#   which no model that is trained with mirrored pictures can learn.
#
# The model was trained on photographs, and drawn faces are strange to it. Of the real faces that `KPDETECT_DATA` brings
# it was trained on most, so the figures then say how well it remembers.

# %%
faces = select_evenly(load(SPEC), 60)
measured = evaluator.evaluate(predictor.model, faces, spec)
print(f"{faces.name}, {len(faces)} faces, the labels' own boxes:")
print(f"  plain    {100 * measured.plain.mean:.2f} %")
print(f"  mirrored {100 * measured.mirrored:.2f} %")
print(f"  centred  {100 * measured.centred:.2f} %")

# %% [markdown]
# Those were the labels' boxes. In a photograph there are no labels, so what counts is all of prediction: the detector's
# boxes, the score, the second look, and the faces that are missed. Boxes of a detector are off by some per cent, and a
# model must stand that: the curve shows the error as the boxes are moved and scaled on purpose.

# %%
found, _ = evaluate_end_to_end(predictor, faces, spec)
print(f"{found.missed} of {len(faces)} faces were missed; on the others, plain {100 * found.errors.mean():.2f} %")

visualization.box_jitter_curve(evaluator.box_jitter_curve(predictor.model, faces, spec), "out/jitter.png")
Image("out/jitter.png", width=520)

# %% [markdown]
# All of this notebook ran without TensorFlow:

# %%
print("TensorFlow is loaded:", "tensorflow" in sys.modules)

# %% [markdown]
# From the command line:
#
# ```
# kpdetect predict photo.jpg --draw marked.jpg --json points.json
# kpdetect evaluate MODEL --data SPEC --boxes finder
# ```
#
# Next: [5, IMM: nose tip, then the full face](5_imm_nose_tip_and_full_face.ipynb).
