"""Masked autoencoder: a Vision Transformer sees few patches, and a light decoder paints the others."""

import keras
from keras import ops

from keras_vit.layers import Positions, RelativeBlock, TransformerBlock, WindowBlock
from keras_vit.pretraining.pretext import GREY, PretextTask, picked, picked_by_product
from keras_vit.pretraining.targets import moments

# Layers of a transformer that need all patches in their places.
_BOUND = (Positions, RelativeBlock, WindowBlock)
HEAD_DIM = 32  # of the decoder's attention, about: 16 heads of the published width, 512
LEAST_VARIANCE = 1e-2  # of the hidden pixels of an image, each patch's own standard deviation being 1


@keras.saving.register_keras_serializable(package="keras_vit")
class MaskedAutoencoder(PretextTask):
    """Paints the patches that the transformer does not see, from those few that it does.

    The transformer's blocks work on the visible patches alone. A light decoder has these back in their places, a
    learned token in all others, and fixed positions. The loss is the mean squared error on the pixels of the hidden
    patches, less each patch's mean and over its standard deviation. The share is how much of the variance of these is
    explained; 0 where the error is larger.

    Args:
        vit: as of `PretextTask`, with blocks that take any number of tokens.
        share: part of the patches that is hidden.
        decoder_layers: blocks of the decoder.
        decoder_size: width of its tokens, a multiple of 4; None is half of the transformer's.

    Raises:
        ValueError: as `PretextTask` does, or if the decoder's width is no multiple of 4, or `vit` has positions between
            its blocks, relative ones, or windowed or axial attention.

    Source: arXiv:2111.06377.
    """

    def __init__(self, vit, share=0.75, decoder_layers=8, decoder_size=None, **kwargs):
        super().__init__(vit, share, **kwargs)
        bound = sorted({type(layer).__name__ for layer in vit.layers if isinstance(layer, _BOUND)})
        size = decoder_size or self.encoder.hidden_size // 2
        if bound or size % 4:
            raise ValueError(
                "Expected a transformer with positions at the stem and full attention, as it sees few of the patches, "
                f"and decoder_size a multiple of 4. Received: {vit.name!r} with layers {bound}, decoder_size={size}"
            )
        self.decoder_layers, self.decoder_size = decoder_layers, size
        heads = next(number for number in range(max(size // HEAD_DIM, 1), 0, -1) if size % number == 0)
        self.decoder_projection = keras.layers.Dense(size, name="decoder_projection")
        self.decoder_positions = Positions("sincos-2d", self.patches.grid, name="decoder_positions")
        self.decoder = [TransformerBlock(heads, 4 * size, name=f"decoder_block_{i:02d}") for i in range(decoder_layers)]
        self.decoder_norm = keras.layers.LayerNormalization(epsilon=1e-6, name="decoder_norm")
        # Zeros, as of any head of ours: at first every pixel is guessed to be its patch's mean.
        self.painter = keras.layers.Dense(
            self.patches.patch_size**2 * self.channels, kernel_initializer="zeros", name="pixels", dtype="float32"
        )

    def build(self, input_shape):
        extra, size = self.encoder.extra_tokens, self.decoder_size
        self.mask_token = self.add_weight(
            name="mask_token", shape=(1, 1, size), initializer=keras.initializers.RandomNormal(stddev=0.02)
        )
        self.decoder_projection.build((None, extra + self.number - self.taken, self.encoder.hidden_size))
        for layer in (self.decoder_positions, *self.decoder, self.decoder_norm):
            layer.build((None, extra + self.number, size))
        self.painter.build((None, self.taken, size))

    def guessed(self, images, order, training=None):
        extra, visible = self.encoder.extra_tokens, order[:, self.taken :]

        def change(encoder, tokens):
            return ops.concatenate([tokens[:, :extra], picked_by_product(tokens[:, extra:], visible)], axis=1)

        x = self.decoder_positions(self._in_place(self.encoded(images, "output", change, training), order))
        for block in self.decoder:
            x = block(x, training=training)
        return self.painter(picked_by_product(self.decoder_norm(x)[:, extra:], order[:, : self.taken]))

    def _in_place(self, tokens, order):
        """Returns the decoder's tokens, (batch, tokens, decoder_size): the visible ones, a learned one in the gaps."""
        extra, x = self.encoder.extra_tokens, self.decoder_projection(tokens)
        gaps = ops.broadcast_to(ops.cast(self.mask_token, x.dtype), (ops.shape(x)[0], self.taken, self.decoder_size))
        patches = ops.concatenate([gaps, x[:, extra:]], axis=1)
        return ops.concatenate([x[:, :extra], picked_by_product(patches, ops.argsort(order, axis=1))], axis=1)

    def judged(self, patches, order, guesses):
        hidden = picked(patches, order[:, : self.taken])
        mean, deviation = moments(hidden)
        targets = (hidden - mean) / deviation
        losses = ops.mean(ops.square(guesses - targets), axis=(1, 2))
        variances = ops.mean(ops.square(targets), axis=(1, 2))
        explained = ops.clip(1.0 - losses / ops.maximum(variances, LEAST_VARIANCE), 0.0, 1.0)
        return ops.stack([losses, explained], axis=1)

    def shown(self, patches, order, guesses):
        hidden = picked(patches, order[:, : self.taken])
        # What is guessed has no mean and deviation of its own; for the eye, they are the true ones.
        mean, deviation = moments(hidden)
        return ops.zeros_like(hidden) + self.flat(ops.full((self.channels,), GREY)), guesses * deviation + mean

    def get_config(self):
        own = {"decoder_layers": self.decoder_layers, "decoder_size": self.decoder_size}
        return {**super().get_config(), **own}
