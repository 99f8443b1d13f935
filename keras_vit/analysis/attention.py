"""Attention of a finished model."""

import keras
import numpy as np

from keras_vit.layers import Patches, TransformerBlock


def attention_maps(model, images):
    """Yields the attention of each block in order, (batch, heads, tokens, tokens); rows sum to 1.

    Args:
        model: a functional model that contains our blocks.
        images: (batch, rows, columns, channels), preprocessed.

    Raises:
        ValueError: if the model has no transformer block of ours.
    """
    blocks = _blocks(model)
    inputs = keras.Model(model.inputs, [block.input for block in blocks]).predict_on_batch(images)
    for block, x in zip(blocks, inputs if isinstance(inputs, list) else [inputs]):
        yield keras.ops.convert_to_numpy(block.attention_probabilities(keras.ops.convert_to_tensor(x)))


def attention_rollout(model, images):
    """Returns how much of each patch reaches what the head reads, (batch, grid rows, grid columns).

    Heads are averaged, the residual path is the identity added, rows are normalised, and the blocks multiplied; the
    class token's row is read, or the mean of all rows where there is no class token.

    Args:
        model: a functional model that contains our blocks.
        images: (batch, rows, columns, channels), preprocessed.

    Raises:
        ValueError: if the model has no blocks of ours.

    Source: arXiv:2005.00928; as the authors of the Vision Transformer describe it for arXiv:2010.11929, figure 6.
    """
    flow = None
    for weights in attention_maps(model, images):
        mixed = weights.mean(axis=1) + np.eye(weights.shape[-1], dtype=weights.dtype)
        mixed /= mixed.sum(axis=-1, keepdims=True)
        flow = mixed if flow is None else mixed @ flow
    rows, columns = _grid(model)
    extra_tokens = flow.shape[-1] - rows * columns
    read = flow[:, 0, extra_tokens:] if extra_tokens else flow.mean(axis=1)
    return read.reshape(-1, rows, columns)


def rollout_tensor(model):
    """Returns the attention rollout as a tensor of a functional model, (batch, grid rows, grid columns).

    The same numbers as `attention_rollout`'s, to be built into a model.

    Args:
        model: a functional model that contains our blocks.

    Raises:
        ValueError: if the model has no transformer block of ours.
    """
    blocks = _blocks(model)
    return _Rollout(blocks, _grid(model), name="rollout")([block.input for block in blocks])


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
            if block is self.blocks[-1]:  # no product, of which the first factor would have no batch
                gathered = weights[:, :, :1] if extra_tokens else keras.ops.mean(weights, axis=2, keepdims=True)
            else:
                gathered = keras.ops.matmul(flow, weights)
            flow = 0.5 * (gathered + flow)  # half is the residual path; the rows of the attention sum to 1
        return keras.ops.reshape(flow[..., extra_tokens:], (-1, rows, columns))


def _blocks(model):
    blocks = [layer for layer in model.layers if isinstance(layer, TransformerBlock)]
    if not blocks:
        raise ValueError(f"Expected a model with keras_vit's transformer blocks. Received: {model.name!r} without")
    return blocks


def _grid(model):
    """Returns (rows, columns) of the patches."""
    patches = next(layer for layer in model.layers if isinstance(layer, Patches))
    return tuple(side // patches.patch_size for side in patches.input.shape[1:3])
