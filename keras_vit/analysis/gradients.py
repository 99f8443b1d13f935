"""Gradients on the TensorFlow, JAX and PyTorch backends, for which Keras has no common function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

_Function = Callable[[Sequence[Any]], tuple[Any, Any]]


def gradients(function: _Function, tensors: Sequence[Any]) -> tuple[list[Any], Any]:
    """Computes the gradients of a function with respect to a list of tensors.

    Args:
        function: of the list of tensors; returns a scalar tensor and a structure of further tensors.
        tensors: the list.

    Returns:
        A list of gradients of the same shapes, and the structure of further tensors.
    """
    return require_gradients()(function, tensors)


def require_gradients() -> Callable[[_Function, Sequence[Any]], tuple[list[Any], Any]]:
    """Returns the backend's function; raises a ValueError if Keras' backend computes no gradients."""
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise ValueError(
            f"Expected a Keras backend that computes gradients, one of {tuple(_BACKENDS)}. Received: {backend}. "
            "Set KERAS_BACKEND=tensorflow, for example."
        )
    return _BACKENDS[backend]


def _tensorflow(function: _Function, tensors: Sequence[Any]) -> tuple[list[Any], Any]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value, more = function(tensors)
    return tape.gradient(value, tensors), more


def _jax(function: _Function, tensors: Sequence[Any]) -> tuple[list[Any], Any]:
    import jax

    return jax.grad(function, has_aux=True)(tensors)


def _torch(function: _Function, tensors: Sequence[Any]) -> tuple[list[Any], Any]:
    import torch

    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        value, more = function(tensors)
    return list(torch.autograd.grad(value, tensors)), more


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
