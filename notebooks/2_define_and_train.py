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
# In this notebook:
#
# - a network from the PyTorch notebook, as a Keras model,
# - a small network that learns 68 points within half a minute, and its learning curves,
# - why the validation loss can be *below* the training loss,
# - predictions beside labels, and which points are difficult,
# - what the first layer has learned, and its feature maps of a photograph.
#
# The faces are drawn by kpdetect. If the environment variable `KPDETECT_DATA` is set to the folder that contains
# `youtube_faces/`, the same cells train on real ones; the line `SPEC` reads it.

# %%
import os
from pprint import pprint

import numpy as np
from IPython.display import Image
from skimage.data import astronaut

from kpdetect import models, visualization
from kpdetect.core.images import write_image
from kpdetect.core.log import show_messages
from kpdetect.data import load, split_by_rule
from kpdetect.data.labelled_faces import mean_layout, read_history, select_evenly
from kpdetect.evaluation.evaluator import evaluate
from kpdetect.evaluation.predictions import predictions_of
from kpdetect.inference.model_input import face_of_image
from kpdetect.modelfile import runtime
from kpdetect.modelfile.bundle import load_bundle
from kpdetect.recipes import TrainOptions, choose_recipe
from kpdetect.training import train

SPEC = f"youtube-faces:{os.environ['KPDETECT_DATA']}/youtube_faces" if os.getenv("KPDETECT_DATA") else "synthetic:400"
show_messages()  # of the training

# %% [markdown]
# ## Define
#
# An architecture is a function that takes the number of points and the input shape and returns a Keras model. This one
# is NaimishNet as in the PyTorch notebook: five convolutions, each with a pooling layer, then three dense layers. Most
# parameters are in the first dense layer, after `flatten`.
#
# Two things differ from the notebook. The model takes **raw pixels** from 0 to 255, and its first layer scales them. It
# returns **points relative to the crop**, from 0 to 1, and its last layer inverts the notebook's `(x - 100) / 50`. So
# users of the model need no constants.

# %%
naimish = models.build("naimish", num_keypoints=68, input_shape=(224, 224, 1))
naimish.summary(line_length=88)

# %% [markdown]
# ## A recipe
#
# A recipe describes a training except for the data: network, crop, transforms, loss and optimizer. `--recipe naimish`
# trains the network above as the notebook does, which takes long on two cores. Here we use the recipe `compact-112` and
# make it smaller: smaller crops, narrower layers, less augmentation. These options are the only differences from the
# recipe.
#
# `compact-112` has no dense layers. It predicts a heat map for each point and takes its centre of mass (*soft-argmax*),
# which needs far fewer parameters and learns faster. Its loss is the Wing loss, which weighs small errors more than MSE
# does.

# %%
options = TrainOptions(
    recipe="compact-112",
    data=SPEC,
    epochs=12,
    batch_size=16,
    out="runs/notebook-2",
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
pprint(choose_recipe(options))

# %% [markdown]
# ## Train
#
# `train` reads the data, holds out a tenth of the people for validation, fits the network, restores the weights of the
# best epoch, evaluates them, and writes a run folder. The last lines show the NME on people who were not in the
# training data: the mean distance of the points from their labels, relative to the distance of the outer eye corners
# ([notebook 1](1_load_and_look_at_the_data.ipynb)).
#
# Compare it with the error of *a constant prediction*, a model that ignores the picture and always predicts the mean of
# all faces. A model that is not better has learned nothing.

# %%
run = train(options)

# %%
history = read_history(str(run))
visualization.learning_curves(history, "out/curves.png")
Image("out/curves.png")

# %% [markdown]
# ## Why validation can be below training
#
# Usually, the error on training data is lower. How can the validation loss be the lower one? The two curves measure
# different things:
#
# - The **training** loss is measured on *augmented* pictures (rotated, shifted, darkened), which are more difficult,
#   and in networks with dropout without a part of the network. It is the mean over an epoch in which the model still
#   improved.
# - The **validation** loss is measured on plain pictures, with the whole network, after the epoch.
#
# In the PyTorch notebooks, dropout is one reason. Another one is that the published test frames are neighbours of the
# training frames: that split leaks (notebook 1), so validation is hardly more difficult than training.
#
# For a fair comparison, measure both parts in the same way: on plain pictures, after training.

# %%
model = runtime.load(run)
faces = load(SPEC)
seen, unseen, _ = split_by_rule(faces, model.spec.extra["split"])  # the model file stores its split
for name, part in (("training", select_evenly(seen, 100)), ("validation", unseen)):
    measured = evaluate(model, part, model.spec)
    print(f"{name:10} {len(part):5} faces: NME {100 * measured.plain.mean:.2f} %")
print(f"last epoch: training loss {history['loss'][-1]:.2f}, validation loss {history['val_loss'][-1]:.2f}")

# %% [markdown]
# ## Predictions beside labels
#
# A mean error hides what goes wrong. These faces were not in the training data:

# %%
made = predictions_of(str(run), faces, "val", count=8)
visualization.prediction_sheet(
    made.crops, made.true_px, made.predicted_px, made.per_face, "out/predictions.jpg", made.caption, faces.schema
)
Image("out/predictions.jpg", width=880)

# %% [markdown]
# Which points are difficult? Mostly those on a long edge, such as the jaw: the edge shows where the point is across it,
# but not where along it.

# %%
whole = predictions_of(str(run), faces, "val")
visualization.point_errors(mean_layout(whole.faces), whole.per_point, faces.schema, whole.caption, "out/errors.jpg")
Image("out/errors.jpg", width=720)

# %% [markdown]
# ## Inside the network
#
# The kernels of the first layer are small pictures. Those that are red on one side and blue on the other respond to
# edges. After such a short training, many still look like the random numbers that they started from.

# %%
network, spec = load_bundle(run)
kernels = np.asarray(visualization.first_convolution(network).kernel)
visualization.kernel_sheet(kernels, "first layer", "out/kernels.png")
Image("out/kernels.png")

# %% [markdown]
# The *feature maps* of a photograph are its convolutions with these kernels. The face in it is found as
# [notebook 3](3_any_photograph.ipynb) describes. (The photograph shows Eileen Collins and is by NASA, in the public
# domain; it is part of scikit-image.)

# %%
write_image("out/astronaut.png", astronaut())
crop = face_of_image("out/astronaut.png", spec, face=0)
maps = visualization.feature_maps_of(network, crop)
visualization.feature_maps(crop, kernels, maps, "first layer", "out/maps.jpg")
Image("out/maps.jpg", width=800)

# %% [markdown]
# ## On the command line
#
# ```
# kpdetect train --recipe compact-112 --data SPEC --out runs/mine
# kpdetect show predictions --model runs/mine --data SPEC
# kpdetect tune --data SPEC --grid learning_rate=1e-3,3e-4 batch_size=16,64     # compares settings
# ```
#
# Next: [3, any photograph](3_any_photograph.ipynb).
