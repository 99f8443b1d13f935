"""Masked patch prediction: a Vision Transformer guesses the colours of corrupted patches."""

import keras
from keras import ops

from keras_vit.pretraining.pretext import GREY, PretextTask, picked, picked_by_product
from keras_vit.pretraining.targets import colours_of, mean_colours, number_of_colours

MASKED, SWAPPED = 0.8, 0.1  # parts of the corrupted patches; the rest stay as they are


@keras.saving.register_keras_serializable(package="keras_vit")
class MaskedPatches(PretextTask):
    """Guesses the mean colour of corrupted patches, 3 bits a channel: 512 classes for RGB.

    Of the corrupted patches, 80 % have a learned embedding in place of their own, 10 % that of another patch of the
    image, and 10 % their own. The loss is the softmax cross-entropy, the share that of the right colours.

    Args:
        vit: as of `PretextTask`.
        share: part of the patches that is corrupted.

    Raises:
        ValueError: as `PretextTask` does, or if images have more channels than there can be colours of.

    Source: arXiv:2010.11929, appendix B.1.2.
    """

    def __init__(self, vit, share=0.5, **kwargs):
        super().__init__(vit, share, **kwargs)
        self.masked, self.swapped = (round(part * self.taken) for part in (MASKED, SWAPPED))
        # Zeros, as of any head of ours; float32 under any policy.
        self.colours = keras.layers.Dense(
            number_of_colours(vit.input.shape[-1]), kernel_initializer="zeros", name="colours", dtype="float32"
        )

    def build(self, input_shape):
        width = self.encoder.hidden_size
        self.mask_token = self.add_weight(
            name="mask_token", shape=(1, 1, width), initializer=keras.initializers.RandomNormal(stddev=0.02)
        )
        self.colours.build((None, self.taken, width))

    def guessed(self, images, order, training=None):
        def change(encoder, embeddings):
            return self.corrupted(embeddings, order)

        tokens = self.encoded(images, "embeddings", change, training)[:, -self.number :]
        return self.colours(picked_by_product(tokens, order[:, : self.taken]))

    def corrupted(self, embeddings, order):
        """Returns embeddings of patches, (batch, patches, hidden_size), of which the first in `order` are corrupted."""
        x, masked, swapped = picked_by_product(embeddings, order), self.masked, self.swapped
        mask = ops.broadcast_to(ops.cast(self.mask_token, x.dtype), ops.shape(x[:, :masked]))
        # In a random order, the next one is another one at random.
        x = ops.concatenate([mask, x[:, masked + 1 : masked + swapped + 1], x[:, masked + swapped :]], axis=1)
        return picked_by_product(x, ops.argsort(order, axis=1))

    def judged(self, patches, order, guesses):
        targets = self._targets(patches, order)
        losses = ops.sparse_categorical_crossentropy(targets, guesses, from_logits=True)  # (batch, taken)
        right = ops.cast(ops.equal(ops.argmax(guesses, axis=-1), targets), "float32")
        return ops.stack([ops.mean(losses, axis=1), ops.mean(right, axis=1)], axis=1)

    def _targets(self, patches, order):
        return ops.take_along_axis(mean_colours(patches, self.pixels), order[:, : self.taken], axis=1)

    def shown(self, patches, order, guesses):
        x, end = picked(patches, order), self.masked + self.swapped
        grey = ops.zeros_like(x[:, : self.masked]) + self.flat(ops.full((self.channels,), GREY))
        seen = ops.concatenate([grey, x[:, self.masked + 1 : end + 1], x[:, end : self.taken]], axis=1)
        return seen, self.flat(colours_of(ops.argmax(guesses, axis=-1), self.channels))
