"""Pretext task: the base of the pre-training tasks, with random masks and images of the reconstructions."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit import _arguments as checked
from keras_vit.layers import Patches
from keras_vit.models.hooks import changed

# Seed of the masks outside training: all evaluations have the same masks, so that their losses compare.
EVALUATION_SEED = 0
GREY = 128  # colour of hidden patches in images


class PretextTask(keras.layers.Layer):
    """Base of the pre-training tasks, in which a Vision Transformer predicts masked patches.

    In training, each image has a new random mask in each step. Outside training, the mask depends on the image's index
    in the batch alone.

    Input:  (batch, height, width, channels), the input of `vit`
    Output: (batch, 2) float32: the loss and the metric (0 to 1, higher is better) of each image

    Args:
        vit: the model to train, a Vision Transformer without a head, with a norm of its tokens after the blocks.
        mask_ratio: fraction of the patches that is masked, above 0 and below 1.
        kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if `vit` has a stem of convolutions, has no norm of its tokens or weights after that norm, or has
            fewer than two patches an image.
    """

    def __init__(self, vit: keras.Model, mask_ratio: float, **kwargs: Any) -> None:
        # Images and losses are float32 under any dtype policy; the layers inside follow the policy.
        super().__init__(**{"dtype": "float32", **kwargs})
        if not isinstance(vit, keras.Model):
            raise ValueError(f"Expected a Keras model, the Vision Transformer to train. Received: vit={vit!r}")
        mask_ratio = checked.number("mask_ratio", mask_ratio, "above 0 and below 1", lambda ratio: 0 < ratio < 1)
        names = [layer.name for layer in vit.layers]
        if "stem" in names or not {"patches", "encoder", "norm"} <= set(names):
            raise ValueError(
                "Expected a plain Vision Transformer with a norm of its tokens after the blocks, norm_at='tokens', and "
                "without a stem of convolutions, which mixes patches. "
                f"Received: {vit.name!r}"
            )
        if untrained := [layer.name for layer in vit.layers[names.index("norm") + 1 :] if layer.weights]:
            raise ValueError(
                "Expected no weights after the last norm, which a pretext task cannot train: pooling 'token', 'gap' or "
                f"'none', and no head. Received: {vit.name!r} with {', '.join(untrained)}"
            )
        self.vit, self.mask_ratio = vit, mask_ratio
        self.encoder = vit.get_layer("encoder")
        self.patches = Patches(vit.get_layer("patches").patch_size, name="true_patches", dtype="float32")
        self.patches.build(vit.input.shape)
        self.tokens = keras.Model(vit.input, vit.get_layer("norm").output)
        rows, columns = self.patches.grid
        self.num_patches = rows * columns
        if self.num_patches < 2:
            raise ValueError(f"Expected two patches or more. Received: {rows} x {columns} patches")
        self.num_masked = min(max(round(mask_ratio * self.num_patches), 1), self.num_patches - 1)
        self.channels = vit.input.shape[-1]
        self.pixels = vit.pixels.for_channels(self.channels)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns the loss and the metric of each image."""
        order = self.random_order(ops.shape(images)[0], training)
        return self.evaluate(self.patches(images), order, self.predict(images, order, training))

    def predict(self, images: Any, order: Any, training: bool | None = None) -> Any:
        """Returns the predictions for the masked patches, (batch, num_masked, ...)."""
        raise NotImplementedError

    def evaluate(self, patches: Any, order: Any, predictions: Any) -> Any:
        """Returns the loss and the metric of each image, (batch, 2), of predictions; `patches` are the true ones."""
        raise NotImplementedError

    def reconstruct(self, patches: Any, order: Any, predictions: Any) -> tuple[Any, Any]:
        """Returns the masked patches as the transformer sees them and as predicted, scaled like `patches`."""
        raise NotImplementedError

    def random_order(self, batch: Any, training: bool | None = None) -> Any:
        """Returns the indices of the patches in random order, (batch, patches); the first `num_masked` are masked."""
        seed = self.seed_generator if training else EVALUATION_SEED
        return ops.argsort(keras.random.uniform((batch, self.num_patches), seed=seed), axis=1)

    def encode(
        self,
        images: Any,
        point: str,
        change: Callable[[keras.layers.Layer, Any], Any],
        training: bool | None = None,
    ) -> Any:
        """Returns the tokens after the last norm, with the encoder's value at a point changed, as in `changed`."""
        with changed([self.encoder], point, change):
            return self.tokens(images, training=training)

    def reconstructions(self, images: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the original images, the images as the transformer sees them, and their reconstructions.

        Args:
            images: (batch, height, width, channels), the input of `vit`.

        Returns:
            Three uint8 arrays (batch, height, width, channels).
        """
        patches = self.patches(ops.convert_to_tensor(images, "float32"))
        order = self.random_order(len(images))
        seen, predicted = self.reconstruct(patches, order, self.predict(images, order, training=False))
        inverse, visible = ops.argsort(order, axis=1), gather_patches(patches, order[:, self.num_masked :])

        def image_of(masked: Any) -> np.ndarray:
            return self._unpatchify(gather_patches(ops.concatenate([masked, visible], axis=1), inverse))

        return self._unpatchify(patches), image_of(seen), image_of(predicted)

    def _unpatchify(self, patches: Any) -> np.ndarray:
        """Returns the images of scaled patches, uint8."""
        side, (rows, columns) = self.patches.patch_size, self.patches.grid
        x = (
            ops.convert_to_numpy(patches)
            .reshape(-1, rows, columns, side, side, self.channels)
            .transpose(0, 1, 3, 2, 4, 5)
        )
        x = x.reshape(-1, rows * side, columns * side, self.channels)
        return np.rint((x - self.pixels.offset) / self.pixels.scale).clip(0, 255).astype("uint8")

    def uniform_patches(self, colours: Any) -> Any:
        """Returns scaled patches of one colour each, (..., values), of colours (..., channels) of 0 to 255."""
        scaled = colours * np.float32(self.pixels.scale) + np.float32(self.pixels.offset)
        return ops.tile(scaled, [1] * (len(scaled.shape) - 1) + [self.patches.patch_size**2])

    def around(self, vit: keras.Model) -> "PretextTask":
        """Returns the same task around another model of the same architecture, with new weights of its own."""
        return type(self)(**{**self.get_config(), "vit": vit})

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        """Returns (batch, 2)."""
        return input_shape[0], 2

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        vit = keras.saving.serialize_keras_object(self.vit)
        return {**super().get_config(), "vit": vit, "mask_ratio": self.mask_ratio}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PretextTask":
        """Returns a layer with the configuration that `get_config` returns."""
        config = {**config, "vit": keras.saving.deserialize_keras_object(config["vit"])}
        if "share" in config:  # the name of `mask_ratio` in files of November 2026
            config["mask_ratio"] = config.pop("share")
        return cls(**config)


def gather_patches(x: Any, indices: Any) -> Any:
    """Returns patches by their indices, bit for bit: (batch, patches, size), (batch, n) -> (batch, n, size)."""
    return ops.take_along_axis(x, indices[:, :, None], axis=1)


def gather_patches_by_matmul(x: Any, indices: Any) -> Any:
    """Returns the same as `gather_patches`, by a matrix product, whose gradient is faster than that of a gather."""
    return ops.matmul(ops.one_hot(indices, x.shape[1], dtype=x.dtype), x)
