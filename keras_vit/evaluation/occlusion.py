"""Takes patches away, and moves what is there to other places.

An image is (rows, columns, 3) uint8, a grid the (rows, columns) of its patches.

Source: arXiv:2105.10497, for the drops and the shuffle.
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers import PatchEncoder, Patches, Positions, RelativeAttention, TokenMap, WindowAttention
from keras_vit.models.hooks import changed, layers_of

# They know each token by its place in the sequence.
NEED_ALL = (TokenMap, Positions, RelativeAttention, WindowAttention)
_GREY = 128  # the middle of 0 to 255, where whole numbers are taken


class KeptTokens(keras.Model):
    """Runs a model on some of its patches: the tokens of the others are not computed after the encoder.

    Input:  [images (batch, rows, columns, 3), which patches are kept (batch, kept), whole numbers from 0]
    Output: what the model gives

    Use `predict` or `predict_on_batch`, as of any Keras model. Tokens in front of those of the patches are all kept.

    Args:
        model: any Keras model with one `PatchEncoder`, however deep inside.
        kept: number of patches that each image keeps.

    Raises:
        ValueError: if the model needs all its tokens: lays them out as their grid again, or has positions or windows
            between or in its blocks.
    """

    def __init__(self, model, kept):
        super().__init__(name=f"{model.name}_kept")
        encoders = layers_of(model, PatchEncoder)
        inside = [layer for encoder in encoders for layer in layers_of(encoder, Positions)]
        whole = [layer for layer in layers_of(model, NEED_ALL) if layer not in inside]
        if whole:
            raise ValueError(
                "Expected a model that takes any number of its tokens. "
                f"Received: {model.name!r}, whose {type(whole[0]).__name__} needs all of them"
            )
        self.model, self.kept = model, kept

    def call(self, inputs):
        images, patches = inputs
        # The blocks read the number of tokens off the shape, which has to be known while a graph is made.
        patches = ops.reshape(ops.cast(patches, "int32"), (-1, self.kept, 1))

        def keep(encoder, tokens):
            extra = encoder.extra_tokens
            some = ops.take_along_axis(tokens[:, extra:], patches, axis=1)  # (batch, kept, hidden_size)
            return ops.concatenate([tokens[:, :extra], some], axis=1) if extra else some

        with changed(layers_of(self.model, PatchEncoder), "output", keep):
            return self.model(images, training=False)


def occlusion_grid(model):
    """Returns the (rows, columns) of a model's patches; None for one that does not encode patches just once."""
    patches = layers_of(model, Patches)
    return tuple(patches[0].grid) if len(patches) == len(layers_of(model, PatchEncoder)) == 1 else None


def random_order(images, patches, seed=0):
    """Returns the order in which patches are dropped, (images, patches), another one for each image."""
    return np.stack([np.random.default_rng((seed, i)).permutation(patches) for i in range(images)])


def salient_order(salience):
    """Returns the order of (images, rows, columns), the highest first, as (images, rows * columns)."""
    return np.argsort(-salience.reshape(len(salience), -1), axis=1, kind="stable")


def greyed(image, patches, grid):
    """Returns an image of which some patches are grey.

    Args:
        image: of any size.
        patches: numbers of the grid's places, row by row from 0.
        grid: (rows, columns). Where it does not divide the sides, each pixel belongs to the patch it lies in.
    """
    gone = np.zeros(grid, bool)
    gone.flat[patches] = True
    rows, columns = (np.arange(side) * parts // side for side, parts in zip(image.shape, grid))
    return np.where(gone[rows][:, columns, None], np.uint8(_GREY), image)


def shuffled(image, squares, generator):
    """Returns an image, cut into squares x squares parts and put together in a random order.

    Nothing is resized and no pixel is lost: where the sides are no multiples, some parts are larger than others by a
    row or a column of pixels, and parts change places with those of their own shape.
    """
    rows, columns = ([*np.arange(squares + 1) * side // squares] for side in image.shape[:2])
    alike = {}
    for top, bottom in zip(rows, rows[1:]):
        for left, right in zip(columns, columns[1:]):
            alike.setdefault((bottom - top, right - left), []).append(np.s_[top:bottom, left:right])
    result = np.empty_like(image)
    for places in alike.values():
        for place, source in zip(places, generator.permutation(len(places))):
            result[place] = image[places[source]]
    return result


def shifted(image, distance, generator):
    """Returns an image, moved by so many pixels in a random direction; its edge is repeated where it leaves a gap."""
    angle = generator.uniform(0, 2 * np.pi)
    top, left = np.rint(distance * np.array([1 + np.sin(angle), 1 + np.cos(angle)])).astype(int)
    wide = np.pad(image, [(distance, distance)] * 2 + [(0, 0)], mode="edge")
    return wide[top : top + image.shape[0], left : left + image.shape[1]]
