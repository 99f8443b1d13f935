"""Rounds a TFLite file's products to 8 or 4 bits, with what real weights need for it to hold.

What a static range or 4-bit weights break is known by operator: the attention's own products, the norms and the
softmax stay in float32; only products with weights are rounded. Their weights are rounded with regard to what they
multiply (`rounding.py`), their biases take up the mean of what is lost, and the layers that lose most keep finer
numbers. `smoothing.py` is what a model should go through before it becomes the file.
"""

import contextlib
import copy
import dataclasses
import io
import re

import numpy as np

from keras_vit import _compat
from keras_vit._quiet import quiet
from keras_vit.export.tflite.flatbuffer import constant, own_constant, products_of, put, uses_of
from keras_vit.export.tflite.rounding import rounded

LEAST_IMAGES = 16
# What a file takes: how it is called, the least and the most pixel, and what the brightest pixel of all is at least:
# pixels that were scaled already reach 1, or 3.
PIXELS = {
    "uint8": ("uint8 pixels from 0 to 255", 0, 255, 4),
    "float32": ("pixels from 0 to 255", 0, 255, 4),
    "scaled": ("scaled pixels, about -3 to 3", -16, 16, -16),
}
GELU_FLOOR = -4.0  # below it a GELU gives 0 to 1e-4, so that a range need not reach there


@dataclasses.dataclass(frozen=True)
class QuantizationMode:
    """Describes how products with weights are rounded.

    Args:
        bits: of the weights.
        block: inputs of a product that share a scale; 0 for one scale an output.
        static: whether activations are rounded in ranges that the calibration set, not in those of the moment.
        finer: layers, as a regular expression, with weights of 8 bits and activations in the ranges of the moment.
    """

    bits: int
    block: int
    static: bool
    finer: str


QUANTIZATION_MODES = {
    "int8": QuantizationMode(8, 0, False, r"^$"),
    # What writes into the residual stream gives a few channels that dwarf the rest: a fixed step would drown that rest.
    "static-int8": QuantizationMode(8, 0, True, r"^block_\d+/.*/out$|^(encoder/projection|pre_logits|head|pooling.*)$"),
    "int4": QuantizationMode(4, 64, False, r"^(encoder/projection|pre_logits|head|pooling.*)$"),
}


def quantized(float_tflite, mode, calibration, *, input_type=None, in_float=(), finer=()):
    """Returns the file with its weights, and the products with them, in fewer bits.

    Args:
        float_tflite: a float32 file of a batch of 1 and one input.
        mode: name out of `MODES`, or a `Mode`.
        calibration: images as the file takes them, each (rows, columns, channels) or with a batch of 1 in front, or
            {the input's name: such an array}; at least 16, like those that the file will see.
        input_type: "uint8", "float32" (pixels from 0 to 255) or "scaled". None: from the
            file's type and, for the last two, from the pixels, whose range is then not checked.
        in_float: layers that stay in float32, and
        finer: layers that have the bits and ranges of mode "int8", next to those of the mode; names that
            `sensitivity` gives.

    Raises:
        ImportError: without the package ai-edge-quantizer.
        ValueError: if the mode or a layer is unknown, there are too few images, or their pixels have another range.
    """
    mode = _mode(mode)
    return Calibrated(float_tflite, calibration, input_type=input_type).file(mode, in_float=in_float, finer=finer)


def layer_sensitivity(float_tflite, mode, calibration, *, input_type=None, images=4):
    """Returns who loses what: [(layer, loss)], the worst first, where that layer alone is rounded.

    The loss is 1 minus the cosine between the outputs of the float file and of the rounded one, a mean over the first
    `images` of the calibration. Other arguments and errors: see `quantized`.
    """
    mode = _mode(mode)
    calibrated = Calibrated(float_tflite, calibration, input_type=input_type)
    some = calibrated.images[:images]
    expected = answers(float_tflite, some)
    layers = [product.layer for product in calibrated.products]
    losses = []
    for layer in layers:
        given = answers(calibrated.file(mode, in_float=[other for other in layers if other != layer]), some)
        cosine = (given * expected).sum(1) / np.linalg.norm(given, axis=1) / np.linalg.norm(expected, axis=1)
        losses.append((layer, float(1 - cosine.mean())))
    return sorted(losses, key=lambda row: -row[1])


def answers(tflite, images):
    """Returns the file's outputs on images with a batch of 1 in front: (images, numbers), all outputs in a row."""
    interpreter = _interpreter(tflite)
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    rows = []
    for image in images:
        _run(interpreter, image)
        rows.append(np.concatenate([interpreter.get_tensor(index).ravel() for index in outputs]))
    return np.stack(rows).astype("float64")


class Calibrated:
    """Holds what the calibration showed of a float file, from which files of any mode are made.

    Args and errors: see `quantized`.
    """

    def __init__(self, float_tflite, calibration, *, input_type=None):
        import_quantizer()

        self.images = _checked(calibration, _interpreter(float_tflite), input_type)
        self.model = _compat.read_flatbuffer(float_tflite)
        self.graph = self.model.subgraphs[0]
        self.products = products_of(self.model)
        self.seen = _observe(float_tflite, self.products, self.images)
        self.rounded = {}  # {(product, bits, block): (weights, scales)}

    def file(self, mode, *, in_float=(), finer=()):
        """Returns the bytes of the file in a mode; arguments and errors: see `quantized`."""
        quantizer, recipe_manager, qtyping = _compat.quantizer_modules()
        mode = _mode(mode)
        self._check([*in_float, *finer])
        model = copy.deepcopy(self.model)
        recipe, ranges = recipe_manager.RecipeManager(), {}
        kinds = qtyping.TFLOperationName
        uses = uses_of(model)
        recipe.add_dynamic_config(".*", kinds.CONV_2D, 8)
        for product in self.products:
            if product.layer in in_float:
                continue
            eight = product.layer in finer or bool(re.search(mode.finer, product.layer))
            bits, block = self._bits(product, mode, eight)
            weights, scales = self._weights(product, bits, block)
            ranges |= self._write(model, uses, product, weights, scales * (2 ** (bits - 1) - 1))
            rule = f"^{re.escape(product.name)};"
            if mode.static and not eight:
                recipe.add_static_config(rule, kinds.FULLY_CONNECTED, 8, bits)
                ranges |= self._activations(product)
            else:
                granularity = qtyping.QuantGranularity(f"BLOCKWISE_{block}" if block else "CHANNELWISE")
                recipe.add_dynamic_config(rule, kinds.FULLY_CONNECTED, bits, granularity)
        with _quietly():
            work = quantizer.Quantizer(_compat.write_flatbuffer(model))
            work.load_quantization_recipe(recipe.get_quantization_recipe())
            return bytes(work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)

    def _check(self, layers):
        known = [product.layer for product in self.products]
        if unknown := sorted(set(layers) - set(known)):
            raise ValueError(f"Expected layers out of {', '.join(known)}. Received: {', '.join(unknown)}")

    def _bits(self, product, mode, eight):
        """Returns the bits and the block of a product's weights; 8 and none where the blocks do not fit."""
        inputs = self._tensor(product, 1).shape[1]
        return (8, 0) if eight or (mode.block and inputs % mode.block) else (mode.bits, mode.block)

    def _weights(self, product, bits, block):
        key = product, bits, block
        if key not in self.rounded:
            kernel = constant(self.model, self._tensor(product, 1))
            self.rounded[key] = rounded(kernel, self.seen[product.input].covariance(), bits, block)
        return self.rounded[key]

    def _tensor(self, product, place):
        return self.graph.tensors[self.graph.operators[product.position].inputs[place]]

    def _write(self, model, uses, product, weights, most):
        """Puts rounded weights and a corrected bias into the model; returns the weights' range, by name."""
        operator = model.subgraphs[0].operators[product.position]
        shift = (constant(self.model, self._tensor(product, 1)) - weights) @ self.seen[product.input].mean()
        tensor = own_constant(model, uses, operator, 1)
        put(model, tensor, weights)
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = own_constant(model, uses, operator, 2)
            put(model, bias, constant(model, bias) + shift)
        return {tensor.name.decode(): {"min": -most, "max": most}}

    def _activations(self, product):
        ends = {"input": self.seen[product.input], "output": self.seen[product.output]}
        ranges = {}
        for end, seen in ends.items():
            floor = GELU_FLOOR if end == "output" and product.before_gelu else -np.inf
            name = self.graph.tensors[getattr(product, end)].name.decode()
            ranges[name] = {"min": np.float32([[max(seen.least, floor)]]), "max": np.float32([[seen.most]])}
        return ranges


class _Seen:
    """Sums up the values of a tensor: their ends and, of what a product reads, mean and covariance by channel."""

    def __init__(self, is_read):
        self.least, self.most, self.rows, self.is_read = np.inf, -np.inf, 0, is_read
        self.sum = self.products = 0.0

    def add(self, values):
        values = values.reshape(-1, values.shape[-1])
        self.least, self.most = min(self.least, values.min()), max(self.most, values.max())
        if self.is_read:
            self.rows += len(values)
            self.sum = self.sum + values.sum(0, dtype="float64")
            self.products = self.products + values.T @ values

    def mean(self):
        return self.sum / self.rows

    def covariance(self):
        return self.products / self.rows - np.outer(self.mean(), self.mean())


def _observe(tflite, products, images):
    read = {product.input for product in products}
    seen = {index: _Seen(index in read) for index in read | {product.output for product in products}}
    with _compat.all_tensors_kept() as options:
        interpreter = _interpreter(tflite, **options)
    for image in images:
        _run(interpreter, image)
        for index, values in seen.items():
            values.add(interpreter.get_tensor(index))
    return seen


def _mode(mode):
    if not isinstance(mode, QuantizationMode) and mode not in QUANTIZATION_MODES:
        raise ValueError(f"Expected a mode out of {', '.join(QUANTIZATION_MODES)}. Received: {mode!r}")
    return mode if isinstance(mode, QuantizationMode) else QUANTIZATION_MODES[mode]


def _checked(calibration, interpreter, input_type):
    """Returns the calibration's images with a batch of 1 in front."""
    (entry,) = interpreter.get_input_details()
    shape, dtype = tuple(map(int, entry["shape"])), np.dtype(entry["dtype"])
    if input_type not in (None, *PIXELS):
        raise ValueError(f"Expected input_type to be one of {', '.join(PIXELS)}. Received: input_type={input_type!r}")
    images = [np.asarray(next(iter(one.values())) if isinstance(one, dict) else one) for one in calibration]
    if len(images) < LEAST_IMAGES:
        raise ValueError(f"Expected at least {LEAST_IMAGES} images to calibrate on. Received: {len(images)}")
    if others := {image.shape for image in images} - {shape, shape[1:]}:
        raise ValueError(f"Expected images of shape {shape[1:]}. Received: {', '.join(map(str, sorted(others)))}")
    least, most = min(image.min() for image in images), max(image.max() for image in images)
    words, low, high, bright = PIXELS[
        input_type or ("uint8" if dtype == np.uint8 else "float32" if most > 16 else "scaled")
    ]
    kinds = {image.dtype.name for image in images}
    if not (low <= least and bright <= most <= high) or (words.startswith("uint8") and kinds != {"uint8"}):
        raise ValueError(f"Expected {words}. Received: {', '.join(sorted(kinds))} from {least:.4g} to {most:.4g}")
    return [image.reshape(shape).astype(dtype) for image in images]


def _interpreter(tflite, **options):
    from ai_edge_litert.interpreter import Interpreter

    with _quietly(), quiet():
        interpreter = Interpreter(model_content=bytes(tflite), num_threads=2, **options)
        interpreter.allocate_tensors()
    return interpreter


@contextlib.contextmanager
def _quietly():
    """Holds back the quantizer's progress bars, and the warning that it keeps all tensors."""
    with contextlib.redirect_stderr(io.StringIO()), _compat.all_tensors_kept():
        yield


def _run(interpreter, image):
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()


def import_quantizer(**_):
    """Raises an ImportError that names the extra if the quantizer is not installed."""
    try:
        import ai_edge_quantizer  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Static int8 and int4 files need the extra "mobile": pip install ai-edge-quantizer ai-edge-litert'
        ) from error
