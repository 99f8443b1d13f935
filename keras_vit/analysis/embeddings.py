"""Filters of the first layer, similarity of positions, tokens of patches, and nearest neighbours."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_vit import _arguments as checked
from keras_vit.analysis.geometry import grid_of, require_layers
from keras_vit.analysis.reading import Reading
from keras_vit.layers import PatchEncoder, Patches, Positions, Stem, TransformerBlock
from keras_vit.models.hooks import Watch, layers_of, outer_layers_of


def filter_components(model: keras.Model, count: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Computes the principal components of the filters of the patch embedding, and their shares of the variance.

    For a hybrid or a BiT, the filters are those of its first convolution, standardized.

    Args:
        model: any Keras model that contains layers of keras_vit.
        count: number of components; all of them if there are fewer.

    Returns:
        The components, (components, height, width, channels), each of norm 1, and their shares of the variance,
        (components,), the largest first.

    Raises:
        ValueError: if the model has no layers of keras_vit, or `count` is below 1.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        components, shares = keras_vit.analysis.filter_components(model, count=5)
        assert components.shape == (5, 8, 8, 3) and shares.shape == (5,)
        ```

    Source: arXiv:2010.11929, figure 7, left.
    """
    require_layers(model, kind=(Patches, Stem))
    count = checked.integer("count", count)
    if stems := layers_of(model, Stem):
        kernel = _numpy(stems[0].conv.standardized(stems[0].conv.kernel))
    else:
        side = layers_of(model, Patches)[0].patch_size
        kernel = _numpy(layers_of(model, PatchEncoder)[0].projection.kernel)
        kernel = kernel.reshape(side, side, -1, kernel.shape[-1])
    filters = kernel.reshape(-1, kernel.shape[-1]).T  # (filters, numbers of each)
    components, share = _components(filters, count)
    return components.reshape(-1, *kernel.shape[:-1]), share


def position_similarity(model: keras.Model) -> np.ndarray:
    """Computes the cosine similarity of the position embeddings of all patches.

    Args:
        model: any Keras model that contains layers of keras_vit.

    Returns:
        (grid rows, grid columns, grid rows, grid columns), from -1 to 1: [r, c] compares the position at row r and
        column c with all others.

    Raises:
        ValueError: if the model has no transformer block of keras_vit, or adds no positions to its tokens.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        assert keras_vit.analysis.position_similarity(model).shape == (4, 4, 4, 4)
        ```

    Source: arXiv:2010.11929, figure 7, middle.
    """
    require_layers(model)
    grid = grid_of(model)
    values = position_values(model)
    if values is None:
        raise ValueError(f"Expected a model that adds positions to its tokens. Received: {model.name!r} without")
    positions = _numpy(values)[0, -grid[0] * grid[1] :]
    positions /= np.maximum(np.linalg.norm(positions, axis=1, keepdims=True), 1e-12)  # zeros have similarity 0
    return (positions @ positions.T).reshape(*grid, *grid)


def position_values(model: keras.Model) -> Any:
    """Returns the first positions that are added to the tokens, (1, tokens, hidden_size); None if there are none."""
    stem = layers_of(model, PatchEncoder)[0].position_values()
    return stem if stem is not None else next((layer.values() for layer in layers_of(model, Positions)), None)


def patch_tokens(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes the tokens of the patches after the last norm, or without one the last block, laid out as their grid.

    Args:
        model: any Keras model that contains layers of keras_vit.
        images: (images, height, width, channels), preprocessed as the model reads them.

    Returns:
        (images, grid rows, grid columns, hidden_size) float32.

    Raises:
        ValueError: if the model has no transformer block of keras_vit, or reads images of another size.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        images = np.zeros((2, 32, 32, 3), "float32")
        tokens = keras_vit.analysis.patch_tokens(model, images)
        assert tokens.shape == (2, 4, 4, 32)
        ```
    """
    images = require_layers(model, images)
    return patch_tokens_reading(model).of(images)


def patch_tokens_reading(model: keras.Model) -> Reading:
    """Returns the reading of `patch_tokens`."""
    rows, columns = grid_of(model)
    norms = [layer for layer in outer_layers_of(model, keras.layers.LayerNormalization) if layer.name == "norm"]
    last = norms or outer_layers_of(model, TransformerBlock)[-1:]
    watch = Watch(model, last, read=lambda layer, tokens: tokens[:, -rows * columns :])
    return Reading(watch, lambda kept: kept[0].astype("float32").reshape(len(kept[0]), rows, columns, -1))


def token_colours(tokens: np.ndarray) -> np.ndarray:
    """Maps the first three principal components of tokens to red, green and blue.

    The components are those of all images together, so that a colour means the same in each image.

    Args:
        tokens: (images, grid rows, grid columns, hidden_size), as `patch_tokens` returns.

    Returns:
        (images, grid rows, grid columns, 3) from 0 to 1, the 1st and the 99th percentile of each component.

    Raises:
        ValueError: if the tokens have another shape, or are fewer than four.

    Example:
        ```python
        tokens = np.random.default_rng(0).normal(size=(2, 4, 4, 32))
        assert keras_vit.analysis.token_colours(tokens).shape == (2, 4, 4, 3)
        ```
    """
    if np.ndim(tokens) != 4 or np.prod(np.shape(tokens)[:3]) < 4 or np.shape(tokens)[3] < 3:
        raise ValueError(
            "Expected at least four tokens of hidden_size 3 or more, (images, rows, columns, hidden_size). "
            f"Received: tokens of shape {np.shape(tokens)}"
        )
    tokens = np.asarray(tokens)
    flat = tokens.reshape(-1, tokens.shape[-1])
    components, _ = _components(flat, 3)
    # The sign of a component is arbitrary: the heavier tail becomes the bright one, so that pages can be compared.
    values = (flat - flat.mean(axis=0)) @ components.T
    values *= np.where((values**3).sum(axis=0) < 0, -1, 1)
    low, high = np.percentile(values, (1, 99), axis=0)
    return np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1).reshape(*tokens.shape[:3], 3)


def nearest_neighbours(
    features: np.ndarray, queries: np.ndarray | None = None, count: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest neighbours of features by cosine similarity.

    Args:
        features: (images, hidden_size), as the model of `keras_vit.representation` returns.
        queries: (queries, hidden_size); None for the features themselves, none of which is its own neighbour.
        count: number of neighbours; all of them if there are fewer.

    Returns:
        The indices of the neighbours and their cosine similarities, both (queries, count), the nearest first.

    Raises:
        ValueError: if the hidden sizes differ, there is no other image, or `count` is below 1.

    Example:
        ```python
        features = np.array([[1, 0], [0, 2], [3, 0.1]])
        indices, similarities = keras_vit.analysis.nearest_neighbours(features, count=1)
        assert indices[0] == 2
        ```
    """
    own, count = queries is None, checked.integer("count", count)
    features, queries = (np.asarray(x, "float32") for x in (features, features if own else queries))
    if features.ndim != 2 or queries.ndim != 2 or features.shape[1] != queries.shape[1] or len(features) <= own:
        raise ValueError(
            "Expected features and queries of the same hidden size, and at least one other image. "
            f"Received: features of shape {features.shape}, queries of shape {queries.shape}"
        )
    near = _unit(queries) @ _unit(features).T
    if own:
        np.fill_diagonal(near, -np.inf)
    order = np.argsort(-near, axis=1, kind="stable")[:, : min(count, len(features) - own)]
    return order, np.take_along_axis(near, order, axis=1)


def _components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first principal components of rows, (components, row length), and their shares of the variance."""
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T.astype("float64") @ centred)
    order = np.argsort(-values)[: min(count, len(rows) - 1)]
    return vectors[:, order].T, values[order] / max(values.sum(), 1e-30)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _numpy(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor).astype("float32")
