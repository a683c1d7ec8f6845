"""The cost of a network: trainable parameters and multiply-accumulates."""

import math

import keras


def count_parameters(model: keras.Model) -> int:
    """Number of trainable parameters, without the running statistics of batch normalisation (as in PyTorch).

    >>> count_parameters(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
    8
    """
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulates of the convolutions and dense layers for one crop. Other operations are not counted.

    >>> count_macs(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
    6
    """
    return sum(_layer_macs(layer) for layer in model.layers)


def _layer_macs(layer: keras.layers.Layer) -> int:
    """The size of the kernel times the number of output positions."""
    counted = keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense
    if not isinstance(layer, counted):
        return 0
    positions = layer.output.shape[1:-1]
    return int(math.prod(positions) * math.prod(layer.kernel.shape))
