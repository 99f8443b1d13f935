"""Attention maps, attention rollout, attention distance and attention entropy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_vit.analysis.geometry import grid_of, require_layers, rows_read, token_stride
from keras_vit.analysis.reading import Reading
from keras_vit.layers import AttentionPooling, PatchEncoder, TransformerBlock
from keras_vit.models.hooks import Watch, layers_of


def attention_maps(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """Computes the attention maps of each transformer block.

    Args:
        model: any Keras model that contains transformer blocks of keras_vit.
        images: (images, height, width, channels), preprocessed as the model reads them.

    Returns:
        One array per block, the first block first, (images, heads, tokens, tokens). Each row sums to 1.

    Raises:
        ValueError: if the model has no transformer block of keras_vit, or reads images of another size.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images = np.zeros((2, 32, 32, 3), "float32")
        maps = keras_vit.analysis.attention_maps(model, images)
        assert maps[0].shape == (2, 2, 17, 17)  # 16 patches and the class token
        ```
    """
    images = require_layers(model, images)
    return _of_blocks(model, lambda layer, weights: weights, list).of(images)


def class_attention(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes the attention of the class token to each patch, by block and head.

    The attention of the class token to itself is left out, so that the values of a map sum to less than 1.

    Args:
        model, images: as for `attention_maps`.

    Returns:
        (images, blocks, heads, grid rows, grid columns).

    Raises:
        ValueError: as for `attention_maps`, or if the model has no class token.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images = np.zeros((2, 32, 32, 3), "float32")
        maps = keras_vit.analysis.class_attention(model, images)
        assert maps.shape == (2, 1, 2, 4, 4)
        ```
    """
    images = require_layers(model, images)
    return class_attention_reading(model).of(images)


def class_attention_reading(model: keras.Model) -> Reading:
    """Returns the reading of `class_attention`, with the same errors."""
    encoder = layers_of(model, PatchEncoder)[0]
    if not encoder.has_class_token:
        raise ValueError(
            f"Expected a model with a class token. Received: {model.name!r} without. Use `attention_maps` for the "
            "attention of all tokens, or `attention_rollout` for what the head reads."
        )
    extra = encoder.extra_tokens
    return _of_blocks(model, lambda layer, weights: weights[:, :, 0, extra:], _on_grid(model))


def mean_attention(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes the mean attention of all patches to each patch, by block and head.

    Args:
        model, images: as for `attention_maps`.

    Returns:
        (images, blocks, heads, grid rows, grid columns).

    Raises:
        ValueError: as for `attention_maps`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images = np.zeros((2, 32, 32, 3), "float32")
        maps = keras_vit.analysis.mean_attention(model, images)
        assert maps.shape == (2, 1, 2, 4, 4)
        ```
    """
    images = require_layers(model, images)
    return mean_attention_reading(model).of(images)


def mean_attention_reading(model: keras.Model) -> Reading:
    """Returns the reading of `mean_attention`."""
    return _of_blocks(
        model, lambda layer, weights: keras.ops.mean(_between_patches(model, weights), axis=2), _on_grid(model)
    )


def patch_attention(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes the attention of each patch to each patch, the mean of the heads, by block.

    Args:
        model, images: as for `attention_maps`.

    Returns:
        (images, blocks, patches, patches).

    Raises:
        ValueError: as for `attention_maps`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images = np.zeros((2, 32, 32, 3), "float32")
        maps = keras_vit.analysis.patch_attention(model, images)
        assert maps.shape == (2, 1, 16, 16)
        ```
    """
    images = require_layers(model, images)
    return patch_attention_reading(model).of(images)


def patch_attention_reading(model: keras.Model) -> Reading:
    """Returns the reading of `patch_attention`."""
    return _of_blocks(model, lambda layer, weights: keras.ops.mean(_between_patches(model, weights), axis=1))


def attention_rollout(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes the attention rollout: how much each patch contributes to the token that the head reads.

    Args:
        model, images: as for `attention_maps`.

    Returns:
        (images, grid rows, grid columns) float32.

    Raises:
        ValueError: as for `attention_maps`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images = np.zeros((2, 32, 32, 3), "float32")
        rollout = keras_vit.analysis.attention_rollout(model, images)
        assert rollout.shape == (2, 4, 4)
        ```

    Source: arXiv:2005.00928; see `rollout`.
    """
    images = require_layers(model, images)
    return rollout_reading(model).of(images)


def rollout_reading(model: keras.Model) -> Reading:
    """Returns the reading of `attention_rollout`."""
    layers = [layer.attention for layer in layers_of(model, (TransformerBlock, AttentionPooling))]
    watch = Watch(model, layers, "probabilities", lambda layer, weights: keras.ops.mean(weights, axis=1))
    return Reading(watch, functools.partial(rollout, grid=grid_of(model), read=rows_read(model)))


def rollout(maps: Sequence[np.ndarray], grid: tuple[int, int], read: slice) -> np.ndarray:
    """Multiplies the attention maps of all blocks into the attention rollout.

    The residual path adds the identity, and each row is normalised, not the matrix as a whole. The result is the mean
    of the rows that the head reads.

    Args:
        maps: one per block, (images, tokens, tokens), the mean of its heads, the first block first; after them, for a
            model with attention pooling, (images, 1, tokens).
        grid: (rows, columns) of patches. Tokens in front of the patches are left out of the result.
        read: the tokens that the head reads.

    Returns:
        (images, grid rows, grid columns) float32.

    Source: arXiv:2005.00928; as the authors of the Vision Transformer describe it for arXiv:2010.11929, figure 6.
    """
    extra_tokens = maps[0].shape[-1] - grid[0] * grid[1]
    flow = np.eye(maps[0].shape[-1])
    for weights in maps:
        if weights.shape[1] > 1:  # attention pooling has no residual path
            weights = weights + np.eye(weights.shape[-1])
        flow = (weights / weights.sum(axis=-1, keepdims=True)) @ flow
    return flow[:, read].mean(axis=1)[:, extra_tokens:].reshape(-1, *grid).astype("float32")


def attention_distance(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes the mean attention distance of each head, in pixels.

    The distance of a patch is the mean distance to all patches, from centre to centre, weighted by its attention to
    them. The class token is left out, and the attention to the patches is scaled to a sum of 1 without it.

    Args:
        model, images: as for `attention_maps`. The paper averages over 128 images.

    Returns:
        (blocks, heads), the mean over all patches and images.

    Raises:
        ValueError: as for `attention_maps`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images = np.zeros((2, 32, 32, 3), "float32")
        distances = keras_vit.analysis.attention_distance(model, images)
        assert distances.shape == (1, 2)
        ```

    Source: arXiv:2010.11929, figure 7, right, and appendix D.7.
    """
    images = require_layers(model, images)
    return distance_reading(model).of(images).mean(axis=0)


def distance_reading(model: keras.Model) -> Reading:
    """Returns the reading of the attention distance of each image, (images, blocks, heads)."""
    rows, columns = grid_of(model)
    places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)
    distances = np.linalg.norm(places[:, None] - places, axis=-1).astype("float32") * token_stride(model)

    def read(layer: keras.layers.Layer, weights: Any) -> Any:
        weights = keras.ops.cast(_between_patches(model, weights), "float32")
        weights = weights / keras.ops.sum(weights, axis=-1, keepdims=True)
        return keras.ops.mean(keras.ops.sum(weights * distances, axis=-1), axis=-1)

    return _of_blocks(model, read)


def attention_entropy(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes the entropy of the attention of each head, in nats.

    The entropy is 0 where a token attends to one token alone, and the logarithm of the number of tokens where it
    attends to all of them equally.

    Args:
        model, images: as for `attention_maps`.

    Returns:
        (blocks, heads), the mean over all tokens and images.

    Raises:
        ValueError: as for `attention_maps`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images = np.zeros((2, 32, 32, 3), "float32")
        entropies = keras_vit.analysis.attention_entropy(model, images)
        assert (entropies <= np.log(17)).all()
        ```
    """
    images = require_layers(model, images)
    return entropy_reading(model).of(images).mean(axis=0)


def entropy_reading(model: keras.Model) -> Reading:
    """Returns the reading of the attention entropy of each image, (images, blocks, heads)."""

    def read(layer: keras.layers.Layer, weights: Any) -> Any:
        weights = keras.ops.cast(weights, "float32")
        logs = keras.ops.log(keras.ops.maximum(weights, 1e-30))  # 0 log 0 is 0
        return -keras.ops.mean(keras.ops.sum(weights * logs, axis=-1), axis=-1)

    return _of_blocks(model, read)


def _stacked(blocks: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(blocks, axis=1)


def _of_blocks(
    model: keras.Model, read: Callable[[Any, Any], Any], finish: Callable[[list[np.ndarray]], Any] = _stacked
) -> Reading:
    """Returns the reading of the attention of each block."""
    layers = [block.attention for block in layers_of(model, TransformerBlock)]
    return Reading(Watch(model, layers, "probabilities", read), finish)


def _on_grid(model: keras.Model) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Returns a function that lays out rows of attention, (images, heads, patches) each, as the grid of patches."""
    return lambda rows: _stacked(rows).reshape(len(rows[0]), len(rows), -1, *grid_of(model))


def _between_patches(model: keras.Model, weights: Any) -> Any:
    """Returns the attention of the patches to the patches, without the tokens in front of them."""
    rows, columns = grid_of(model)
    return weights[:, :, -rows * columns :, -rows * columns :]


def rollout_tensor(model: keras.Model) -> keras.KerasTensor:
    """Returns the attention rollout as a symbolic tensor, so that a functional model can have it as an output.

    Args:
        model: a functional model that contains transformer blocks of keras_vit.

    Returns:
        (batch, grid rows, grid columns), the same values as those of `attention_rollout`.

    Raises:
        ValueError: if the model has no transformer block of keras_vit.

    Example:
        ```python
        from keras_vit.analysis.attention import rollout_tensor

        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        both = keras.Model(model.inputs, [*model.outputs, rollout_tensor(model)])
        assert both.output_shape == [(None, 3), (None, 4, 4)]
        ```
    """
    require_layers(model)
    blocks = [layer for layer in model.layers if isinstance(layer, (TransformerBlock, AttentionPooling))]
    return _Rollout(blocks, grid_of(model), rows_read(model), name="rollout")([block.input for block in blocks])


class _Rollout(keras.layers.Layer):
    """Multiplies the row that the head reads by the attention, from the last block to the first: no 5-D tensors."""

    def __init__(self, blocks: Sequence[Any], grid: tuple[int, int], read: slice, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks, self.grid, self.read = blocks, grid, read

    def call(self, inputs: Sequence[Any]) -> Any:
        tokens = inputs[0].shape[1]
        rows, columns = self.grid
        extra_tokens = tokens - rows * columns
        flow = np.zeros((1, 1, 1, tokens), "float32")
        flow[..., self.read] = 1 / len(range(tokens)[self.read])
        for block, x in reversed(list(zip(self.blocks, inputs))):
            weights = keras.ops.mean(block.attention_probabilities(x), axis=1, keepdims=True)
            if isinstance(block, AttentionPooling):
                flow = weights
                continue
            if block is self.blocks[-1]:  # no product, of which the first factor would have no batch
                gathered = weights[:, :, self.read]
                gathered = gathered if gathered.shape[2] == 1 else keras.ops.mean(gathered, axis=2, keepdims=True)
            else:
                gathered = keras.ops.matmul(flow, weights)
            flow = 0.5 * (gathered + flow)  # half is the residual path; the rows of the attention sum to 1
        return keras.ops.reshape(flow[..., extra_tokens:], (-1, rows, columns))
