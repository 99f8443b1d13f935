"""Which patches made a model decide for a class: attention weighted by its gradients."""

import functools

import keras
import numpy as np

from keras_vit.analysis.attention import BATCH
from keras_vit.analysis.geometry import grid_of, require_layers
from keras_vit.analysis.gradients import gradients
from keras_vit.layers import PatchEncoder, TransformerBlock
from keras_vit.models.hooks import changed, head_of, layers_of


def attention_relevance(model, images, classes=None):
    """Returns how much each patch speaks for a class, (images, grid rows, grid columns), 0 and more.

    What differs from rollout: attention counts by how much it raises the class's score, so the map of one image is
    another for each class.

    Args:
        model: any Keras model that contains our blocks and gives (batch, classes). What its head gives before a softmax
            layer is the score.
        images: (images, rows, columns, channels), preprocessed.
        classes: the class of each image, (images,); None for those that the model chooses.

    Raises:
        ValueError: if the model has no transformer block of ours or is no classifier, takes images of another size,
            or `classes` are not as many as the images, or none of the model's.

    Source: arXiv:2103.15679, eq. 5 and 6, for self-attention.
    """
    images = require_layers(model, images)
    blocks = layers_of(model, TransformerBlock)
    tokens = grid_of(model)[0] * grid_of(model)[1] + layers_of(model, PatchEncoder)[0].extra_tokens
    wanted = None if classes is None else np.asarray(classes)
    if wanted is not None and (wanted.shape != (len(images),) or wanted.dtype.kind not in "iu"):
        raise ValueError(
            f"Expected a class an image, {len(images)}. Received: classes of shape {wanted.shape}, {wanted.dtype}"
        )
    maps = []
    for start in range(0, len(images), BATCH):
        part = np.asarray(images[start : start + BATCH], "float32")
        chosen = None if wanted is None else wanted[start : start + BATCH]
        # Zeros added to the attention: the derivative by them is the derivative by the attention itself.
        zeros = [keras.ops.zeros((len(part), block.attention.num_heads, tokens, tokens)) for block in blocks]
        slopes, attention = gradients(functools.partial(_score, model, blocks, part, chosen), zeros)
        maps.append(relevance([_numpy(x) for x in attention], [_numpy(x) for x in slopes], grid_of(model)))
    return np.concatenate(maps)


def relevance(attention, slopes, grid):
    """Joins the attention of all blocks to what speaks for a class, (images, grid rows, grid columns).

    Read is the class token's row, or the mean of all rows where there is no class token.

    Args:
        attention: a block each, (images, heads, tokens, tokens), the first block first.
        slopes: the derivatives of the score by these.
        grid: (rows, columns) of patches; tokens in front of theirs are not shown.
    """
    extra_tokens = attention[0].shape[-1] - grid[0] * grid[1]
    flow = np.eye(attention[0].shape[-1])
    for weights, slope in zip(attention, slopes):
        flow = flow + np.maximum(weights * slope, 0).mean(axis=1) @ flow
    # A patch's own identity says nothing of the image; it is in the mean of the rows alone.
    read = flow[:, 0] if extra_tokens else (flow - np.eye(flow.shape[-1])).mean(axis=1)
    return read[:, extra_tokens:].reshape(-1, *grid).astype("float32")


def _score(model, blocks, images, classes, nudges):
    """Returns the sum of the scores of the classes, and the attention of each block."""
    seen, scores, nudges = [], [], iter(nudges)

    def nudged(layer, weights):
        seen.append(weights)
        return weights + keras.ops.cast(next(nudges), weights.dtype)

    def heard(layer, logits):
        scores.append(logits)
        return logits

    head, attention = head_of(model), [block.attention for block in blocks]
    with changed(attention, "probabilities", nudged), changed([head] if head else [], "output", heard):
        outputs = model(keras.ops.convert_to_tensor(images), training=False)
    score = scores[-1] if scores else outputs
    if len(score.shape) != 2:
        raise ValueError(
            f"Expected a classifier, (batch, classes). Received: {model.name!r}, which gives {score.shape}"
        )
    if classes is not None and (classes.min() < 0 or classes.max() >= score.shape[1]):
        raise ValueError(
            f"Expected classes from 0 to {score.shape[1] - 1}, the model's. "
            f"Received: classes from {classes.min()} to {classes.max()}"
        )
    chosen = keras.ops.argmax(score, axis=-1) if classes is None else keras.ops.convert_to_tensor(classes)
    return keras.ops.sum(score * keras.ops.one_hot(chosen, score.shape[1], dtype=score.dtype)), seen


def _numpy(tensor):
    return keras.ops.convert_to_numpy(tensor).astype("float32")
