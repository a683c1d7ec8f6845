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
# In this notebook:
#
# - a trained model as SavedModel, TFLite and ONNX, each compared with Keras,
# - the description that is part of every model file,
# - the TFLite file with its interpreter only, in a few lines that an app could have,
# - prediction without TensorFlow, and the speed of the files.
#
# The model is trained on faces that kpdetect draws, or on real ones if the environment variable `KPDETECT_DATA` is set
# to the folder that contains `youtube_faces/`; the line `SPEC` reads it.

# %%
import logging
import math
import os
import subprocess
import sys
import timeit

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from IPython.display import Image

from kpdetect import visualization
from kpdetect.core.geometry import to_pixels
from kpdetect.core.log import show_messages
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
show_messages()  # of the training

# %% [markdown]
# ## A model to export
#
# This notebook is about files and not about errors, so it trains a small network for a few epochs; [notebook
# 2](2_define_and_train.ipynb) trains a better one.

# %%
options = TrainOptions(
    recipe="compact-112",
    data=SPEC,
    epochs=6,
    batch_size=16,
    out="runs/notebook-6",
    overwrite=True,  # so that this notebook can be run again
    deterministic=True,  # the same numbers in every run
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
# A conversion can fail without a message: another padding, another order of channels, a missing constant. Therefore
# each file is loaded in its own runtime, and its points are compared with those of Keras on pictures of many kinds. The
# largest difference, in pixels of the crop, is recorded. If it is above a tolerance, nothing is written.

# %%
logging.getLogger("tensorflow").setLevel(logging.WARNING)  # without messages about temporary folders
exported = export_model(run, "runs/notebook-6-exported", overwrite=True, name="compact")
for name, record in exported.files.items():
    if record["max_difference_px"] is not None:
        print(f"{name:26} {record['bytes'] / 1e6:5.2f} MB   largest difference {record['max_difference_px']:.1e} px")

# %% [markdown]
# ## The description in a file
#
# In the PyTorch notebook, the constants 224, 100 and 50 are in the code around the network, and the weights give wrong
# points without them. Here, every file contains a description, `spec.json`: size and colour of the input, the crop
# rule, the meaning of the output, and the names of the points. A TFLite file contains it as an appended zip archive, an
# ONNX file in its metadata.

# %%
TFLITE = "runs/notebook-6-exported/compact.tflite"
spec = read_spec(TFLITE)
print("input  ", spec.input_shape, "raw pixels 0-255")
print("crop   ", spec.crop)
print("output ", spec.num_keypoints, "points, relative to the crop:", ", ".join(spec.schema.point_names[:3]), "…")

# %% [markdown]
# ## The interpreter only
#
# This is all that an app does, on a phone for example: pixels in, points out, without kpdetect or TensorFlow. The input
# is called `image` and the output `keypoints` in every format; `compact` also has the output `uncertainty`, the
# expected error of each point. The relative coordinate `r` is the pixel `r * width - 0.5`, because pixel centres are
# integers.

# %%
faces = select_evenly(split_by_rule(load(SPEC), spec.extra["split"])[1], 4)  # validation faces
crops, relative, _ = evaluation_crops(faces, spec.crop, spec.channels)

app = Interpreter(model_path=TFLITE).get_signature_runner()
outputs = app(image=crops.astype(np.float32))
points = outputs["keypoints"] * 64 - 0.5
print("points", points.shape, "in pixels of the crops; expected error", (outputs["uncertainty"] * 64).mean().round(1))

# %%
truth = to_pixels(relative, spec.crop.size_hw)
errors = nme_per_face(truth, points, faces.visible, faces.schema)
visualization.prediction_sheet(
    crops, truth, points, errors, "out/exported.jpg", "compact.tflite, with its interpreter only", faces.schema
)
Image("out/exported.jpg", width=880)

# %% [markdown]
# (The numbers above the crops are the NME: the mean distance of the points from their labels, relative to the distance
# of the outer eye corners.)
#
# ## Every file as a function
#
# `runtime.load` runs every format in the same way and reads the description. `kpdetect benchmark` measures times
# exactly; here is the next power of two.

# %%
network, _ = load_bundle(run)
by_keras = np.asarray(network(crops.astype(np.float32), training=False)["keypoints"])
for name in ("compact.tflite", "compact.onnx", "saved_model"):
    model = runtime.load(f"runs/notebook-6-exported/{name}")
    difference = np.abs(model(crops) - by_keras).max() * 64
    milliseconds = 1000 * min(timeit.repeat("model(crops[:1])", globals=globals(), number=20, repeat=3)) / 20
    bound = 2 ** math.ceil(math.log2(milliseconds))
    print(f"{name:15} differs from Keras by {difference:.1e} px;  under {bound} ms per face")

# %% [markdown]
# ## Without TensorFlow
#
# TensorFlow is large and slow to start, and prediction does not need it: `pip install .` without `[train]` installs
# NumPy, OpenCV and a small interpreter. The next cell starts a new Python process, predicts a face with the exported
# file, and prints whether TensorFlow or Keras was loaded.

# %%
program = f"""
import sys
import numpy as np
from kpdetect import Predictor

face = Predictor("{TFLITE}")(np.zeros((200, 200, 3), np.uint8), boxes=[(50, 50, 150, 150)])[0]
print("points", face.keypoints.shape)
print("loaded: TensorFlow", "tensorflow" in sys.modules, " Keras", "keras" in sys.modules)
"""
print(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# On the command line:
#
# ```
# kpdetect export runs/mine --out exported
# kpdetect predict photo.jpg --model exported/compact.tflite --draw faces.jpg
# ```
