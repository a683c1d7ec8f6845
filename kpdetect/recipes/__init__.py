"""Owns the named recipes: what a training is, but for its data. Data alone: no TensorFlow."""

from kpdetect.recipes.choose import RECIPES, TrainOptions, choose_recipe
from kpdetect.recipes.recipe import Augmentation, Optimization, Recipe, Start, Teaching

__all__ = ["RECIPES", "Augmentation", "Optimization", "Recipe", "Start", "Teaching", "TrainOptions", "choose_recipe"]
