"""Owns what a network costs: its trainable parameters and its multiply-accumulates."""

import math

import keras


def count_parameters(model: keras.Model) -> int:
    """Trainable parameters, as PyTorch counts them: without batch normalisation's running statistics."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulates of convolutions and dense layers for one crop; everything else is small beside them."""
    return sum(_layer_macs(layer) for layer in model.layers)


def _layer_macs(layer: keras.layers.Layer) -> int:
    """A kernel is applied once per output position; a dense layer has one, or one per row of its input."""
    counted = keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense
    if not isinstance(layer, counted):
        return 0
    positions = layer.output.shape[1:-1]
    return int(math.prod(positions) * math.prod(layer.kernel.shape))
