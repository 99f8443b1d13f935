"""Points inside the layers of this package where a function can read or change a value while a model runs.

A layer passes a value through `through_hooks` where it offers a point. `hooked` sets the functions of a point, only for
the thread (context) that calls it: what other threads compute with the same layer stays as it is.

A function that is traced, such as a `tf.function`, keeps the hooks it was traced with. So whoever sets hooks traces a
function of its own, as `keras_vit.models.hooks.Watch` does, and never runs the model's `predict` within them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import keras

_Functions = MappingProxyType[tuple[int, str], tuple[Callable[[Any], Any], ...]]
_FUNCTIONS: ContextVar[_Functions] = ContextVar("keras_vit_hooks", default=MappingProxyType({}))


@contextlib.contextmanager
def hooked(layers: Sequence[keras.layers.Layer], point: str, function: Callable[[Any, Any], Any]) -> Iterator[None]:
    """Passes what layers compute at a point through a function, as long as the context lasts.

    Args:
        layers: layers that offer the point.
        point: its name.
        function: of (layer, value); returns the value to go on with. Functions that were set before run first.
    """
    functions = dict(_FUNCTIONS.get())
    for layer in layers:
        functions[id(layer), point] = (*functions.get((id(layer), point), ()), _bound(function, layer))
    token = _FUNCTIONS.set(MappingProxyType(functions))
    try:
        yield
    finally:
        _FUNCTIONS.reset(token)


def through_hooks(layer: keras.layers.Layer, point: str, value: Any) -> Any:
    """Returns the value of a layer's point, as the functions that are set for it return it."""
    for function in _FUNCTIONS.get().get((id(layer), point), ()):
        value = function(value)
    return value


# {id of a layer: how many of the first tokens it passes on}, of the model that runs in this thread.
_READ: ContextVar[Mapping[int, int]] = ContextVar("keras_vit_tokens_read", default=MappingProxyType({}))


@contextlib.contextmanager
def reading(tokens: Mapping[int, int]) -> Iterator[None]:
    """Lets layers compute the first tokens alone as long as the context lasts, for a model that reads no others.

    Args:
        tokens: {id of a layer: how many tokens}, with all layers of which a hook would see that others are missing.
    """
    token = _READ.set(tokens)
    try:
        yield
    finally:
        _READ.reset(token)


def tokens_read(layer: keras.layers.Layer) -> int | None:
    """Returns how many of the first tokens of a layer's output are read; None for all, as where a hook sees them."""
    read = _READ.get()
    if id(layer) not in read or any(other in read for other, _ in _FUNCTIONS.get()):
        return None
    return read[id(layer)]


def is_hooked(layer: keras.layers.Layer, point: str) -> bool:
    """Returns whether a function is set for a layer's point."""
    return (id(layer), point) in _FUNCTIONS.get()


def _bound(function: Callable[[Any, Any], Any], layer: keras.layers.Layer) -> Callable[[Any], Any]:
    return lambda value: function(layer, value)
