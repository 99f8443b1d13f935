"""Looks into a model while it runs: finds its layers, and reads or changes what they compute.

The model needs no extra output and no flag, and may hold our layers at any depth. Hooks apply only to the thread that
sets them: two threads can look into the same model at once.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit import _compat
from keras_vit.layers import (
    AttentionPooling,
    BiasAttention,
    DistilledHead,
    PatchEncoder,
    RotaryAttention,
    TransformerBlock,
)
from keras_vit.layers.composite import Composite
from keras_vit.layers.hooks import hooked

NO_HEADS = ("pre_logits", "projection")  # dense layers of ours in front of the head
WHOLE = (TransformerBlock, AttentionPooling, PatchEncoder, DistilledHead)  # layers of ours with ordinary layers inside


def layers_of(model: keras.layers.Layer, kind: type | tuple[Any, ...]) -> list[Any]:
    """Returns the layers of a class or of several, those inside other models and layers too, in order."""
    return [layer for layer in _compat.layers_inside(model) if isinstance(layer, kind)]


def outer_layers_of(model: keras.layers.Layer, kind: type | tuple[Any, ...]) -> list[Any]:
    """Returns the layers of a class or of several, without those that are parts of a layer of ours, in order."""
    parts = {id(part) for layer in layers_of(model, WHOLE) for part in _compat.layers_inside(layer)}
    return [layer for layer in layers_of(model, kind) if id(layer) not in parts]


def head_of(model: keras.layers.Layer) -> keras.layers.Dense | None:
    """Returns the last `Dense` layer that is neither inside a layer of ours nor in `NO_HEADS`; None without one."""
    heads = [layer for layer in outer_layers_of(model, keras.layers.Dense) if layer.name not in NO_HEADS]
    return heads[-1] if heads else None


@contextlib.contextmanager
def changed(
    layers: Sequence[keras.layers.Layer], point: str, change: Callable[[keras.layers.Layer, Any], Any]
) -> Iterator[None]:
    """Passes what layers read or compute through a function, in this thread and as long as the context lasts.

    Args:
        layers: the layers.
        point: "output" or, for the first input, "input" of any layer; a point that our layers offer: "probabilities" of
            an `Attention`, (batch, heads, queries, tokens); "positions" of a `RotaryAttention`, (1, tokens, ...), or a
            `BiasAttention`, (1, tokens, tokens); "embeddings" of a `PatchEncoder`, its projected patches, or
            "positions" of one, its table.
        change: function of (layer, value); returns the value to go on with.
    """

    def around(layer: keras.layers.Layer, call: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        if point == "input":
            return call(change(layer, inputs[0]), *inputs[1:], **options)
        return change(layer, call(*inputs, **options))

    of_any = {"input": list(layers), "output": [layer for layer in layers if not isinstance(layer, Composite)]}
    with around_calls(of_any.get(point, ()), around):
        with hooked(layers, point, change):  # also where no layer of ours asks for it: it says that one looks inside
            yield


@contextlib.contextmanager
def few_patches(model: keras.layers.Layer, patches: Any) -> Iterator[None]:
    """Drops patches after the patch encoder, in this thread and as long as the context lasts.

    The others keep their positions. Tokens in front of the patches, such as the class token, are all kept.

    Args:
        model: with one `PatchEncoder`, at any depth.
        patches: indices of the patches that stay, (batch, kept) integers from 0, of a known number.
    """
    (encoder,) = layers_of(model, PatchEncoder)
    extra = encoder.extra_tokens
    kept = ops.pad(ops.cast(patches, "int32") + extra, ((0, 0), (extra, 0)))
    kept = kept + np.pad(np.arange(extra, dtype="int32"), (0, patches.shape[1]))  # those in front, then the patches

    def keep(layer: PatchEncoder, tokens: Any) -> Any:
        # A matrix product, whose gradient is faster than that of a gather.
        return ops.matmul(ops.one_hot(kept, tokens.shape[1], dtype=tokens.dtype), tokens)

    def keep_positions(layer: RotaryAttention | BiasAttention, table: Any) -> Any:
        rows = ops.take(table[0], kept, axis=0)  # (batch, kept, ...)
        return rows if isinstance(layer, RotaryAttention) else ops.take_along_axis(rows, kept[:, None], axis=2)

    with changed([encoder], "output", keep):
        with changed(layers_of(model, (RotaryAttention, BiasAttention)), "positions", keep_positions):
            yield


@contextlib.contextmanager
def around_calls(layers: Sequence[keras.layers.Layer], function: Callable[..., Any]) -> Iterator[None]:
    """Runs a function in place of what layers compute, in this thread and as long as the context lasts.

    Args:
        layers: any Keras layers.
        function: of (layer, call, *inputs, **options), `call` being what the layer would compute of these. A function
            that was set before is inside.
    """
    functions = dict(_AROUND.get())
    for layer in layers:
        functions[id(layer)] = (*functions.get(id(layer), ()), functools.partial(function, layer))
    token = _AROUND.set(MappingProxyType(functions))
    _Dispatched.open(layers)
    try:
        yield
    finally:
        _Dispatched.close(layers)
        _AROUND.reset(token)


# {id of a layer: the functions around its call}, the innermost first; of this thread.
_AROUND: ContextVar[Mapping[int, tuple[Callable[..., Any], ...]]] = ContextVar(
    "keras_vit_around_calls", default=MappingProxyType({})
)


class _Dispatched:
    """Gives ordinary Keras layers a `call` that runs the functions which the running thread has set around it.

    Keras has no hook of its own. The `call` is the same for all threads, which run the layer alone unless they have set
    a function, and stays until the last thread that needs it is done.
    """

    lock = threading.Lock()
    users: dict[int, int] = {}
    before: dict[int, Any] = {}  # the layer's own `call` where the instance has one

    @classmethod
    def open(cls, layers: Sequence[keras.layers.Layer]) -> None:
        with cls.lock:
            for layer in layers:
                cls.users[id(layer)] = cls.users.get(id(layer), 0) + 1
                if cls.users[id(layer)] == 1:
                    cls.before[id(layer)] = vars(layer).get("call")
                    vars(layer)["call"] = _asking(layer, layer.call)

    @classmethod
    def close(cls, layers: Sequence[keras.layers.Layer]) -> None:
        with cls.lock:
            for layer in layers:
                cls.users[id(layer)] -= 1
                if not cls.users[id(layer)]:
                    del cls.users[id(layer)], vars(layer)["call"]
                    if (own := cls.before.pop(id(layer))) is not None:
                        vars(layer)["call"] = own


def _asking(layer: keras.layers.Layer, own: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    def call(*inputs: Any, **options: Any) -> Any:
        run = own
        for function in _AROUND.get().get(id(layer), ()):
            run = functools.partial(function, run)
        return run(*inputs, **options)

    return call


class Watch(keras.Model):
    """Runs a model and returns what its layers compute on the way: a list, in the order in which they are called.

    Use `predict` or `predict_on_batch`, as of any Keras model.

    Args:
        model: any Keras model.
        layers: the layers to watch.
        point: what to read of them, see `changed`.
        read: function of (layer, value); returns what is kept in place of the value.
    """

    def __init__(
        self,
        model: keras.Model,
        layers: Sequence[keras.layers.Layer],
        point: str = "output",
        read: Callable[[keras.layers.Layer, Any], Any] = lambda layer, value: value,
    ) -> None:
        super().__init__(name=f"{model.name}_watch")
        self.model = model

        @contextlib.contextmanager
        def keeping() -> Iterator[list[Any]]:
            kept: list[Any] = []

            def keep(layer: keras.layers.Layer, value: Any) -> Any:
                kept.append(read(layer, value))
                return value

            with changed(layers, point, keep):
                yield kept

        # Fills a list as long as the context lasts; a function, so that Keras does not take `layers` for its own.
        self.keeping = keeping

    def call(self, images: Any) -> list[Any]:
        with self.keeping() as kept:
            self.model(images, training=False)
        return kept


class Watches(keras.Model):
    """Runs a model once for several watches of it, and returns what each of them would: a list of lists.

    Args:
        watches: of the same model.
    """

    def __init__(self, watches: Sequence[Watch]) -> None:
        super().__init__(name=f"{watches[0].name}es")
        self.model, self.keeping = watches[0].model, [watch.keeping for watch in watches]

    def call(self, images: Any) -> list[list[Any]]:
        with contextlib.ExitStack() as stack:
            kept = [stack.enter_context(keeping()) for keeping in self.keeping]
            self.model(images, training=False)
        return kept
