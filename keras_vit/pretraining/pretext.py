"""What all pretext tasks share: patches chosen at random, and images of what came of it."""

import keras
import numpy as np
from keras import ops

from keras_vit import _arguments as checked
from keras_vit.layers import Patches
from keras_vit.models.hooks import changed

# Of the choices outside training: the same in every evaluation, so that two of them compare.
EVALUATION_SEED = 0
GREY = 128  # a patch that is not seen, in images for people


class PretextTask(keras.layers.Layer):
    """Judges how well a Vision Transformer guesses what was taken from it.

    In training, patches are chosen anew for each image and step; outside it, always the same ones for an image's
    place in the batch.

    Input:  (batch, rows, columns, channels), as the transformer takes them
    Output: (batch, 2) float32: the loss of each image, and a share of 0 to 1, the higher the better

    Args:
        vit: the model that learns, a plain Vision Transformer without a head.
        share: part of the patches that is taken, above 0 and below 1.

    Raises:
        ValueError: if `vit` is none, has a stem or something to learn behind its last norm, or cuts its images into
            fewer than two patches.
    """

    def __init__(self, vit, share, **kwargs):
        # Images and losses are float32 under any policy; the layers inside follow theirs.
        super().__init__(**{"dtype": "float32", **kwargs})
        if not isinstance(vit, keras.Model):
            raise ValueError(f"Expected a Keras model, the Vision Transformer that learns. Received: vit={vit!r}")
        share = checked.number("share", share, "above 0 and below 1", lambda share: 0 < share < 1)
        names = [layer.name for layer in vit.layers]
        if "stem" in names or not {"patches", "encoder", "norm"} <= set(names):
            raise ValueError(
                "Expected a plain Vision Transformer: a stem of convolutions sees across the patches. "
                f"Received: {vit.name!r}"
            )
        if untrained := [layer.name for layer in vit.layers[names.index("norm") + 1 :] if layer.weights]:
            raise ValueError(
                "Expected nothing to learn behind the last norm, where no pretext task reaches: pooling 'token', 'gap' "
                f"or 'none', and no head. Received: {vit.name!r} with {', '.join(untrained)}"
            )
        self.vit, self.share = vit, share
        self.encoder = vit.get_layer("encoder")
        self.patches = Patches(vit.get_layer("patches").patch_size, name="true_patches", dtype="float32")
        self.patches.build(vit.input.shape)
        self.tokens = keras.Model(vit.input, vit.get_layer("norm").output)
        rows, columns = self.patches.grid
        self.number = rows * columns
        if self.number < 2:
            raise ValueError(f"Expected two patches or more. Received: {rows} x {columns} patches")
        self.taken = min(max(round(share * self.number), 1), self.number - 1)
        self.channels = vit.input.shape[-1]
        self.pixels = vit.pixels.for_channels(self.channels)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images, training=None):
        order = self.random_order(ops.shape(images)[0], training)
        return self.judged(self.patches(images), order, self.guessed(images, order, training))

    def guessed(self, images, order, training=None):
        """Returns what is guessed of the patches that are taken, (batch, taken, ...)."""
        raise NotImplementedError

    def judged(self, patches, order, guesses):
        """Returns losses and shares, (batch, 2), of what `guessed` gave; `patches` are the true ones."""
        raise NotImplementedError

    def shown(self, patches, order, guesses):
        """Returns the taken patches as the transformer saw them, and as it guesses them, scaled like `patches`."""
        raise NotImplementedError

    def random_order(self, batch, training=None):
        """Returns the numbers of the patches in a random order, (batch, patches); the first `taken` are taken."""
        seed = self.seed_generator if training else EVALUATION_SEED
        return ops.argsort(keras.random.uniform((batch, self.number), seed=seed), axis=1)

    def encoded(self, images, point, change, training=None):
        """Returns the tokens after the last norm, of which `change` changes the encoder's value at a point."""
        with changed([self.encoder], point, change):
            return self.tokens(images, training=training)

    def reconstructions(self, images):
        """Returns images as they are, as the transformer sees them, and as it guesses them.

        Args:
            images: (batch, rows, columns, channels), as the transformer takes them.

        Returns:
            Three arrays of that shape, uint8.
        """
        patches = self.patches(ops.convert_to_tensor(images, "float32"))
        order = self.random_order(len(images))
        new = self.shown(patches, order, self.guessed(images, order, training=False))
        place, rest = ops.argsort(order, axis=1), picked(patches, order[:, self.taken :])
        mixed = [picked(ops.concatenate([some, rest], axis=1), place) for some in new]
        return tuple(self._laid_out(ops.convert_to_numpy(some)) for some in (patches, *mixed))

    def _laid_out(self, patches):
        side, (rows, columns) = self.patches.patch_size, self.patches.grid
        x = patches.reshape(-1, rows, columns, side, side, self.channels).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, rows * side, columns * side, self.channels)
        return np.rint((x - self.pixels.offset) / self.pixels.scale).clip(0, 255).astype("uint8")

    def flat(self, colours):
        """Returns patches of one colour each, (..., channels) of 0 to 255, scaled: (..., patch values)."""
        scaled = colours * np.float32(self.pixels.scale) + np.float32(self.pixels.offset)
        return ops.tile(scaled, [1] * (len(scaled.shape) - 1) + [self.patches.patch_size**2])

    def compute_output_shape(self, input_shape):
        return input_shape[0], 2

    def get_config(self):
        return {**super().get_config(), "vit": keras.saving.serialize_keras_object(self.vit), "share": self.share}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "vit": keras.saving.deserialize_keras_object(config["vit"])})


def picked(x, numbers):
    """Returns rows of (batch, rows, width) by their numbers, (batch, some): (batch, some, width), to the last bit."""
    return ops.take_along_axis(x, numbers[:, :, None], axis=1)


def picked_by_product(x, numbers):
    """Returns the same, by a matrix product: its gradient is one, too, where that of `picked` is slow."""
    return ops.matmul(ops.one_hot(numbers, x.shape[1], dtype=x.dtype), x)
