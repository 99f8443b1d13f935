"""Masked autoencoder (MAE): the encoder sees few patches, and a small decoder reconstructs the others."""

from typing import Any

import keras
from keras import ops

from keras_vit.layers import Positions, RelativeBlock, TransformerBlock, WindowBlock
from keras_vit.models.hooks import few_patches, layers_of
from keras_vit.pretraining.pretext import GREY, PretextTask, gather_patches, gather_patches_by_matmul
from keras_vit.pretraining.targets import mean_and_std

# Layers that need all patches, in a grid.
_NEED_GRID = (Positions, RelativeBlock, WindowBlock)
HEAD_DIM = 32  # approximate size of the decoder's heads: 16 heads for the published hidden size of 512
LEAST_VARIANCE = 1e-2  # of the normalized hidden pixels of an image, about 1; near 0 for a flat image


@keras.saving.register_keras_serializable(package="keras_vit")
class MaskedAutoencoder(PretextTask):
    """Masked autoencoder (MAE): reconstructs the pixels of hidden patches from a few visible ones.

    The blocks of the Vision Transformer (the encoder) see the visible patches alone. A small decoder receives their
    tokens, a learned mask token for each hidden patch, and a fixed position embedding. Its blocks have the GELU and the
    epsilon of the encoder's. The loss is the mean squared error of the pixels of the hidden patches, normalized by each
    patch's mean and standard deviation. The metric is the fraction of the variance of these pixels that is explained, 0
    or more.

    Input:  (batch, height, width, channels), the input of `vit`
    Output: (batch, 2) float32: loss and explained variance of each image

    Args:
        vit: a Vision Transformer without a head, with full attention, and with positions before the first block,
            `Rotary` positions or BEiT's relative bias.
        mask_ratio: fraction of the patches that is hidden.
        decoder_layers: number of decoder blocks.
        decoder_size: hidden size of the decoder, a multiple of 4; None is half of the encoder's.
        decoder_heads: attention heads of each decoder block; None for heads of a size of about 32.
        decoder_mlp_dim: hidden size of each decoder block's MLP; None is 4 times `decoder_size`.
        decoder_positions: "sincos-2d", or "learned" for a table that is not trained, as of a file.
        normalized: whether pixels are normalized by their patch.
        kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: as `PretextTask`, or if `decoder_size` is not a multiple of 4 and of `decoder_heads`, or `vit` has
            position embeddings between its blocks, relative positions, or windowed or axial attention.

    Example:
        ```python
        variant = keras_vit.Variant(8, 32, 1, 2, 64)
        vit = keras_vit.build(variant, include_top=False, pooling="gap", input_shape=(32, 32, 3), weights=None)
        mae = keras_vit.pretraining.MaskedAutoencoder(vit, decoder_layers=1)
        assert mae(np.zeros((5, 32, 32, 3))).shape == (5, 2)
        ```

    Source: arXiv:2111.06377.
    """

    def __init__(
        self,
        vit: keras.Model,
        mask_ratio: float = 0.75,
        decoder_layers: int = 8,
        decoder_size: int | None = None,
        decoder_heads: int | None = None,
        decoder_mlp_dim: int | None = None,
        decoder_positions: str = "sincos-2d",
        normalized: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(vit, mask_ratio, **kwargs)
        unsuitable = sorted({type(layer).__name__ for layer in vit.layers if isinstance(layer, _NEED_GRID)})
        size = decoder_size or self.encoder.hidden_size // 2
        if unsuitable or size % 4:
            raise ValueError(
                "Expected a transformer with positions at the stem and full attention, as it sees few of the patches, "
                f"and decoder_size a multiple of 4. Received: {vit.name!r} with layers {unsuitable}, "
                f"decoder_size={size}"
            )
        self.decoder_layers, self.decoder_size = decoder_layers, size
        dividing = (number for number in range(max(size // HEAD_DIM, 1), 0, -1) if size % number == 0)
        self.decoder_heads = decoder_heads or next(dividing)
        self.decoder_mlp_dim, self.normalized = decoder_mlp_dim or 4 * size, normalized
        block = layers_of(vit, TransformerBlock)[0]
        numerics: Any = {"gelu": block.mlp.gelu, "norm_epsilon": block.mlp_norm.epsilon}
        self.decoder_projection = keras.layers.Dense(size, name="decoder_projection")
        self.decoder_positions = Positions(decoder_positions, self.patches.grid, name="decoder_positions")
        self.decoder_positions.trainable = False
        self.decoder = [
            TransformerBlock(self.decoder_heads, self.decoder_mlp_dim, name=f"decoder_block_{i:02d}", **numerics)
            for i in range(decoder_layers)
        ]
        self.decoder_norm = keras.layers.LayerNormalization(epsilon=numerics["norm_epsilon"], name="decoder_norm")
        # Zeros, as in every new head: the initial prediction of every pixel is its patch's mean.
        self.painter = keras.layers.Dense(
            self.patches.patch_size**2 * self.channels, kernel_initializer="zeros", name="pixels", dtype="float32"
        )

    def build(self, input_shape: Any) -> None:
        """Builds the decoder."""
        extra, size = self.encoder.extra_tokens, self.decoder_size
        self.mask_token = self.add_weight(
            name="mask_token", shape=(1, 1, size), initializer=keras.initializers.RandomNormal(stddev=0.02)
        )
        self.decoder_projection.build((None, extra + self.num_patches - self.num_masked, self.encoder.hidden_size))
        for layer in (self.decoder_positions, *self.decoder, self.decoder_norm):
            layer.build((None, extra + self.num_patches, size))
        self.painter.build((None, self.num_masked, size))

    def predict(self, images: Any, order: Any, training: bool | None = None) -> Any:
        """Returns the normalized pixels predicted for the hidden patches, (batch, num_masked, values)."""
        extra = self.encoder.extra_tokens
        with few_patches(self.tokens, order[:, self.num_masked :]):
            x = self.tokens(images, training=training)
        x = self.decoder_positions(self._with_mask_tokens(x, order))
        for block in self.decoder:
            x = block(x, training=training)
        return self.painter(gather_patches_by_matmul(self.decoder_norm(x)[:, extra:], order[:, : self.num_masked]))

    def _with_mask_tokens(self, tokens: Any, order: Any) -> Any:
        """Returns the decoder's input, (batch, tokens, decoder_size): all patches in order, with mask tokens."""
        extra, x = self.encoder.extra_tokens, self.decoder_projection(tokens)
        masks = ops.broadcast_to(
            ops.cast(self.mask_token, x.dtype), (ops.shape(x)[0], self.num_masked, self.decoder_size)
        )
        patches = ops.concatenate([masks, x[:, extra:]], axis=1)
        return ops.concatenate([x[:, :extra], gather_patches_by_matmul(patches, ops.argsort(order, axis=1))], axis=1)

    def evaluate(self, patches: Any, order: Any, predictions: Any) -> Any:
        """Returns the loss and the explained variance of each image, (batch, 2)."""
        hidden = gather_patches(patches, order[:, : self.num_masked])
        mean, std = self._mean_and_std(hidden)
        targets = (hidden - mean) / std
        losses = ops.mean(ops.square(predictions - targets), axis=(1, 2))
        variances = ops.var(targets, axis=(1, 2))
        explained = ops.clip(1.0 - losses / ops.maximum(variances, LEAST_VARIANCE), 0.0, 1.0)
        return ops.stack([losses, explained], axis=1)

    def reconstruct(self, patches: Any, order: Any, predictions: Any) -> tuple[Any, Any]:
        """Returns the hidden patches as grey and as predicted, (batch, num_masked, values) each."""
        hidden = gather_patches(patches, order[:, : self.num_masked])
        # Normalized predictions are shown with the true mean and standard deviation.
        mean, std = self._mean_and_std(hidden)
        return ops.zeros_like(hidden) + self.uniform_patches(ops.full((self.channels,), GREY)), predictions * std + mean

    def _mean_and_std(self, patches: Any) -> tuple[Any, Any]:
        return mean_and_std(patches) if self.normalized else (0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("decoder_layers", "decoder_size", "decoder_heads", "decoder_mlp_dim", "normalized")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "decoder_positions": self.decoder_positions.kind}
