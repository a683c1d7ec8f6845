"""Owns the named recipes: what a training is, but for its data. Data alone: no TensorFlow."""

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
