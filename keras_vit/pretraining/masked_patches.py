"""Masked patch prediction: a Vision Transformer predicts the mean colours of corrupted patches."""

from typing import Any

import keras
from keras import ops

from keras_vit.pretraining.pretext import GREY, PretextTask, gather_patches, gather_patches_by_matmul
from keras_vit.pretraining.targets import colours_of, mean_colours, number_of_colours

MASKED, SWAPPED = 0.8, 0.1  # fractions of the corrupted patches; the others keep their own embedding


@keras.saving.register_keras_serializable(package="keras_vit")
class MaskedPatches(PretextTask):
    """Masked patch prediction: classifies the mean colour of corrupted patches, 3 bits a channel (512 for RGB).

    Of the corrupted patches, 80 % are replaced by a learned mask token, 10 % by another patch of the image, and 10 %
    stay as they are. The loss is the softmax cross-entropy, the metric the accuracy of the colours.

    Input:  (batch, height, width, channels), the input of `vit`
    Output: (batch, 2) float32: loss and colour accuracy of each image

    Args:
        vit: a Vision Transformer without a head.
        mask_ratio: fraction of the patches that is corrupted.
        kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: as `PretextTask`, or if images have more than 4 channels.

    Example:
        ```python
        variant = keras_vit.Variant(8, 32, 1, 2, 64)
        vit = keras_vit.build(variant, include_top=False, pooling="gap", input_shape=(32, 32, 3), weights=None)
        task = keras_vit.pretraining.MaskedPatches(vit)
        assert task(np.zeros((5, 32, 32, 3))).shape == (5, 2)
        ```

    Source: arXiv:2010.11929, appendix B.1.2.
    """

    def __init__(self, vit: keras.Model, mask_ratio: float = 0.5, **kwargs: Any) -> None:
        super().__init__(vit, mask_ratio, **kwargs)
        self.num_mask_tokens, self.num_swapped = (round(part * self.num_masked) for part in (MASKED, SWAPPED))
        # Zeros, as in every new head; float32 under any dtype policy.
        self.colours = keras.layers.Dense(
            number_of_colours(vit.input.shape[-1]), kernel_initializer="zeros", name="colours", dtype="float32"
        )

    def build(self, input_shape: Any) -> None:
        """Builds the mask token and the head."""
        hidden_size = self.encoder.hidden_size
        self.mask_token = self.add_weight(
            name="mask_token", shape=(1, 1, hidden_size), initializer=keras.initializers.RandomNormal(stddev=0.02)
        )
        self.colours.build((None, self.num_masked, hidden_size))

    def predict(self, images: Any, order: Any, training: bool | None = None) -> Any:
        """Returns the logits of the colours of the corrupted patches, (batch, num_masked, colours)."""

        def corrupted(encoder: keras.layers.Layer, embeddings: Any) -> Any:
            return self.corrupt(embeddings, order)

        tokens = self.encode(images, "embeddings", corrupted, training)[:, -self.num_patches :]
        return self.colours(gather_patches_by_matmul(tokens, order[:, : self.num_masked]))

    def corrupt(self, embeddings: Any, order: Any) -> Any:
        """Corrupts the embeddings of the first patches in `order`; (batch, patches, hidden_size)."""
        x, masked, swapped = gather_patches_by_matmul(embeddings, order), self.num_mask_tokens, self.num_swapped
        mask = ops.broadcast_to(ops.cast(self.mask_token, x.dtype), ops.shape(x[:, :masked]))
        # The order is random, so the next patch is another patch at random.
        x = ops.concatenate([mask, x[:, masked + 1 : masked + swapped + 1], x[:, masked + swapped :]], axis=1)
        return gather_patches_by_matmul(x, ops.argsort(order, axis=1))

    def evaluate(self, patches: Any, order: Any, predictions: Any) -> Any:
        """Returns the loss and the colour accuracy of each image, (batch, 2)."""
        targets = self._targets(patches, order)
        losses = ops.sparse_categorical_crossentropy(targets, predictions, from_logits=True)  # (batch, num_masked)
        correct = ops.cast(ops.equal(ops.argmax(predictions, axis=-1), targets), "float32")
        return ops.stack([ops.mean(losses, axis=1), ops.mean(correct, axis=1)], axis=1)

    def _targets(self, patches: Any, order: Any) -> Any:
        return ops.take_along_axis(mean_colours(patches, self.pixels), order[:, : self.num_masked], axis=1)

    def reconstruct(self, patches: Any, order: Any, predictions: Any) -> tuple[Any, Any]:
        """Returns the corrupted patches as the model sees them and as predicted, (batch, num_masked, values) each."""
        x, end = gather_patches(patches, order), self.num_mask_tokens + self.num_swapped
        grey = ops.zeros_like(x[:, : self.num_mask_tokens]) + self.uniform_patches(ops.full((self.channels,), GREY))
        seen = ops.concatenate([grey, x[:, self.num_mask_tokens + 1 : end + 1], x[:, end : self.num_masked]], axis=1)
        return seen, self.uniform_patches(colours_of(ops.argmax(predictions, axis=-1), self.channels))
