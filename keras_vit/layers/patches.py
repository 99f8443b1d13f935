"""Patches and their embedding: from images to tokens, and from tokens back to a feature map."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_vit.layers.composite import Composite, Shape
from keras_vit.layers.hooks import through_hooks
from keras_vit.layers.initializers import initial
from keras_vit.layers.positions import Positions
from keras_vit.preprocessing import PixelsLike, as_pixels


@keras.saving.register_keras_serializable(package="keras_vit")
class Patches(keras.layers.Layer):
    """Cuts images into square patches, row by row, and flattens each.

    Input:  (batch, height, width, channels)
    Output: (batch, patches, patch_size * patch_size * channels)

    Args:
        patch_size: side of a patch, in pixels.
        drop_remainder: whether pixels at the bottom and on the right that do not fill a patch are dropped, as in the
            official code; otherwise, an image that has such pixels is refused.
        pixels: the pixel contract with which the weights of the following layers were trained: a `keras_vit.Pixels`,
            its fields, or None for the official code's, -1 to 1. The layer does not compute with it: it stores it, so
            that every model composed of these layers has it.

    Attributes:
        grid: (rows, columns) of patches, once built.

    Raises:
        ValueError: at build time, if the image's height or width is unknown, smaller than a patch or, without
            `drop_remainder`, not a multiple of `patch_size`.

    Example:
        ```python
        patches = keras_vit.layers.Patches(patch_size=8)
        assert patches(np.ones((1, 32, 48, 3))).shape == (1, 4 * 6, 8 * 8 * 3)
        assert patches.grid == (4, 6)
        ```

    Source: arXiv:2010.11929, section 3.1.
    """

    def __init__(
        self, patch_size: int, drop_remainder: bool = False, pixels: PixelsLike | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.patch_size = patch_size
        self.drop_remainder = drop_remainder
        self.pixels = as_pixels(pixels)

    def get_config(self) -> dict[str, Any]:
        own = {"patch_size": self.patch_size, "drop_remainder": self.drop_remainder}
        return {**super().get_config(), **own, "pixels": dataclasses.asdict(self.pixels)}

    def build(self, input_shape: Shape) -> None:
        p = self.patch_size
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                "Expected images of known size, (batch, height, width, channels), as every position has a weight. "
                f"Received: input_shape={tuple(input_shape[1:])}"
            )
        if any(side < p or (side % p and not self.drop_remainder) for side in input_shape[1:3]):
            below, above = (
                tuple(max(p, (side // p + up * (side % p > 0)) * p) for side in input_shape[1:3]) for up in (0, 1)
            )
            fit = f"{below[0]} x {below[1]}" + (f" and {above[0]} x {above[1]}" if above != below else "")
            raise ValueError(
                f"Expected height and width to be multiples of the patch size, {p} pixels. "
                f"Received: input_shape={tuple(input_shape[1:])}. The nearest that fit: {fit} pixels"
            )
        self.grid = input_shape[1] // p, input_shape[2] // p

    def call(self, images: Any) -> Any:
        p = self.patch_size
        channels = images.shape[3]
        rows, columns = (side // p for side in images.shape[1:3])
        if (rows * p, columns * p) != tuple(images.shape[1:3]):
            images = images[:, : rows * p, : columns * p]
        # Two reshapes around one 4-D transpose: GPU delegates of phones refuse tensors above 4-D.
        x = ops.reshape(images, (-1, p, columns, p * channels))  # (batch * rows, p, columns, p * channels)
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, rows * columns, p * p * channels))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, channels = input_shape
        p = self.patch_size
        return batch, (height // p) * (width // p), p * p * channels


@keras.saving.register_keras_serializable(package="keras_vit")
class PatchEncoder(Composite):
    """Patch embedding: projects flattened patches, and adds class token, register tokens and position embedding.

    Each patch is projected to `hidden_size` channels, a learned class token is put in front, and a learned position
    embedding is added to every token, the class token included. DeiT's distillation token follows the class token;
    register tokens follow them and have no position.

    Input:  (batch, patches, patch_size * patch_size * channels), of any float type
    Output: (batch, tokens, hidden_size), the tokens in front and then those of the patches

    Args:
        hidden_size: length of a token; 768 for ViT-B.
        class_token: whether there is a class token.
        dropout: dropout rate after the position embedding.
        distillation_token: whether DeiT's distillation token follows the class token.
        position_resize: how these positions were interpolated to another image size, if they were; a record only.
        register_tokens: number of register tokens.
        positions: "learned", or another kind of `Positions`; "none" where positions are added elsewhere or not at all.
        grid: (rows, columns) of patches, where `positions` needs it.
        patch_bias: whether the projection has a bias.

    Raises:
        ValueError: at build time, if the number of patches is unknown, as each has a position.

    Example:
        ```python
        encoder = keras_vit.layers.PatchEncoder(hidden_size=8, register_tokens=4)
        assert encoder(np.ones((1, 6, 192), "float32")).shape == (1, 1 + 4 + 6, 8)
        assert encoder.position_embedding.shape == (1, 1 + 6, 8)
        ```

    Source: arXiv:2010.11929, eq. 1. The official code projects with a strided convolution, whose kernel (patch_size,
    patch_size, channels, hidden_size), flattened, is this layer's.
    """

    def __init__(
        self,
        hidden_size: int,
        class_token: bool = True,
        dropout: float = 0.0,
        distillation_token: bool = False,
        position_resize: str | None = None,
        register_tokens: int = 0,
        positions: str = "learned",
        grid: Sequence[int] | None = None,
        patch_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.has_class_token = class_token
        self.has_distillation_token = distillation_token
        self.position_resize = position_resize
        self.num_registers = register_tokens
        self.has_position_table = positions == "learned"
        self.positions = None
        if positions not in ("learned", "none"):
            self.positions = Positions(positions, grid or (), name="positions", dtype=self.dtype_policy)
        self.projection = keras.layers.Dense(
            hidden_size,
            use_bias=patch_bias,
            kernel_initializer=initial("lecun_normal"),
            name="projection",
            dtype=self.dtype_policy,
        )
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=self.dtype_policy)

    @property
    def extra_tokens(self) -> int:
        """Number of tokens in front of those of the patches."""
        return int(self.has_class_token) + int(self.has_distillation_token) + self.num_registers

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 3 or input_shape[1] is None:
            raise ValueError(
                "Expected patches (batch, patches, values) with a known number of patches, as each has a position. "
                f"Received: input_shape={tuple(input_shape)}"
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

    def call(self, patches: Any, training: bool | None = None) -> Any:
        return self.assemble(through_hooks(self, "embeddings", self.projection(patches)), training=training)

    def assemble(self, x: Any, training: bool | None = None) -> Any:
        """Returns the tokens of projected patches, with the tokens in front of them and with positions.

        Args:
            x: projected patches, (batch, patches, hidden_size).
            training: whether dropout is applied.
        """
        front: list[Any] = [self.class_token] if self.has_class_token else []
        front += [self.distillation_token] if self.has_distillation_token else []
        if front:
            x = ops.concatenate([*(self._each(token, x) for token in front), x], axis=1)
        if self.has_position_table:
            x = x + through_hooks(self, "positions", self.position_embedding)
        elif self.positions:
            x = self.positions(x)
        if self.num_registers:
            own, patches = x[:, : len(front)], x[:, len(front) :]
            x = ops.concatenate([own, self._each(self.register_tokens, x), patches], axis=1)
        return self.dropout(x, training=training)

    def _each(self, tokens: Any, x: Any) -> Any:
        """Returns learned tokens repeated for each image."""
        return ops.broadcast_to(tokens, (ops.shape(x)[0], *tokens.shape[1:]))

    def position_values(self) -> Any:
        """Returns the positions of the tokens that have one, (1, tokens, hidden_size); None without positions."""
        if self.has_position_table:
            return self.position_embedding
        return self.positions.values() if self.positions else None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], input_shape[1] + self.extra_tokens, self.hidden_size


@keras.saving.register_keras_serializable(package="keras_vit")
class TokenMap(keras.layers.Layer):
    """Reshapes patch tokens to a feature map; tokens in front of them are dropped.

    Input:  (batch, tokens, hidden_size)
    Output: (batch, rows, columns, hidden_size)

    Args:
        grid: (rows, columns) of patches.

    Example:
        ```python
        token_map = keras_vit.layers.TokenMap(grid=(4, 6))
        assert token_map(np.ones((1, 1 + 4 * 6, 8))).shape == (1, 4, 6, 8)
        ```
    """

    def __init__(self, grid: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = tuple(grid)

    def call(self, tokens: Any) -> Any:
        rows, columns = self.grid
        return ops.reshape(tokens[:, -rows * columns :], (-1, rows, columns, tokens.shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], *self.grid, input_shape[-1]
