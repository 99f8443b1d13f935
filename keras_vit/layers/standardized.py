"""The convolution and the norm of the ResNets: weight standardization and group normalization."""

import keras
from keras import ops

from keras_vit.layers.initial import initial

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
    """Normalizes a picture over its pixels and a group of its channels, 32 groups.

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
        """Returns the mean of a picture's groups, (batch, 1, 1, channels)."""
        channels = x.shape[-1]
        means = ops.reshape(ops.mean(x, axis=(1, 2)), (-1, GROUPS, channels // GROUPS))
        means = ops.repeat(ops.mean(means, axis=2), channels // GROUPS, axis=1)
        return ops.reshape(means, (-1, 1, 1, channels))

    def compute_output_shape(self, input_shape):
        return input_shape
