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
# # 4. Fun with keypoints
#
# What you will see, in this order:
#
# - sunglasses, a moustache and a hat on a face, upright and turned,
# - how a picture comes onto a face: a few of its points, a matrix, and one warp,
# - a filter of your own, drawn in six lines,
# - what the same points say of a head: where it looks, whether it smiles.
#
# Write the name of your own file into the line `PHOTO` to dress up somebody else.

# %%
import json

import cv2
import numpy as np
from IPython.display import Image
from skimage.data import astronaut

from kpdetect.core.geometry import scaling
from kpdetect.core.images import read_image, warp_crop, write_image
from kpdetect.filters import apply_filters, load_filter
from kpdetect.measures import measure
from kpdetect.predict import Predictor

PHOTO = "out/photo.png"  # write the name of your own photograph here

# %% [markdown]
# The photograph is NASA's of Eileen Collins, in the public domain; scikit-image ships it. Her head is cut out of it and
# enlarged twice.

# %%
head = np.ascontiguousarray(astronaut()[:250, 90:370])
write_image("out/photo.png", warp_crop(head, scaling(2.0), (500, 560)))

photograph = read_image(PHOTO)
predictor = Predictor()
faces = predictor(photograph)
print(len(faces), "face")

# %% [markdown]
# ## Three filters
#
# The PyTorch notebook lays sunglasses on a face by copying pixels into a rectangle, which stays level whatever the head
# does. Here each filter names points of the face, and says where in its picture they lie.

# %%
write_image("out/dressed.jpg", apply_filters(photograph, faces, ["sunglasses", "moustache", "hat"]))
Image("out/dressed.jpg", width=420)

# %% [markdown]
# Lean the photograph, and the filters lean along. Black corners have come into the picture, and the hat is cut off at
# the border, where a copied rectangle would have been an error.

# %%
height, width = photograph.shape[:2]
lean = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), 20, 1.0), [0, 0, 1]])
leaning = warp_crop(photograph, lean, (height, width))
write_image("out/leaning.jpg", apply_filters(leaning, predictor(leaning), ["sunglasses", "moustache", "hat"]))
Image("out/leaning.jpg", width=420)

# %% [markdown]
# ## How it works
#
# A filter has a picture with transparency, and anchors: points of the face, and where they lie in the picture. From the
# anchors and the points that were found follows a matrix, the best in the sense of least squares. The picture is warped
# by it, and blended by its transparency, in the part of the photograph that it covers and nowhere else.

# %%
sunglasses = load_filter("sunglasses")
print(sunglasses.matrix(faces[0].keypoints, faces[0].schema).round(2))

# %% [markdown]
# ## A filter of your own
#
# Any PNG with transparency will do. This one is a red nose: a disc on a transparent square. Its JSON file says that the
# tip of the nose lies in the middle of the disc; the outer corners of the eyes tell size and turn.

# %%
side = 200
y, x = np.mgrid[:side, :side]
distance = np.hypot(x - 99.5, y - 99.5)
shine = np.clip(1.2 - np.hypot(x - 75, y - 70) / 90, 0.55, 1.0)
red_nose = np.stack([230 * shine, 30 * shine, 40 * shine, 255 * np.clip(95 - distance, 0, 1)], axis=-1).astype(np.uint8)
cv2.imwrite("out/red_nose.png", cv2.cvtColor(red_nose, cv2.COLOR_RGBA2BGRA))

anchors = {"nose_tip": [99.5, 99.5, 4], "right_eye_outer": [-110, -90], "left_eye_outer": [309, -90]}
with open("out/red_nose.json", "w") as file:
    json.dump({"picture": "red_nose.png", "anchors": anchors}, file)

write_image("out/clown.jpg", apply_filters(photograph, faces, ["out/red_nose.json", "hat"]))
Image("out/clown.jpg", width=420)

# %% [markdown]
# A third number after a place is its weight: the nose must sit on the nose, more than the eyes at theirs.
#
# ## What else the points say
#
# Angles are in degrees: yaw positive when the nose turns to the right of the picture, pitch when the face looks down,
# roll when the head leans clockwise. The photograph that leans by 20 degrees anticlockwise says so.

# %%
for name, picture in (("upright", photograph), ("leaning", leaning)):
    print(name, json.dumps(measure(predictor(picture)[0]), indent=1))

# %% [markdown]
# From the command line:
#
# ```
# kpdetect predict photo.jpg --filter sunglasses,hat,moustache --draw dressed.jpg
# kpdetect track 0 --show --filter hat
# ```
