"""`LeanModel`: a functional model that computes only the tokens which its outputs depend on."""

import collections
import functools
import math
from collections.abc import Mapping
from typing import Any

import keras

from keras_vit import _compat
from keras_vit.layers import ClassAndDistillation, ClassToken
from keras_vit.layers.hooks import reading


@keras.saving.register_keras_serializable(package="keras_vit")
class LeanModel(keras.Model):
    """A functional `keras.Model` that computes only the tokens which its outputs depend on.

    Where the head reads the class token alone, the last transformer block attends from that token alone, to all tokens:
    its queries, its MLP and the last norm are computed for one token. The outputs are the same. The tensors of the
    graph keep the shapes that their layers declare, so that a model up to one of them has all of its tokens, and hooks
    (`keras_vit.models.hooks`) receive all tokens, too.

    Args:
        inputs, outputs, name: as in `keras.Model`.

    Example:
        ```python
        from keras_vit.models.lean import LeanModel

        tokens = keras.Input((5, 8))
        x = keras_vit.layers.TransformerBlock(num_heads=2, mlp_dim=32)(tokens)
        model = LeanModel(tokens, keras_vit.layers.ClassToken()(x))
        plain = keras.Model(model.input, model.output)
        costs = [keras_vit.evaluation.cost(one).multiply_accumulates for one in (model, plain)]
        assert costs[0] < 0.5 * costs[1]
        ```
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        with reading(self._tokens_read):
            return super().call(inputs, training=training, mask=mask, **kwargs)

    @functools.cached_property
    def _tokens_read(self) -> Mapping[int, int]:
        """How many of the first tokens each layer passes on: {id of the layer: tokens}, without those that pass all."""
        nodes = _compat.graph_nodes(self)
        read: dict[int, float] = {id(tensor): math.inf for tensor in self.outputs}
        for node in reversed(nodes):
            tokens = _read_by(node.operation, max(read.get(id(tensor), 0) for tensor in node.outputs))
            for tensor in node.input_tensors:
                read[id(tensor)] = max(read.get(id(tensor), 0), tokens)
        runs: collections.Counter[int] = collections.Counter()
        result: dict[int, int] = {}
        for node in nodes:
            layers = [node.operation, *_inside(node.operation)]
            runs.update(id(layer) for layer in layers)
            tokens = min(read.get(id(tensor), math.inf) for tensor in (*node.input_tensors, *node.outputs))
            result.update((id(layer), int(tokens)) for layer in layers if tokens < math.inf)
        return result if all(runs[layer] == 1 for layer in result) else {}  # one that runs elsewhere may pass all there


def _read_by(layer: Any, of_outputs: float) -> float:
    """Returns how many of the first tokens of its input a layer reads, if so many of its output are read."""
    if isinstance(layer, keras.layers.LayerNormalization) and layer.axis in (-1, [-1], [2]):
        return of_outputs
    return {ClassToken: 1, ClassAndDistillation: 2}.get(type(layer), math.inf)


def _inside(operation: Any) -> list[keras.layers.Layer]:
    return _compat.layers_inside(operation) if isinstance(operation, keras.layers.Layer) else []
