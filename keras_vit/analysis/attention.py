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
    blocks = [layer for layer in model.layers if isinstance(layer, TransformerBlock)]
    if not blocks:
        raise ValueError(f"Expected a model with keras_vit's transformer blocks. Received: {model.name!r} without")
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
    patches = next(layer for layer in model.layers if isinstance(layer, Patches))
    rows, columns = (side // patches.patch_size for side in patches.input.shape[1:3])
    extra_tokens = flow.shape[-1] - rows * columns
    read = flow[:, 0, extra_tokens:] if extra_tokens else flow.mean(axis=1)
    return read.reshape(-1, rows, columns)
