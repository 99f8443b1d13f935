"""The stem and the bottleneck unit of the ResNets, in the two orders that are published.

Post-activation (the hybrids' stem, as in a ResNet v1.5): convolution, norm, ReLU, and a ReLU after the sum.
Pre-activation (BiT, a ResNet v2): norm, ReLU, convolution, and nothing after the sum. Weights of one do not fit the
other: the norms have other widths, and a projected shortcut has a norm of its own in the first alone.
"""

import dataclasses

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.initializers import initial
from keras_vit.preprocessing import as_pixels

GROUPS = 32


@keras.saving.register_keras_serializable(package="keras_vit")
class StdConv(keras.layers.Conv2D):
    """Convolves with a kernel that has mean 0 and variance 1 over (rows, columns, channels in), without a bias.

    Input:  (batch, rows, columns, channels)
    Output: (batch, ceil(rows / strides), ceil(columns / strides), filters)

    Args:
        filters, kernel_size, strides: as in `keras.layers.Conv2D`; an odd kernel size.
        padding: "same" (of what a stride needs, the odd pixel comes last: the hybrids'), or "symmetric" (half the
            kernel on every side, whatever the stride: BiT's). They differ only with a stride, by a shift of a pixel.
        epsilon: keeps the division from 0.
        epsilon_inside: whether it is added to the variance, before the root, or to the standard deviation.

    Source: arXiv:1903.10520; the official `models_resnet.py` (outside) and BiT's `models.py` (inside).
    """

    def __init__(self, filters, kernel_size, strides=1, padding="same", epsilon=1e-5, epsilon_inside=False, **kwargs):
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

    def fold(self):
        """Standardizes the kernel once and for all, for a model that is only asked, as in an exported file."""
        self.kernel.assign(self.standardized(self.kernel))
        self.folded = True

    def standardized(self, kernel):
        """Returns a kernel as it is convolved with, float32."""
        shape = kernel.shape
        kernel = ops.transpose(ops.reshape(ops.cast(kernel, "float32"), (-1, shape[-1])))  # (filters, numbers of each)
        # Twice: what rounding leaves of a kernel's mean adds up over a map of positive values. A filter a row, which
        # is summed more exactly, and the second pass leave a tenth of that error.
        for _ in range(2):
            kernel = kernel - ops.mean(kernel, axis=1, keepdims=True)
        variance = ops.mean(ops.square(kernel), axis=1, keepdims=True)
        if self.epsilon_inside:
            kernel = kernel * ops.rsqrt(variance + self.epsilon)
        else:
            kernel = kernel / (ops.sqrt(variance) + self.epsilon)
        return ops.reshape(ops.transpose(kernel), shape)

    def convolution_op(self, inputs, kernel):
        kernel = kernel if self.folded else self.standardized(kernel)
        if self.margin:
            sides = (self.margin, self.margin)
            inputs = ops.pad(inputs, ((0, 0), sides, sides, (0, 0)))
        return super().convolution_op(inputs, ops.cast(kernel, self.compute_dtype))

    def compute_output_shape(self, input_shape):
        batch, rows, columns, channels = input_shape
        sides = (side and side + 2 * self.margin for side in (rows, columns))
        return super().compute_output_shape((batch, *sides, channels))

    def get_config(self):
        # Of Conv2D's many arguments none is open here: what its own config says of padding would undo ours.
        base = keras.layers.Layer.get_config(self)
        return {**base, **self._arguments}


@keras.saving.register_keras_serializable(package="keras_vit")
class GroupNorm(keras.layers.Layer):
    """Normalizes an image over its pixels and a group of its channels, 32 groups.

    Takes half the time of `keras.layers.GroupNormalization` on a CPU, and keeps to four dimensions, more than which
    phones' delegates refuse: the moments are taken by channel and joined by group.

    Input and output: (batch, rows, columns, channels)

    Args:
        epsilon: keeps the division from 0.
        gamma_initializer: of the scale.

    Raises:
        ValueError: at build time, if the channels are open or no multiple of 32.

    Source: arXiv:1803.08494.
    """

    def __init__(self, epsilon=1e-6, gamma_initializer="ones", **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.gamma_initializer = gamma_initializer

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None or channels % GROUPS:
            raise ValueError(f"Expected channels in {GROUPS} equal groups. Received: input_shape={tuple(input_shape)}")
        self.gamma = self.add_weight(name="gamma", shape=(channels,), initializer=self.gamma_initializer)
        self.beta = self.add_weight(name="beta", shape=(channels,), initializer="zeros")

    def call(self, x):
        x = ops.cast(x, "float32")  # squares overflow in float16
        x = x - self._by_group(x)
        scale = ops.rsqrt(self._by_group(ops.square(x)) + self.epsilon) * ops.cast(self.gamma, "float32")
        return ops.cast(x * scale + ops.cast(self.beta, "float32"), self.compute_dtype)

    def _by_group(self, x):
        """Returns the mean of an image's groups, (batch, 1, 1, channels)."""
        channels = x.shape[-1]
        means = ops.reshape(ops.mean(x, axis=(1, 2)), (-1, GROUPS, channels // GROUPS))
        means = ops.repeat(ops.mean(means, axis=2), channels // GROUPS, axis=1)
        return ops.reshape(means, (-1, 1, 1, channels))

    def compute_output_shape(self, input_shape):
        return input_shape


class _Block(Composite):
    """Makes the convolutions and norms of one order."""

    def __init__(self, preactivation, group_norm_epsilon, conv_epsilon, conv_epsilon_inside, **kwargs):
        super().__init__(**kwargs)
        self.preactivation = preactivation
        self.group_norm_epsilon = group_norm_epsilon
        self.conv_epsilon = conv_epsilon
        self.conv_epsilon_inside = conv_epsilon_inside

    def _conv(self, filters, kernel_size, strides, name):
        padding = "symmetric" if self.preactivation else "same"
        of_ours = {"name": name, "dtype": self.dtype_policy}
        return StdConv(filters, kernel_size, strides, padding, self.conv_epsilon, self.conv_epsilon_inside, **of_ours)

    def _norm(self, name, **kwargs):
        return GroupNorm(self.group_norm_epsilon, name=name, dtype=self.dtype_policy, **kwargs)


@keras.saving.register_keras_serializable(package="keras_vit")
class Stem(_Block):
    """Halves the image with a 7 x 7 convolution; in post-activation order followed by norm and ReLU.

    Input:  (batch, rows, columns, channels)
    Output: (batch, ceil(rows / 2), ceil(columns / 2), width)

    Args:
        width: channels out; 64 times the width factor.
        preactivation: whether it is BiT's.
        group_norm_epsilon, conv_epsilon, conv_epsilon_inside: see `GroupNorm` and `StdConv`.
        pixels: the pixel contract of the weights, as in `Patches`.

    Source: the official `models_resnet.py` and `models_vit.py`; BiT's `models.py`.
    """

    def __init__(
        self,
        width,
        preactivation=False,
        group_norm_epsilon=1e-6,
        conv_epsilon=1e-5,
        conv_epsilon_inside=False,
        pixels=None,
        **kwargs,
    ):
        super().__init__(preactivation, group_norm_epsilon, conv_epsilon, conv_epsilon_inside, **kwargs)
        self.width = width
        self.pixels = as_pixels(pixels)
        self.conv = self._conv(width, 7, 2, "conv")
        self.norm = None if preactivation else self._norm("norm")

    def get_config(self):
        names = ("width", "preactivation", "group_norm_epsilon", "conv_epsilon", "conv_epsilon_inside")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "pixels": dataclasses.asdict(self.pixels)}

    def build(self, input_shape):
        self.conv.build(input_shape)
        if self.norm:
            self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, images):
        x = self.conv(images)
        return ops.relu(self.norm(x)) if self.norm else x

    def compute_output_shape(self, input_shape):
        return self.conv.compute_output_shape(input_shape)


@keras.saving.register_keras_serializable(package="keras_vit")
class Bottleneck(_Block):
    """Adds to a map what three convolutions make of it: 1 x 1 to a quarter of the width, 3 x 3, and 1 x 1 back.

    The stride is that of the 3 x 3 convolution. The shortcut is projected where channels or stride differ.

    Input:  (batch, rows, columns, channels)
    Output: (batch, ceil(rows / strides), ceil(columns / strides), width)

    Args:
        width: channels out, four times those inside.
        strides: 1, or 2 to halve the map.
        preactivation: whether norm and ReLU come before each convolution (BiT) or after.
        group_norm_epsilon, conv_epsilon, conv_epsilon_inside: see `GroupNorm` and `StdConv`.

    Source: the official `models_resnet.py`; with pre-activation, BiT's `models.py`.
    """

    rematerialized = False  # whether inner values are computed again for the gradient instead of kept

    def __init__(
        self,
        width,
        strides=1,
        preactivation=False,
        group_norm_epsilon=1e-6,
        conv_epsilon=1e-5,
        conv_epsilon_inside=False,
        **kwargs,
    ):
        super().__init__(preactivation, group_norm_epsilon, conv_epsilon, conv_epsilon_inside, **kwargs)
        self.width = width
        self.strides = strides
        self.conv1 = self._conv(width // 4, 1, 1, "conv1")
        self.conv2 = self._conv(width // 4, 3, strides, "conv2")
        self.conv3 = self._conv(width, 1, 1, "conv3")
        # In post-activation order a unit starts as its shortcut: the last scale is 0.
        last = {} if preactivation else {"gamma_initializer": "zeros"}
        self.norm1, self.norm2, self.norm3 = self._norm("norm1"), self._norm("norm2"), self._norm("norm3", **last)
        self.shortcut = self.shortcut_norm = None

    def build(self, input_shape):
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

    def call(self, x):
        computed = self._preactivated if self.preactivation else self._postactivated
        return keras.remat(computed)(x) if self.rematerialized else computed(x)

    def _postactivated(self, x):
        y = ops.relu(self.norm1(self.conv1(x)))
        y = ops.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        if self.shortcut:
            x = self.shortcut_norm(self.shortcut(x))
        return ops.relu(x + y)

    def _preactivated(self, x):
        y = ops.relu(self.norm1(x))
        if self.shortcut:
            x = self.shortcut(y)
        y = self.conv1(y)
        y = self.conv2(ops.relu(self.norm2(y)))
        y = self.conv3(ops.relu(self.norm3(y)))
        return x + y

    def compute_output_shape(self, input_shape):
        batch, rows, columns, _ = input_shape
        rows, columns = (side and -(-side // self.strides) for side in (rows, columns))
        return batch, rows, columns, self.width
