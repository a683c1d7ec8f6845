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
# In this notebook:
#
# - sunglasses, a moustache and a hat on a face, upright and tilted,
# - how a picture is placed on a face: a few points, a matrix, and one warp,
# - a filter of your own in six lines,
# - measures of the face: head pose, open eyes and mouth, a smile.
#
# Write the name of your own file into the line `PHOTO` to use it.

# %%
import json

import cv2
import numpy as np
from IPython.display import Image
from skimage.data import astronaut

from kpdetect import Predictor, measure
from kpdetect.core.geometry import scaling
from kpdetect.core.images import read_image, warp_crop, write_image
from kpdetect.filters import apply_filters, load_filter

PHOTO = "out/photo.png"  # write the name of your own photograph here

# %% [markdown]
# The photograph shows Eileen Collins and is by NASA, in the public domain; it is part of scikit-image. The head is cut
# out and enlarged.

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
# The PyTorch notebook copies sunglasses into a rectangle, which stays horizontal whatever the pose of the head. Here,
# each filter names points of the face and their places in its picture.

# %%
write_image("out/filters.jpg", apply_filters(photograph, faces, ["sunglasses", "moustache", "hat"]))
Image("out/filters.jpg", width=420)

# %% [markdown]
# In a rotated photograph, the filters are rotated too. There is less room above the head here, so the hat is drawn
# shorter.

# %%
height, width = photograph.shape[:2]
lean = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), 20, 1.0), [0, 0, 1]])
leaning = warp_crop(photograph, lean, (height, width))
write_image("out/leaning.jpg", apply_filters(leaning, predictor(leaning), ["sunglasses", "moustache", "hat"]))
Image("out/leaning.jpg", width=420)

# %% [markdown]
# ## How it works
#
# A filter has a picture with transparency, and anchors: points of the face and their places in the picture. A least
# squares fit of the anchors to the predicted points gives a matrix. The picture is warped with it and blended into the
# part of the photograph that it covers.

# %%
sunglasses = load_filter("sunglasses")
print(sunglasses.matrix(faces[0].keypoints, faces[0].schema).round(2))

# %% [markdown]
# ## A filter of your own
#
# Any PNG file with transparency can be a filter. This one is a red nose: a disc on a transparent square. Its JSON file
# places the tip of the nose at the centre of the disc; the outer eye corners determine size and rotation.

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
# The third number of an anchor is its weight: the nose has to be exact, more than the eyes.
#
# ## Measures
#
# Angles are in degrees: yaw is positive if the nose points to the right of the picture, pitch if the face looks down,
# and roll if the head leans clockwise. The second photograph is rotated by 20 degrees anticlockwise.

# %%
for name, picture in (("upright", photograph), ("leaning", leaning)):
    print(name, json.dumps(measure(predictor(picture)[0]), indent=1))

# %% [markdown]
# On the command line:
#
# ```
# kpdetect predict photo.jpg --filter sunglasses,hat,moustache --draw filters.jpg
# kpdetect track 0 --show --filter hat
# ```
#
# Next: [5, IMM: nose tip, then the full face](5_imm_nose_tip_and_full_face.ipynb).
