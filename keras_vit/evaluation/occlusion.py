"""Occlusion: drops patches of images or their tokens, shuffles squares of an image, and shifts it.

An image is (height, width, 3) uint8, a grid the (rows, columns) of its patches.

Source: arXiv:2105.10497, for the drops and the shuffle.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit.layers import PatchEncoder, Patches, Positions, RelativeAttention, TokenMap, WindowAttention
from keras_vit.models.hooks import few_patches, layers_of

# These layers identify each token by its position in the sequence.
NEED_ALL_TOKENS = (TokenMap, Positions, RelativeAttention, WindowAttention)
_GREY = 128  # the middle of 0 to 255


class KeptTokens(keras.Model):
    """Runs a model on a subset of the patches of each image; the other tokens are dropped after the patch encoder.

    Input: [images (batch, height, width, 3), indices of the kept patches (batch, kept), integers from 0].
    Output: that of the model.

    Tokens in front of those of the patches, such as the class token, are all kept.

    Args:
        model: A Keras model with one `PatchEncoder`, at any depth.
        kept: Number of patches that each image keeps.

    Raises:
        ValueError: If the model needs all its tokens, because it arranges them in their grid again, or has positions
            or windows between or in its blocks.

    Example:
        ```python
        from keras_vit.evaluation.occlusion import KeptTokens

        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        inputs = [np.zeros((2, 32, 32, 3), "float32"), np.array([[0, 1, 2], [5, 10, 15]])]
        assert KeptTokens(model, kept=3).predict_on_batch(inputs).shape == (2, 3)
        ```
    """

    def __init__(self, model: keras.Model, kept: int) -> None:
        super().__init__(name=f"{model.name}_kept")
        encoders = layers_of(model, PatchEncoder)
        inside = [layer for encoder in encoders for layer in layers_of(encoder, Positions)]
        need_all = [layer for layer in layers_of(model, NEED_ALL_TOKENS) if layer not in inside]
        if need_all:
            raise ValueError(
                "Expected a model that accepts any number of its tokens. "
                f"Received: {model.name!r}, whose {type(need_all[0]).__name__} needs all of them"
            )
        self.model, self.kept = model, kept

    def call(self, inputs: Any) -> Any:
        """Returns the output of the model for (images, indices of the kept patches)."""
        images, patches = inputs
        # The blocks read the number of tokens from the shape, which must be known while a graph is traced.
        with few_patches(self.model, ops.reshape(patches, (-1, self.kept))):
            return self.model(images, training=False)


def occlusion_grid(model: keras.Model) -> tuple[int, int] | None:
    """Returns the (rows, columns) of a model's patches; None for a model that does not encode patches exactly once."""
    patches = layers_of(model, Patches)
    return tuple(patches[0].grid) if len(patches) == len(layers_of(model, PatchEncoder)) == 1 else None


def random_order(images: int, patches: int, seed: int = 0) -> np.ndarray:
    """Returns a random order in which to drop patches, (images, patches), different for each image."""
    return np.stack([np.random.default_rng((seed, i)).permutation(patches) for i in range(images)])


def salient_order(salience: np.ndarray) -> np.ndarray:
    """Returns the order of (images, rows, columns) values, the highest first, as (images, rows * columns)."""
    return np.argsort(-salience.reshape(len(salience), -1), axis=1, kind="stable")


def grey_out_patches(image: np.ndarray, patches: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Fills patches of an image with grey.

    Args:
        image: (height, width, channels), of any size.
        patches: Indices of patches, row by row from 0.
        grid: (rows, columns). Where it does not divide height or width, each pixel belongs to the patch it lies in.

    Returns:
        The image with grey patches.
    """
    grey = np.zeros(grid, bool)
    grey.flat[patches] = True
    rows, columns = (np.arange(side) * parts // side for side, parts in zip(image.shape, grid))
    return np.where(grey[rows][:, columns, None], np.uint8(_GREY), image)


def shuffle_squares(image: np.ndarray, squares: int, generator: np.random.Generator) -> np.ndarray:
    """Cuts an image into squares x squares parts and puts them together in a random order.

    Nothing is resized and no pixel is lost: where height or width are not multiples, some parts are one pixel higher
    or wider than others, and parts are only exchanged with parts of the same shape.
    """
    rows, columns = ([*np.arange(squares + 1) * side // squares] for side in image.shape[:2])
    by_shape: dict[tuple[int, int], list[tuple[slice, slice]]] = {}
    for top, bottom in zip(rows, rows[1:]):
        for left, right in zip(columns, columns[1:]):
            by_shape.setdefault((bottom - top, right - left), []).append(np.s_[top:bottom, left:right])
    result = np.empty_like(image)
    for places in by_shape.values():
        for place, source in zip(places, generator.permutation(len(places))):
            result[place] = image[places[source]]
    return result


def shift_image(image: np.ndarray, distance: int, generator: np.random.Generator) -> np.ndarray:
    """Shifts an image by a number of pixels in a random direction; the gap repeats the image's edge."""
    angle = generator.uniform(0, 2 * np.pi)
    top, left = np.rint(distance * np.array([1 + np.sin(angle), 1 + np.cos(angle)])).astype(int)
    padded = np.pad(image, [(distance, distance)] * 2 + [(0, 0)], mode="edge")
    return padded[top : top + image.shape[0], left : left + image.shape[1]]
