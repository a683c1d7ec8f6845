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
# # 6. Export, and run without TensorFlow
#
# What you will see, in this order:
#
# - a trained model as SavedModel, TFLite and ONNX, each compared with Keras before it counts,
# - what a model file says of itself,
# - the TFLite file run by its bare interpreter, in a few lines that an app could have,
# - that predicting loads no TensorFlow, and how fast the files are.
#
# The model is trained on faces that kpdetect draws, or on real ones where the environment variable `KPDETECT_DATA`
# names the folder that holds `youtube_faces/`; the line `SPEC` decides.

# %%
import logging
import os
import subprocess
import sys
import timeit

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from IPython.display import Image

from kpdetect import visualization
from kpdetect.core.geometry import to_pixels
from kpdetect.data import load, split_by_rule
from kpdetect.data.crops import evaluation_crops
from kpdetect.data.labelled_faces import select_evenly
from kpdetect.evaluation.metrics import nme_per_face
from kpdetect.export import export_model
from kpdetect.modelfile import runtime
from kpdetect.modelfile.bundle import load_bundle, read_spec
from kpdetect.recipes import TrainOptions
from kpdetect.training import train

SPEC = f"youtube-faces:{os.environ['KPDETECT_DATA']}/youtube_faces" if os.getenv("KPDETECT_DATA") else "synthetic:400"

# %% [markdown]
# ## A model to export
#
# This notebook is about files and not about errors, so a small network and a few epochs must do; [notebook
# 2](2_define_and_train.ipynb) trains a better one.

# %%
options = TrainOptions(
    recipe="compact",
    data=SPEC,
    epochs=6,
    batch_size=16,
    out="runs/notebook-6",
    overwrite=True,  # so that this notebook can run again
    set=(
        "crop.size_hw=64:64",
        "architecture_options.widths=16:24:48:96",
        "augmentation.rotation_deg=6",
        "augmentation.scale=0.1",
        "augmentation.shift=0.04",
        "augmentation.noise=3",
        "augmentation.blur=0",
        "augmentation.cut_out=0",
    ),
)
run = train(options)

# %% [markdown]
# ## Export
#
# A converter can go wrong without a word: another padding, another order of the channels, a constant left behind. So
# each file is loaded in its own runtime after it was written, and its points are compared with those of Keras on
# pictures of every kind. The greatest difference, in pixels of the crop, is kept. Where it is too great, nothing is
# written at all.

# %%
logging.getLogger("tensorflow").setLevel(logging.WARNING)  # it would tell of its temporary folders
exported = export_model(run, "runs/notebook-6-exported", overwrite=True)
for name, record in exported.files.items():
    if record["max_difference_px"] is not None:
        print(f"{name:26} {record['bytes'] / 1e6:5.2f} MB   greatest difference {record['max_difference_px']:.1e} px")

# %% [markdown]
# ## What a file says of itself
#
# In the PyTorch notebook the constants 224, 100 and 50 live in the code around the network, and whoever takes the
# weights without them gets wrong points. Here every file carries a description, `spec.json`: the size and colour of the
# input, how a face box becomes the crop, what the output means, the name of each point. The TFLite carries it as a zip
# that hangs on at its end, the ONNX in its metadata.

# %%
TFLITE = "runs/notebook-6-exported/compact.tflite"
spec = read_spec(TFLITE)
print("input  ", spec.input_shape, "raw pixels 0-255")
print("crop   ", spec.crop)
print("output ", spec.num_keypoints, "points, relative to the crop:", ", ".join(spec.schema.point_names[:3]), "…")

# %% [markdown]
# ## The bare interpreter
#
# This is all that an app does, on a phone or elsewhere. No kpdetect, no TensorFlow: pixels in, points out. The input
# is called `image` and the output `keypoints`, in every format; `compact` also tells its `uncertainty`, how far off it
# expects each point to be. The way to the crops' pixels needs the half pixel: relative `r` stands at `r * width - 0.5`,
# since the middle of a pixel is the whole number.

# %%
faces = select_evenly(split_by_rule(load(SPEC), spec.extra["split"])[1], 5)  # not trained on
crops, relative, _ = evaluation_crops(faces, spec.crop, spec.channels)

app = Interpreter(model_path=TFLITE).get_signature_runner()
outputs = app(image=crops.astype(np.float32))
points = outputs["keypoints"] * 64 - 0.5
print(
    "points", points.shape, "in pixels of the crops; off by", (outputs["uncertainty"] * 64).mean().round(1), "expected"
)

# %%
truth = to_pixels(relative, spec.crop.size_hw)
errors = nme_per_face(truth, points, faces.visible, faces.schema)
visualization.prediction_sheet(
    crops, truth, points, errors, "out/exported.jpg", "compact.tflite, by its bare interpreter"
)
Image("out/exported.jpg")

# %% [markdown]
# (The percentages are the NME: the mean distance of the points from their labels over the distance of the outer eye
# corners.)
#
# ## Any file as one function
#
# `runtime.load` runs every format the same way, and reads the description for you.

# %%
network, _ = load_bundle(run)
by_keras = np.asarray(network(crops.astype(np.float32), training=False)["keypoints"])
for name in ("compact.tflite", "compact.onnx", "saved_model"):
    model = runtime.load(f"runs/notebook-6-exported/{name}")
    difference = np.abs(model(crops) - by_keras).max() * 64
    milliseconds = 1000 * min(timeit.repeat("model(crops[:1])", globals=globals(), number=20, repeat=3)) / 20
    print(f"{name:15} differs from Keras by {difference:.1e} px;  {milliseconds:.2f} ms a face, one at a time")

# %% [markdown]
# ## Without TensorFlow
#
# TensorFlow is large and slow to start. Prediction does not need it: `pip install .` without `[train]` installs NumPy,
# OpenCV and a small interpreter. To show it, a fresh Python marks a face with the file that we wrote, and then tells
# whether TensorFlow or Keras was loaded.

# %%
program = f"""
import sys
import numpy as np
from kpdetect.predict import Predictor

face = Predictor("{TFLITE}")(np.zeros((200, 200, 3), np.uint8), boxes=[(50, 50, 150, 150)])[0]
print("points", face.keypoints.shape)
print("loaded: TensorFlow", "tensorflow" in sys.modules, " Keras", "keras" in sys.modules)
"""
print(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# From the command line:
#
# ```
# kpdetect export runs/mine --out exported
# kpdetect predict photo.jpg --model exported/compact.tflite --draw marked.jpg
# ```
