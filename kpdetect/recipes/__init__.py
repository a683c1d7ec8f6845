"""Named recipes: all settings of a training except its data. Imports no TensorFlow."""

from kpdetect.recipes.choose import RECIPES, TrainOptions, choose_recipe
from kpdetect.recipes.recipe import Augmentation, Distillation, Optimization, Recipe, Start

__all__ = [
    "RECIPES",
    "Augmentation",
    "Distillation",
    "Optimization",
    "Recipe",
    "Start",
    "TrainOptions",
    "choose_recipe",
]
