"""From an image to tokens: cutting it into patches, and encoding them."""

import dataclasses

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.hooks import through_hooks
from keras_vit.layers.initializers import initial
from keras_vit.layers.positions import Positions
from keras_vit.preprocessing import as_pixels


@keras.saving.register_keras_serializable(package="keras_vit")
class Patches(keras.layers.Layer):
    """Cuts images into square patches, row by row, and flattens each.

    Input:  (batch, rows, columns, channels)
    Output: (batch, patches, patch_size * patch_size * channels)

    Args:
        patch_size: side of a patch, in pixels.
        drop_remainder: whether rows and columns that fill no patch are left out, at the bottom and on the right, as
            the official code does; otherwise they are refused.
        pixels: the pixel contract that the weights behind this layer were trained with, a `keras_vit.Pixels` or its
            fields; None is the official code's, -1 to 1. The layer computes nothing with it: it is where a model
            that is composed of our layers keeps it.

    Attributes:
        grid: (rows, columns) of patches, once built.

    Raises:
        ValueError: at build time, if a side of the image is open, smaller than a patch or, without
            `drop_remainder`, not a multiple of `patch_size`.

    Source: arXiv:2010.11929, section 3.1.
    """

    def __init__(self, patch_size, drop_remainder=False, pixels=None, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.drop_remainder = drop_remainder
        self.pixels = as_pixels(pixels)

    def get_config(self):
        own = {"patch_size": self.patch_size, "drop_remainder": self.drop_remainder}
        return {**super().get_config(), **own, "pixels": dataclasses.asdict(self.pixels)}

    def build(self, input_shape):
        p = self.patch_size
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                "Expected images of known size, (batch, rows, columns, channels): every position has a weight. "
                f"Received: input_shape={tuple(input_shape[1:])}"
            )
        if any(side < p or (side % p and not self.drop_remainder) for side in input_shape[1:3]):
            below, above = (
                tuple(max(p, (side // p + up * (side % p > 0)) * p) for side in input_shape[1:3]) for up in (0, 1)
            )
            fit = f"{below[0]} x {below[1]}" + (f" and {above[0]} x {above[1]}" if above != below else "")
            raise ValueError(
                f"Expected sides that are multiples of the patch size, {p} pixels. "
                f"Received: input_shape={tuple(input_shape[1:])}. The nearest that fit: {fit} pixels"
            )
        self.grid = input_shape[1] // p, input_shape[2] // p

    def call(self, images):
        p = self.patch_size
        channels = images.shape[3]
        rows, columns = (side // p * p for side in images.shape[1:3])
        if (rows, columns) != tuple(images.shape[1:3]):
            images = images[:, :rows, :columns]
        # Two reshapes around one 4-D transpose: GPU delegates of phones refuse tensors above 4-D.
        x = ops.reshape(
            images, (-1, p, columns // p, p * channels)
        )  # (batch * grid rows, p, grid columns, p * channels)
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, (rows // p) * (columns // p), p * p * channels))

    def compute_output_shape(self, input_shape):
        batch, rows, columns, channels = input_shape
        p = self.patch_size
        return batch, (rows // p) * (columns // p), p * p * channels


@keras.saving.register_keras_serializable(package="keras_vit")
class PatchEncoder(Composite):
    """Turns flat patches into the tokens the transformer reads.

    Each patch is projected to `hidden_size` numbers, a learned class token is put in front, and a learned
    position is added to every token, the class token's too. DeiT has a second token of that kind; registers stand
    behind them and have no position.

    Input:  (batch, patches, patch_size * patch_size * channels), any float
    Output: (batch, patches + 1, hidden_size), token 0 the class token; (batch, patches, hidden_size) without it; as
        many more as there are registers

    Args:
        hidden_size: width of a token; 768 for ViT-B.
        class_token: whether there is a class token.
        dropout: rate of the dropout that follows the positions.
        distillation_token: whether DeiT's second token follows the class token.
        position_resize: how these positions were resized, where they were; for the record.
        register_tokens: how many registers there are.
        positions: "learned", or the kind of `Positions`; "none" where they are added elsewhere or not at all.
        grid: (rows, columns) of patches, where `positions` needs it.

    Raises:
        ValueError: at build time, if the number of patches is open: the position table has a row per token.

    Source: arXiv:2010.11929, eq. 1. The official code projects with a strided convolution, whose
    kernel (p, p, channels, hidden_size), flattened, is this layer's.
    """

    def __init__(
        self,
        hidden_size,
        class_token=True,
        dropout=0.0,
        distillation_token=False,
        position_resize=None,
        register_tokens=0,
        positions="learned",
        grid=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.has_class_token = class_token
        self.has_distillation_token = distillation_token
        self.position_resize = position_resize
        self.num_registers = register_tokens
        self.has_position_table = positions == "learned"
        self.positions = (
            None
            if positions in ("learned", "none")
            else Positions(positions, grid, name="positions", dtype=self.dtype_policy)
        )
        self.projection = keras.layers.Dense(
            hidden_size, kernel_initializer=initial("lecun_normal"), name="projection", dtype=self.dtype_policy
        )
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    @property
    def extra_tokens(self):
        """Number of tokens in front of those of the patches."""
        return int(self.has_class_token) + int(self.has_distillation_token) + self.num_registers

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[1] is None:
            raise ValueError(
                "Expected (batch, patches, patch values) with a known number of patches: the position table has a row "
                f"per token. Received: input_shape={tuple(input_shape)}"
            )
        self.projection.build(input_shape)
        if self.has_class_token:
            self.class_token = self.add_weight(name="class_token", shape=(1, 1, self.hidden_size), initializer="zeros")
        if self.has_distillation_token:
            self.distillation_token = self.add_weight(
                name="distillation_token", shape=(1, 1, self.hidden_size), initializer="zeros"
            )
        if self.num_registers:
            self.register_tokens = self.add_weight(
                name="register_tokens",
                shape=(1, self.num_registers, self.hidden_size),
                initializer=initial(keras.initializers.RandomNormal(stddev=1e-6)),
            )
        placed = input_shape[1] + self.extra_tokens - self.num_registers  # tokens that have a position
        if self.has_position_table:
            self.position_embedding = self.add_weight(
                name="position_embedding",
                shape=(1, placed, self.hidden_size),
                initializer=initial(keras.initializers.RandomNormal(stddev=0.02)),
            )
        elif self.positions:
            self.positions.build((input_shape[0], placed, self.hidden_size))

    def call(self, patches, training=None):
        return self.assemble(through_hooks(self, "embeddings", self.projection(patches)), training=training)

    def assemble(self, x, training=None):
        """Returns the tokens of projected patches, (batch, patches, hidden_size): those in front, and positions."""
        front = [self.class_token] if self.has_class_token else []
        front += [self.distillation_token] if self.has_distillation_token else []
        if front:
            x = ops.concatenate([*(self._each(token, x) for token in front), x], axis=1)
        if self.has_position_table:
            x = x + self.position_embedding
        elif self.positions:
            x = self.positions(x)
        if self.num_registers:
            own, patches = x[:, : len(front)], x[:, len(front) :]
            x = ops.concatenate([own, self._each(self.register_tokens, x), patches], axis=1)
        return self.dropout(x, training=training)

    def _each(self, tokens, x):
        """Returns learned tokens once for each image."""
        return ops.broadcast_to(tokens, (ops.shape(x)[0], *tokens.shape[1:]))

    def position_values(self):
        """Returns the positions of the tokens that have one, (1, tokens, hidden_size); None where there are none."""
        if self.has_position_table:
            return self.position_embedding
        return self.positions.values() if self.positions else None

    def compute_output_shape(self, input_shape):
        return input_shape[0], input_shape[1] + self.extra_tokens, self.hidden_size


@keras.saving.register_keras_serializable(package="keras_vit")
class TokenMap(keras.layers.Layer):
    """Lays the tokens of the patches out as their grid again, and leaves those in front of them away.

    Input:  (batch, tokens, hidden_size)
    Output: (batch, rows, columns, hidden_size)

    Args:
        grid: (rows, columns) of patches.
    """

    def __init__(self, grid, **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)

    def call(self, tokens):
        rows, columns = self.grid
        return ops.reshape(tokens[:, -rows * columns :], (-1, rows, columns, tokens.shape[-1]))

    def compute_output_shape(self, input_shape):
        return input_shape[0], *self.grid, input_shape[-1]
