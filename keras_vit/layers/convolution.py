"""Convolution, normalization, stem and bottleneck unit of the ResNets, in the two published orders.

Post-activation (the hybrids' stem, as in a ResNet v1.5): convolution, norm, ReLU, and a ReLU after the sum.
Pre-activation (BiT, a ResNet v2): norm, ReLU, convolution, and nothing after the sum. Weights of one do not fit the
other: the norms differ in their number of channels, and only the first has a norm after a projected shortcut.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_vit.layers.composite import Composite, Shape
from keras_vit.layers.initializers import initial
from keras_vit.preprocessing import PixelsLike, as_pixels

GROUPS = 32


@keras.saving.register_keras_serializable(package="keras_vit")
class StdConv(keras.layers.Conv2D):
    """2-D convolution with weight standardization, without a bias.

    The kernel of each filter is standardized to mean 0 and variance 1.

    Input:  (batch, height, width, channels)
    Output: (batch, ceil(height / strides), ceil(width / strides), filters)

    Args:
        filters, kernel_size, strides: as in `keras.layers.Conv2D`; the kernel size is odd.
        padding: "same" (with a stride, the odd pixel of padding comes last, as in the hybrids), or "symmetric" (half
            the kernel on every side, as in BiT). With a stride, the two differ by a shift of one pixel.
        epsilon: prevents a division by 0.
        epsilon_inside: whether it is added to the variance (True) or to the standard deviation.

    Raises:
        ValueError: if `padding` is unknown.

    Example:
        ```python
        conv = keras_vit.layers.StdConv(filters=4, kernel_size=3, strides=2)
        assert conv(np.ones((1, 7, 9, 3), "float32")).shape == (1, 4, 5, 4)
        assert np.allclose(np.std(conv.standardized(conv.kernel), axis=(0, 1, 2)), 1, atol=1e-3)
        ```

    Source: arXiv:1903.10520; the official `models_resnet.py` (outside) and BiT's `models.py` (inside).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: str = "same",
        epsilon: float = 1e-5,
        epsilon_inside: bool = False,
        **kwargs: Any,
    ) -> None:
        if padding not in ("same", "symmetric"):
            raise ValueError(f"Expected padding to be 'same' or 'symmetric'. Received: padding={padding!r}")
        kwargs = {"use_bias": False, "kernel_initializer": initial("lecun_normal"), **kwargs}
        explicit = padding == "symmetric" and strides != 1 and kernel_size != 1
        super().__init__(filters, kernel_size, strides, "valid" if explicit else "same", **kwargs)
        self.margin = kernel_size // 2 if explicit else 0
        self.epsilon = epsilon
        self.epsilon_inside = epsilon_inside
        self.folded = False
        self._arguments = {
            "filters": filters,
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": padding,
            "epsilon": epsilon,
            "epsilon_inside": epsilon_inside,
        }

    def fold(self) -> None:
        """Replaces the kernel by the standardized one, for a model that is only used for inference, as an export."""
        self.kernel.assign(self.standardized(self.kernel))
        self.folded = True

    def standardized(self, kernel: Any) -> Any:
        """Returns a standardized kernel, float32."""
        shape = kernel.shape
        kernel = ops.transpose(ops.reshape(ops.cast(kernel, "float32"), (-1, shape[-1])))  # (filters, values)
        # Twice: the rounding error of a kernel's mean adds up over a map of positive values. One filter in each row,
        # which is summed more exactly, and the second pass reduce that error to a tenth.
        for _ in range(2):
            kernel = kernel - ops.mean(kernel, axis=1, keepdims=True)
        variance = ops.mean(ops.square(kernel), axis=1, keepdims=True)
        if self.epsilon_inside:
            kernel = kernel * ops.rsqrt(variance + self.epsilon)
        else:
            kernel = kernel / (ops.sqrt(variance) + self.epsilon)
        return ops.reshape(ops.transpose(kernel), shape)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        kernel = kernel if self.folded else self.standardized(kernel)
        if self.margin:
            sides = (self.margin, self.margin)
            inputs = ops.pad(inputs, ((0, 0), sides, sides, (0, 0)))
        return super().convolution_op(inputs, ops.cast(kernel, self.compute_dtype))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, channels = input_shape
        sides = (side and side + 2 * self.margin for side in (height, width))
        return super().compute_output_shape((batch, *sides, channels))

    def get_config(self) -> dict[str, Any]:
        # Not Conv2D's own configuration: its padding would replace that of this layer.
        base = keras.layers.Layer.get_config(self)
        return {**base, **self._arguments}


@keras.saving.register_keras_serializable(package="keras_vit")
class GroupNorm(keras.layers.Layer):
    """Group normalization with 32 groups of channels.

    Takes half the time of `keras.layers.GroupNormalization` on a CPU, and uses tensors of at most four dimensions, as
    phones' delegates require: the moments are computed for each channel and then averaged in each group.

    Input and output: (batch, height, width, channels)

    Args:
        epsilon: prevents a division by 0.
        gamma_initializer: initializer of the scale.

    Raises:
        ValueError: at build time, if the number of channels is unknown or not a multiple of 32.

    Example:
        ```python
        norm = keras_vit.layers.GroupNorm()
        x = np.random.default_rng(0).normal(3, 2, (1, 5, 7, 64)).astype("float32")
        assert abs(np.mean(norm(x))) < 1e-5
        ```

    Source: arXiv:1803.08494.
    """

    def __init__(
        self, epsilon: float = 1e-6, gamma_initializer: str | keras.initializers.Initializer = "ones", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.gamma_initializer = gamma_initializer

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        if channels is None or channels % GROUPS:
            raise ValueError(
                f"Expected a number of channels that is a multiple of {GROUPS}. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.gamma = self.add_weight(name="gamma", shape=(channels,), initializer=self.gamma_initializer)
        self.beta = self.add_weight(name="beta", shape=(channels,), initializer="zeros")

    def call(self, x: Any) -> Any:
        x = ops.cast(x, "float32")  # squares overflow in float16
        x = x - self._by_group(x)
        scale = ops.rsqrt(self._by_group(ops.square(x)) + self.epsilon) * ops.cast(self.gamma, "float32")
        return ops.cast(x * scale + ops.cast(self.beta, "float32"), self.compute_dtype)

    def _by_group(self, x: Any) -> Any:
        """Returns the mean of each channel's group, (batch, 1, 1, channels)."""
        channels = x.shape[-1]
        means = ops.reshape(ops.mean(x, axis=(1, 2)), (-1, GROUPS, channels // GROUPS))
        means = ops.repeat(ops.mean(means, axis=2), channels // GROUPS, axis=1)
        return ops.reshape(means, (-1, 1, 1, channels))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


class _Unit(Composite):
    """A layer with convolutions and norms in one of the two orders."""

    def __init__(
        self,
        preactivation: bool,
        group_norm_epsilon: float,
        conv_epsilon: float,
        conv_epsilon_inside: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preactivation = preactivation
        self.group_norm_epsilon = group_norm_epsilon
        self.conv_epsilon = conv_epsilon
        self.conv_epsilon_inside = conv_epsilon_inside

    def _conv(self, filters: int, kernel_size: int, strides: int, name: str) -> StdConv:
        return StdConv(
            filters,
            kernel_size,
            strides,
            "symmetric" if self.preactivation else "same",
            self.conv_epsilon,
            self.conv_epsilon_inside,
            name=name,
            dtype=self.dtype_policy,
        )

    def _norm(self, name: str, **kwargs: Any) -> GroupNorm:
        return GroupNorm(self.group_norm_epsilon, name=name, dtype=self.dtype_policy, **kwargs)


@keras.saving.register_keras_serializable(package="keras_vit")
class Stem(_Unit):
    """ResNet stem: a 7 x 7 convolution of stride 2; in post-activation order followed by norm and ReLU.

    Input:  (batch, height, width, channels)
    Output: (batch, ceil(height / 2), ceil(width / 2), width)

    Args:
        width: number of output channels.
        preactivation: whether the order is BiT's.
        group_norm_epsilon: epsilon of the `GroupNorm`.
        conv_epsilon, conv_epsilon_inside: `epsilon` and `epsilon_inside` of the `StdConv`.
        pixels: the pixel contract of the weights, as in `Patches`.

    Example:
        ```python
        stem = keras_vit.layers.Stem(width=32)
        assert stem(np.ones((1, 33, 48, 3), "float32")).shape == (1, 17, 24, 32)
        ```

    Source: the official `models_resnet.py` and `models_vit.py`; BiT's `models.py`.
    """

    def __init__(
        self,
        width: int,
        preactivation: bool = False,
        group_norm_epsilon: float = 1e-6,
        conv_epsilon: float = 1e-5,
        conv_epsilon_inside: bool = False,
        pixels: PixelsLike | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(preactivation, group_norm_epsilon, conv_epsilon, conv_epsilon_inside, **kwargs)
        self.width = width
        self.pixels = as_pixels(pixels)
        self.conv = self._conv(width, 7, 2, "conv")
        self.norm = None if preactivation else self._norm("norm")

    def get_config(self) -> dict[str, Any]:
        names = ("width", "preactivation", "group_norm_epsilon", "conv_epsilon", "conv_epsilon_inside")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "pixels": dataclasses.asdict(self.pixels)}

    def build(self, input_shape: Shape) -> None:
        self.conv.build(input_shape)
        if self.norm:
            self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, images: Any) -> Any:
        x = self.conv(images)
        return ops.relu(self.norm(x)) if self.norm else x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.conv.compute_output_shape(input_shape)


@keras.saving.register_keras_serializable(package="keras_vit")
class Bottleneck(_Unit):
    """ResNet bottleneck unit: 1 x 1, 3 x 3 and 1 x 1 convolutions, added to the input.

    The first two have a quarter of the output channels. The 3 x 3 convolution has the stride. The shortcut is projected
    where channels or stride differ.

    Input:  (batch, height, width, channels)
    Output: (batch, ceil(height / strides), ceil(width / strides), width)

    Args:
        width: number of output channels.
        strides: 1, or 2 to halve height and width.
        preactivation: whether norm and ReLU come before each convolution (BiT) or after it.
        group_norm_epsilon: epsilon of each `GroupNorm`.
        conv_epsilon, conv_epsilon_inside: `epsilon` and `epsilon_inside` of each `StdConv`.

    Example:
        ```python
        unit = keras_vit.layers.Bottleneck(width=128, strides=2)
        assert unit(np.ones((1, 9, 12, 32), "float32")).shape == (1, 5, 6, 128)
        ```

    Source: the official `models_resnet.py`; with pre-activation, BiT's `models.py`.
    """

    rematerialized = False  # whether inner values are computed again for the gradient instead of kept

    def __init__(
        self,
        width: int,
        strides: int = 1,
        preactivation: bool = False,
        group_norm_epsilon: float = 1e-6,
        conv_epsilon: float = 1e-5,
        conv_epsilon_inside: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(preactivation, group_norm_epsilon, conv_epsilon, conv_epsilon_inside, **kwargs)
        self.width = width
        self.strides = strides
        self.conv1 = self._conv(width // 4, 1, 1, "conv1")
        self.conv2 = self._conv(width // 4, 3, strides, "conv2")
        self.conv3 = self._conv(width, 1, 1, "conv3")
        # In post-activation order a unit starts as its shortcut: the last scale is 0.
        last = {} if preactivation else {"gamma_initializer": "zeros"}
        self.norm1, self.norm2, self.norm3 = self._norm("norm1"), self._norm("norm2"), self._norm("norm3", **last)
        self.shortcut: StdConv | None = None
        self.shortcut_norm: GroupNorm | None = None

    def build(self, input_shape: Shape) -> None:
        shape = input_shape
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            if self.preactivation:
                norm.build(shape)
            conv.build(shape)
            shape = conv.compute_output_shape(shape)
            if not self.preactivation:
                norm.build(shape)
        if input_shape[-1] != self.width or self.strides != 1:
            self.shortcut = self._conv(self.width, 1, self.strides, "shortcut")
            self.shortcut.build(input_shape)
            if not self.preactivation:
                self.shortcut_norm = self._norm("shortcut_norm")
                self.shortcut_norm.build(shape)

    def call(self, x: Any) -> Any:
        computed = self._preactivated if self.preactivation else self._postactivated
        return keras.remat(computed)(x) if self.rematerialized else computed(x)

    def _postactivated(self, x: Any) -> Any:
        y = ops.relu(self.norm1(self.conv1(x)))
        y = ops.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        if self.shortcut and self.shortcut_norm:
            x = self.shortcut_norm(self.shortcut(x))
        return ops.relu(x + y)

    def _preactivated(self, x: Any) -> Any:
        y = ops.relu(self.norm1(x))
        if self.shortcut:
            x = self.shortcut(y)
        y = self.conv1(y)
        y = self.conv2(ops.relu(self.norm2(y)))
        y = self.conv3(ops.relu(self.norm3(y)))
        return x + y

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, _ = input_shape
        height, width = (side and -(-side // self.strides) for side in (height, width))
        return batch, height, width, self.width
