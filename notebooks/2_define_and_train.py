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
# # 2. Define and train
#
# What you will see, in this order:
#
# - a network that you may know from PyTorch, as a Keras model,
# - a small network learning 68 points within half a minute, and its learning curves,
# - why the validation loss can lie *below* the training loss,
# - predictions beside the truth, and which points are hard,
# - what the first layer learned, and a photograph as that layer sees it.
#
# The faces are drawn by kpdetect. With the environment variable `KPDETECT_DATA` set to the folder that holds
# `youtube_faces/`, the same cells train on real ones; the line `SPEC` decides.

# %%
import os
from pprint import pprint

import numpy as np
from IPython.display import Image
from skimage.data import astronaut

from kpdetect import models, visualization
from kpdetect.core.images import write_image
from kpdetect.data import load, split_by_rule
from kpdetect.data.labelled_faces import mean_layout, read_history, select_evenly
from kpdetect.evaluation.evaluator import evaluate
from kpdetect.evaluation.predictions import predictions_of
from kpdetect.inference.model_input import face_of_image
from kpdetect.modelfile import runtime
from kpdetect.modelfile.bundle import load_bundle
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training import train
from kpdetect.visualization.first_layer import feature_maps_of, first_convolution

SPEC = f"youtube-faces:{os.environ['KPDETECT_DATA']}/youtube_faces" if os.getenv("KPDETECT_DATA") else "synthetic:400"

# %% [markdown]
# ## Define
#
# An architecture is a function from the number of points and the input's shape to a Keras model. This one is NaimishNet
# as the PyTorch notebook writes it: five convolutions, each with a pool, then three dense layers. Most of its
# parameters stand in the first dense layer, right after `flatten`.
#
# Two things differ from the notebook, on purpose. The model takes **raw pixels** from 0 to 255: its first layer scales
# them. And it gives **points relative to the crop**, 0 to 1: its last layer undoes the notebook's `(x - 100) / 50`. So
# nobody who uses the model need remember a constant.

# %%
naimish = models.build("naimish", num_keypoints=68, input_shape=(224, 224, 1))
naimish.summary(line_length=88)

# %% [markdown]
# ## A recipe
#
# A recipe is everything that makes a training what it is, but for the data: network, crop, transforms, loss, optimizer.
# `--recipe naimish` trains the network above as the notebook does, but two cores need a good while for it. Here we take
# the recipe `compact` and make it smaller: half the crop's side, narrower layers, less augmentation. What differs from
# the recipe is all in these options.
#
# `compact` has no dense layers. It draws a heat map for each point and takes its centre of mass (*soft-argmax*), which
# needs far fewer parameters and learns faster. Its loss is the Wing loss, which cares more about small errors
# than MSE does.

# %%
options = TrainOptions(
    recipe="compact",
    data=SPEC,
    epochs=12,
    batch_size=16,
    out="runs/notebook-2",
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
pprint(choose_recipe(options))

# %% [markdown]
# ## Train
#
# `train` reads the data, keeps a tenth of the people for validation, fits, goes back to the epoch that was best on
# validation, measures, and leaves a run folder. The last lines tell the NME on people that the model has not seen. NME
# is the mean distance of the points from their labels over the distance of the outer eye corners ([notebook
# 1](1_load_and_look_at_the_data.ipynb)).
#
# Compare it with *the mean face*: that is the error of a model which ignores the picture and always answers with the
# average face. Whatever does not beat it has learned nothing.

# %%
run = train(options)

# %%
history = read_history(str(run))
visualization.learning_curves(history, "out/curves.png")
Image("out/curves.png")

# %% [markdown]
# ## Why validation can lie below training
#
# Usually a model does better on what it was trained on. Then how can the validation loss be the lower one? The two
# lines do not measure the same thing:
#
# - The **training** loss is measured on *augmented* pictures (turned, shifted, darkened), which are harder, and in
#   networks with dropout with a part of the network switched off. And it is the mean over an epoch in which the
#   model was still getting better.
# - The **validation** loss is measured on plain pictures, with the whole network, after the epoch.
#
# In the PyTorch notebooks, dropout is one reason. The other is that the published test frames are neighbours of the
# training frames: that division leaks (notebook 1), so validation is hardly harder than training.
#
# To compare like with like, measure both parts the same way: plain pictures, after training. Then see which is the
# lower.

# %%
model = runtime.load(run)
faces = load(SPEC)
seen, unseen, _ = split_by_rule(faces, model.spec.extra["split"])  # the model remembers whom it was not trained on
for name, part in (("trained on", select_evenly(seen, 100)), ("held out", unseen)):
    measured = evaluate(model, part, model.spec)
    print(f"{name:10} {len(part):5} faces: NME {100 * measured.plain.mean:.2f} %")
print(f"last epoch: training loss {history['loss'][-1]:.2f}, validation loss {history['val_loss'][-1]:.2f}")

# %% [markdown]
# ## Predictions beside the truth
#
# A mean error hides what goes wrong. Look at faces that the model has not seen:

# %%
made = predictions_of(str(run), faces, "val", count=10)
visualization.prediction_sheet(
    made.crops, made.true_px, made.predicted_px, made.per_face, "out/predictions.jpg", made.caption
)
Image("out/predictions.jpg")

# %% [markdown]
# And which points are hard? Mostly those on an edge that runs on and on, such as the jaw: the edge says where the
# point lies across it, but little about where along it.

# %%
whole = predictions_of(str(run), faces, "val")
visualization.point_errors(mean_layout(whole.faces), whole.per_point, faces.schema, whole.caption, "out/errors.jpg")
Image("out/errors.jpg", width=720)

# %% [markdown]
# ## Look inside
#
# The kernels of the first layer are small pictures themselves. Those that are red on one side and blue on the other
# answer to edges. After so short a training many still look like the noise that they began as.

# %%
network, spec = load_bundle(run)
kernels = np.asarray(first_convolution(network).kernel)
visualization.kernel_sheet(kernels, "first layer", "out/kernels.png")
Image("out/kernels.png")

# %% [markdown]
# A photograph, filtered by these kernels: its *feature maps*. The face in it is found as
# [notebook 3](3_any_photograph.ipynb) tells. (The photograph is NASA's of Eileen Collins, in the public domain;
# scikit-image ships it.)

# %%
write_image("out/astronaut.png", astronaut())
crop = face_of_image("out/astronaut.png", spec, face=0)
visualization.feature_maps(crop, kernels, feature_maps_of(network, crop), "first layer", "out/maps.jpg")
Image("out/maps.jpg", width=800)

# %% [markdown]
# ## The same from the command line
#
# ```
# kpdetect train --recipe compact --data SPEC --out runs/mine
# kpdetect show predictions --model runs/mine --data SPEC
# kpdetect tune --data SPEC --grid learning_rate=1e-3,3e-4 batch_size=16,64     # tries settings
# ```
#
# Next: [3, any photograph](3_any_photograph.ipynb).
