"""Attention of a finished model: maps, rollout, how far it reaches and how spread it is."""

import keras
import numpy as np

from keras_vit.analysis.geometry import grid_of, require_layers, token_stride
from keras_vit.layers import AttentionPooling, PatchEncoder, TransformerBlock
from keras_vit.models.hooks import Watch, layers_of

BATCH = 8  # images that are looked at together; a ViT-B/16 has 22 MB of attention an image


def attention_maps(model, images):
    """Returns the attention of each block, a list of (images, heads, tokens, tokens); rows sum to 1.

    Args:
        model: any Keras model that contains our blocks.
        images: (images, rows, columns, channels), preprocessed.

    Raises:
        ValueError: if the model has no transformer block of ours, or takes images of another size.
    """
    return _read(model, images, lambda layer, weights: weights)


def class_attention(model, images):
    """Returns what the class token looks at, by block and head, (images, blocks, heads, grid rows, grid columns).

    What it gives to itself is left out, so that the values of a map add up to less than 1.

    Args:
        model, images: as for `attention_maps`.

    Raises:
        ValueError: as `attention_maps`, or if the model has no class token.
    """
    images = require_layers(model, images)
    encoder = layers_of(model, PatchEncoder)[0]
    if not encoder.has_class_token:
        raise ValueError(
            f"Expected a model with a class token. Received: {model.name!r} without; `attention_maps` has the "
            "attention of all its tokens, and `attention_rollout` what its head reads."
        )
    extra = encoder.extra_tokens
    rows = _read(model, images, lambda layer, weights: weights[:, :, 0, extra:])
    return np.stack(rows, axis=1).reshape(len(images), len(rows), -1, *grid_of(model))


def mean_attention(model, images):
    """Returns what the patches look at together, by block and head, (images, blocks, heads, grid rows, grid columns).

    Args:
        model, images: as for `attention_maps`.

    Raises:
        ValueError: as `attention_maps`.
    """
    images = require_layers(model, images)
    grid = grid_of(model)
    patches = grid[0] * grid[1]
    rows = _read(model, images, lambda layer, weights: keras.ops.mean(weights[:, :, -patches:, -patches:], axis=2))
    return np.stack(rows, axis=1).reshape(len(images), len(rows), -1, *grid)


def patch_attention(model, images):
    """Returns what each patch looks at, the mean of the heads, (images, blocks, patches, patches).

    Args:
        model, images: as for `attention_maps`.

    Raises:
        ValueError: as `attention_maps`.
    """
    images = require_layers(model, images)
    patches = grid_of(model)[0] * grid_of(model)[1]
    maps = _read(model, images, lambda layer, weights: keras.ops.mean(weights[:, :, -patches:, -patches:], axis=1))
    return np.stack(maps, axis=1)


def attention_rollout(model, images):
    """Returns how much of each patch reaches what the head reads, (images, grid rows, grid columns).

    Args:
        model, images: as for `attention_maps`.

    Raises:
        ValueError: as `attention_maps`.

    Source: see `rollout`.
    """
    images = require_layers(model, images)
    layers = layers_of(model, (TransformerBlock, AttentionPooling))
    watch = _watch(model, layers, lambda layer, weights: keras.ops.mean(weights, axis=1))
    parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))  # maps of all would fill memory
    return np.concatenate([rollout(watch.predict_on_batch(part), grid_of(model)) for part in parts])


def rollout(maps, grid):
    """Multiplies attention from block to block, and reads what reaches the head, (images, grid rows, grid columns).

    The residual path is the identity added, and each row is normalised, not the matrix as a whole. The head reads the
    class token's row; where there is none, what an attention pooling looks at or, without one, the mean of all rows.

    Args:
        maps: a block each, (images, tokens, tokens), the mean of its heads, the first block first; then, of a model
            with attention pooling, (images, 1, tokens).
        grid: (rows, columns) of patches; tokens in front of theirs are not shown.

    Source: arXiv:2005.00928; as the authors of the Vision Transformer describe it for arXiv:2010.11929, figure 6.
    """
    extra_tokens = maps[0].shape[-1] - grid[0] * grid[1]
    flow = np.eye(maps[0].shape[-1])
    for weights in maps:
        if weights.shape[1] > 1:  # attention pooling has no residual path
            weights = weights + np.eye(weights.shape[-1])
        flow = (weights / weights.sum(axis=-1, keepdims=True)) @ flow
    read = flow[:, 0] if extra_tokens or flow.shape[1] == 1 else flow.mean(axis=1)
    return read[:, extra_tokens:].reshape(-1, *grid).astype("float32")


def attention_distance(model, images):
    """Returns how far each head looks, (blocks, heads), in pixels: the mean over all patches and images.

    A patch's distance is the mean of the distances to the patches, from middle to middle, that it looks at, each
    counted by the attention it gets. The class token is left out, and what the patches get adds up to 1 without it.

    Args:
        model, images: as for `attention_maps`. The paper takes 128 images.

    Raises:
        ValueError: as `attention_maps`.

    Source: arXiv:2010.11929, figure 7, right, and appendix D.7.
    """
    images = require_layers(model, images)
    rows, columns = grid_of(model)
    places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)
    distances = np.linalg.norm(places[:, None] - places, axis=-1).astype("float32") * token_stride(model)

    def read(layer, weights):
        weights = keras.ops.cast(weights[:, :, -rows * columns :, -rows * columns :], "float32")
        weights = weights / keras.ops.sum(weights, axis=-1, keepdims=True)
        return keras.ops.mean(keras.ops.sum(weights * distances, axis=-1), axis=-1)

    return np.stack([each.mean(axis=0) for each in _read(model, images, read)])


def attention_entropy(model, images):
    """Returns how spread the attention of each head is, (blocks, heads), in nats: the mean over tokens and images.

    0 is a token that looks at one place alone; the most, the logarithm of the number of tokens, is one that looks
    everywhere alike.

    Args:
        model, images: as for `attention_maps`.

    Raises:
        ValueError: as `attention_maps`.
    """

    def read(layer, weights):
        weights = keras.ops.cast(weights, "float32")
        logs = keras.ops.log(keras.ops.maximum(weights, 1e-30))  # 0 log 0 is 0
        return -keras.ops.mean(keras.ops.sum(weights * logs, axis=-1), axis=-1)

    return np.stack([each.mean(axis=0) for each in _read(model, images, read)])


def _read(model, images, read):
    """Returns what `read` makes of each block's attention."""
    images = require_layers(model, images)
    return _watch(model, layers_of(model, TransformerBlock), read).predict(images, batch_size=BATCH, verbose=0)


def _watch(model, layers, read):
    return Watch(model, [layer.attention for layer in layers], "probabilities", read)


def rollout_tensor(model):
    """Returns the attention rollout as a tensor of a functional model, (batch, grid rows, grid columns).

    The same numbers as `attention_rollout`'s, to be built into a model.

    Args:
        model: a functional model that contains our blocks.

    Raises:
        ValueError: if the model has no transformer block of ours.
    """
    require_layers(model)
    blocks = [layer for layer in model.layers if isinstance(layer, (TransformerBlock, AttentionPooling))]
    return _Rollout(blocks, grid_of(model), name="rollout")([block.input for block in blocks])


class _Rollout(keras.layers.Layer):
    """Carries the row that the head reads along from the last block to the first; no tensor has more than 4 axes."""

    def __init__(self, blocks, grid, **kwargs):
        super().__init__(**kwargs)
        self.blocks, self.grid = blocks, grid

    def call(self, inputs):
        tokens = inputs[0].shape[1]
        rows, columns = self.grid
        extra_tokens = tokens - rows * columns
        flow = np.zeros((1, 1, 1, tokens), "float32")
        flow[..., : 1 if extra_tokens else None] = 1 if extra_tokens else 1 / tokens
        for block, x in reversed(list(zip(self.blocks, inputs))):
            weights = keras.ops.mean(block.attention_probabilities(x), axis=1, keepdims=True)
            if isinstance(block, AttentionPooling):
                flow = weights
                continue
            if block is self.blocks[-1]:  # no product, of which the first factor would have no batch
                gathered = weights[:, :, :1] if extra_tokens else keras.ops.mean(weights, axis=2, keepdims=True)
            else:
                gathered = keras.ops.matmul(flow, weights)
            flow = 0.5 * (gathered + flow)  # half is the residual path; the rows of the attention sum to 1
        return keras.ops.reshape(flow[..., extra_tokens:], (-1, rows, columns))
