"""What a model's first layer, its positions and its tokens look like, and which images it finds alike."""

import keras
import numpy as np

from keras_vit import _arguments as checked
from keras_vit.analysis.geometry import grid_of, require_layers
from keras_vit.layers import PatchEncoder, Patches, Positions, Stem
from keras_vit.models.hooks import Watch, layers_of, outer_layers_of


def filter_components(model, count=28):
    """Returns the principal components of the filters that read the image, and the share of each.

    The filters are those of the patch embedding; of a hybrid or a BiT, of its first convolution, standardized.

    Args:
        model: any Keras model that contains ours.
        count: how many components; fewer where there are no more.

    Returns:
        (components, rows, columns, channels), of length 1 each, and (components,) the share of the filters' variance,
        the largest first.

    Raises:
        ValueError: if the model has no layers of ours.

    Source: arXiv:2010.11929, figure 7, left.
    """
    require_layers(model, kind=(Patches, Stem))
    count = checked.whole("count", count)
    if stems := layers_of(model, Stem):
        kernel = _numpy(stems[0].conv.standardized(stems[0].conv.kernel))
    else:
        side = layers_of(model, Patches)[0].patch_size
        kernel = _numpy(layers_of(model, PatchEncoder)[0].projection.kernel)
        kernel = kernel.reshape(side, side, -1, kernel.shape[-1])
    filters = kernel.reshape(-1, kernel.shape[-1]).T  # (filters, numbers of each)
    components, share = _components(filters, count)
    return components.reshape(-1, *kernel.shape[:-1]), share


def position_similarity(model):
    """Returns how alike the positions of the patches are, (rows, columns, rows, columns), cosines from -1 to 1.

    [r, c] is the map of the position at (r, c) against all others.

    Args:
        model: any Keras model that contains ours.

    Raises:
        ValueError: if the model has no transformer block of ours, or adds no positions to its tokens.

    Source: arXiv:2010.11929, figure 7, middle.
    """
    require_layers(model)
    grid = grid_of(model)
    values = position_values(model)
    if values is None:
        raise ValueError(f"Expected a model that adds positions to its tokens. Received: {model.name!r} without")
    positions = _numpy(values)[0, -grid[0] * grid[1] :]
    positions /= np.maximum(np.linalg.norm(positions, axis=1, keepdims=True), 1e-12)  # zeros are like nothing
    return (positions @ positions.T).reshape(*grid, *grid)


def position_values(model):
    """Returns the positions that are added to tokens first, (1, tokens, hidden_size), or None where there are none."""
    stem = layers_of(model, PatchEncoder)[0].position_values()
    return stem if stem is not None else next((layer.values() for layer in layers_of(model, Positions)), None)


def patch_tokens(model, images):
    """Returns the tokens of the patches after the last norm, (images, grid rows, grid columns, hidden_size).

    Args:
        model: any Keras model that contains ours.
        images: (images, rows, columns, channels), preprocessed.

    Raises:
        ValueError: if the model has no transformer block of ours, or takes images of another size.
    """
    images = require_layers(model, images)
    rows, columns = grid_of(model)
    norms = [layer for layer in outer_layers_of(model, keras.layers.LayerNormalization) if layer.name == "norm"]
    watch = Watch(model, norms, read=lambda layer, tokens: tokens[:, -rows * columns :])
    return watch.predict(images, verbose=0)[0].astype("float32").reshape(len(images), rows, columns, -1)


def token_colours(tokens):
    """Returns the first three principal components of tokens as red, green and blue, (images, rows, columns, 3).

    The components are of all images together, so that a colour means the same in each; 0 to 1, from the 1st to the
    99th percentile of a component.

    Args:
        tokens: (images, rows, columns, hidden_size), as of `patch_tokens`.

    Raises:
        ValueError: if they are not of that shape, or hold fewer than four tokens.
    """
    if np.ndim(tokens) != 4 or np.prod(np.shape(tokens)[:3]) < 4 or np.shape(tokens)[3] < 3:
        raise ValueError(
            "Expected tokens (images, rows, columns, hidden_size), four or more of three numbers or more. "
            f"Received: tokens of shape {np.shape(tokens)}"
        )
    tokens = np.asarray(tokens)
    flat = tokens.reshape(-1, tokens.shape[-1])
    components, _ = _components(flat, 3)
    # The sign of a component means nothing; let its heavier tail be the bright one, so that pages can be compared.
    values = (flat - flat.mean(axis=0)) @ components.T
    values *= np.where((values**3).sum(axis=0) < 0, -1, 1)
    low, high = np.percentile(values, (1, 99), axis=0)
    return np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1).reshape(*tokens.shape[:3], 3)


def neighbours(features, queries=None, count=5):
    """Returns which features lie nearest, by the cosine: their indices and cosines, both (queries, count).

    Args:
        features: (images, width), as `keras_vit.representation` gives.
        queries: (queries, width); None for the features themselves, of which none is its own neighbour.
        count: how many; fewer where there are no more.

    Raises:
        ValueError: if the widths differ, or there is nothing to be near to.
    """
    own, count = queries is None, checked.whole("count", count)
    features, queries = (np.asarray(x, "float32") for x in (features, features if own else queries))
    if features.ndim != 2 or queries.ndim != 2 or features.shape[1] != queries.shape[1] or len(features) <= own:
        raise ValueError(
            "Expected features and queries of the same width, and another image to be near to. "
            f"Received: features of shape {features.shape}, queries of shape {queries.shape}"
        )
    near = _unit(queries) @ _unit(features).T
    if own:
        np.fill_diagonal(near, -np.inf)
    order = np.argsort(-near, axis=1, kind="stable")[:, : min(count, len(features) - own)]
    return order, np.take_along_axis(near, order, axis=1)


def _components(rows, count):
    """Returns the first principal components of rows, (components, numbers of a row), and their shares."""
    centred = rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T.astype("float64") @ centred)
    order = np.argsort(-values)[: min(count, len(rows) - 1)]
    return vectors[:, order].T, values[order] / max(values.sum(), 1e-30)


def _unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _numpy(tensor):
    return keras.ops.convert_to_numpy(tensor).astype("float32")
