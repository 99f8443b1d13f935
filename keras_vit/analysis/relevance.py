"""Attention relevance: attention weighted by the gradients of a class, so that each class has its own map."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_vit.analysis.geometry import grid_of, require_layers, rows_read
from keras_vit.analysis.gradients import gradients
from keras_vit.analysis.reading import BATCH
from keras_vit.layers import PatchEncoder, TransformerBlock
from keras_vit.models.hooks import changed, head_of, layers_of


def attention_relevance(model: keras.Model, images: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """Computes the relevance of each patch for a class, from attention and its gradients.

    Unlike attention rollout, attention counts by how much it raises the logit of the class, so that an image has
    another map for each class.

    Args:
        model: any Keras model that contains transformer blocks of keras_vit and returns (batch, classes). The output of
            its head, before a softmax layer, is differentiated.
        images: (images, height, width, channels), preprocessed as the model reads them.
        classes: the class of each image, (images,); None for the predicted classes.

    Returns:
        (images, grid rows, grid columns) float32, at least 0.

    Raises:
        ValueError: if the model has no transformer block of keras_vit or is no classifier, or reads images of another
            size; or if `classes` has another length than the images, or values out of range.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images = np.zeros((2, 32, 32, 3), "float32")
        relevance = keras_vit.analysis.attention_relevance(model, images, classes=[0, 2])
        assert relevance.shape == (2, 4, 4)
        ```

    Source: arXiv:2103.15679, eq. 5 and 6, for self-attention.
    """
    images = require_layers(model, images)
    blocks = layers_of(model, TransformerBlock)
    tokens = grid_of(model)[0] * grid_of(model)[1] + layers_of(model, PatchEncoder)[0].extra_tokens
    wanted = None if classes is None else np.asarray(classes)
    if wanted is not None and (wanted.shape != (len(images),) or wanted.dtype.kind not in "iu"):
        raise ValueError(
            f"Expected one class per image, {len(images)} integers. "
            f"Received: classes of shape {wanted.shape}, {wanted.dtype}"
        )
    maps = []
    for start in range(0, len(images), BATCH):
        part = np.asarray(images[start : start + BATCH], "float32")
        chosen = None if wanted is None else wanted[start : start + BATCH]
        # Zeros added to the attention: the derivative by them is the derivative by the attention itself.
        zeros = [keras.ops.zeros((len(part), block.attention.num_heads, tokens, tokens)) for block in blocks]
        slopes, attention = gradients(functools.partial(_score, model, blocks, part, chosen), zeros)
        arrays = [_numpy(x) for x in attention], [_numpy(x) for x in slopes]
        maps.append(relevance(*arrays, grid_of(model), rows_read(model)))
    return np.concatenate(maps)


def relevance(
    attention: Sequence[np.ndarray], slopes: Sequence[np.ndarray], grid: tuple[int, int], read: slice
) -> np.ndarray:
    """Combines the attention maps of all blocks and their gradients into one relevance map.

    The result is the mean of the rows that the head reads.

    Args:
        attention: one per block, (images, heads, tokens, tokens), the first block first.
        slopes: the gradients of the logit with respect to the attention, of the same shapes.
        grid: (rows, columns) of patches. Tokens in front of the patches are left out of the result.
        read: the tokens that the head reads.

    Returns:
        (images, grid rows, grid columns) float32.
    """
    extra_tokens = attention[0].shape[-1] - grid[0] * grid[1]
    flow = np.eye(attention[0].shape[-1])
    for weights, slope in zip(attention, slopes):
        flow = flow + np.maximum(weights * slope, 0).mean(axis=1) @ flow
    # The identity that each patch starts with says nothing about the image.
    flow = (flow - np.eye(flow.shape[-1]))[:, read].mean(axis=1)
    return flow[:, extra_tokens:].reshape(-1, *grid).astype("float32")


def _score(
    model: keras.Model, blocks: Sequence[Any], images: np.ndarray, classes: np.ndarray | None, nudges: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """Returns the sum of the logits of the classes, and the attention of each block, to which `nudges` are added."""
    attention: list[Any] = []
    logits: list[Any] = []
    added = iter(nudges)

    def nudge(layer: keras.layers.Layer, weights: Any) -> Any:
        attention.append(weights)
        return weights + keras.ops.cast(next(added), weights.dtype)

    def keep(layer: keras.layers.Layer, value: Any) -> Any:
        logits.append(value)
        return value

    head, layers = head_of(model), [block.attention for block in blocks]
    with changed(layers, "probabilities", nudge), changed([head] if head else [], "output", keep):
        outputs = model(keras.ops.convert_to_tensor(images), training=False)
    score = logits[-1] if logits else outputs
    if len(score.shape) != 2:
        raise ValueError(
            f"Expected a classifier, (batch, classes). Received: {model.name!r}, which returns {tuple(score.shape)}"
        )
    if classes is not None and (classes.min() < 0 or classes.max() >= score.shape[1]):
        raise ValueError(
            f"Expected classes from 0 to {score.shape[1] - 1}, as the model has. "
            f"Received: classes from {classes.min()} to {classes.max()}"
        )
    chosen = keras.ops.argmax(score, axis=-1) if classes is None else keras.ops.convert_to_tensor(classes)
    return keras.ops.sum(score * keras.ops.one_hot(chosen, score.shape[1], dtype=score.dtype)), attention


def _numpy(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor).astype("float32")
