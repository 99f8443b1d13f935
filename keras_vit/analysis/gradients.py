"""Gradients on the backend that runs: the one thing Keras has no common words for."""

import keras


def gradients(function, tensors):
    """Returns the derivatives of a function's value by each of its tensors, and what else it returned.

    Args:
        function: of a list of tensors; returns a scalar tensor, and anything made of tensors.
        tensors: the list.

    Returns:
        A list of tensors of the same shapes, and the second thing.
    """
    return _BACKENDS[keras.backend.backend()](function, tensors)


def _tensorflow(function, tensors):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value, more = function(tensors)
    return tape.gradient(value, tensors), more


def _jax(function, tensors):
    import jax

    return jax.grad(function, has_aux=True)(tensors)


def _torch(function, tensors):
    import torch

    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        value, more = function(tensors)
    return list(torch.autograd.grad(value, tensors)), more


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
