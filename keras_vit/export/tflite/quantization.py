"""Quantizes the fully connected layers of a TFLite file to 8 or 4 bits, by calibration images.

Static ranges and 4-bit weights break the attention's own products, the norms and the softmax, which stay in float32.
Only fully connected layers are quantized: their weights are rounded for their inputs (`rounding.py`), their biases
compensate for the mean error, and the most sensitive layers keep more bits. The model should be smoothed first, see
`smoothing.py`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_vit import _compat
from keras_vit._quiet import quiet
from keras_vit.export.tflite.flatbuffer import (
    FullyConnected,
    constant,
    fully_connected_layers,
    own_constant,
    packed,
    set_constant,
    uses_of,
)
from keras_vit.export.tflite.rounding import rounded

logger = logging.getLogger("keras_vit")

MIN_IMAGES = 16
SENSITIVITY_IMAGES = 16  # on which the loss of each layer is measured
# By input type: its description, the least and the largest value, and the least that the brightest pixel must reach:
# the largest value of pixels that are already scaled is 1, or 3.
PIXELS = {
    "uint8": ("uint8 pixels from 0 to 255", 0, 255, 4),
    "float32": ("pixels from 0 to 255", 0, 255, 4),
    "scaled": ("scaled pixels, about -3 to 3", -16, 16, -16),
}
GELU_FLOOR = -4.0  # below it a GELU returns 0 to 1e-4, so that a range may end here


@dataclasses.dataclass(frozen=True)
class QuantizationMode:
    """How the fully connected layers are quantized.

    Args:
        bits: of the weights.
        block: number of inputs that share a scale; 0 for one scale per output.
        static: whether activations are quantized in ranges set by the calibration, not in those of each image.
        finer: regular expression of layers with weights of 8 bits and activations in the ranges of each image.
        share: largest size of the file in parts of the float32 file. The layers that lose most by fewer bits have
            weights of 8, too, as long as the file stays below it; 0 for none of them.
    """

    bits: int
    block: int
    static: bool
    finer: str
    share: float = 0.0


QUANTIZATION_MODES = {
    "int8": QuantizationMode(8, 0, False, r"^$"),
    # Layers that write into the residual stream have a few channels that dwarf the others, which one fixed step for all
    # would round to zero.
    "static-int8": QuantizationMode(
        8, 0, True, r"^block_\d+/.*/out$|^(encoder/projection|pre_logits|projection|head|pooling.*)$"
    ),
    "int4": QuantizationMode(4, 64, False, r"^(encoder/projection|pre_logits|projection|head|pooling.*)$", 0.178),
}


def quantized(
    float_tflite: bytes,
    mode: str | QuantizationMode,
    calibration: Iterable[Any],
    *,
    input_type: str | None = None,
    in_float: Sequence[str] = (),
    finer: Sequence[str] = (),
) -> bytes:
    """Returns the file with the weights of its fully connected layers in fewer bits.

    Args:
        float_tflite: a float32 file of a batch of 1 and one input.
        mode: name in `QUANTIZATION_MODES`, or a `QuantizationMode`.
        calibration: images as inputs of the file, each (height, width, channels) or with a batch of 1 in front, or
            {the input's name: such an array}; at least 16, similar to those that the file will classify.
        input_type: "uint8", "float32" (pixels from 0 to 255) or "scaled". None: derived from the file's type and, for
            the last two, from the pixels, whose range is then not checked.
        in_float: names of layers that stay in float32, see `layer_sensitivity`.
        finer: names of layers that have the bits and ranges of mode "int8", in addition to those of the mode.

    Raises:
        ImportError: if ai-edge-quantizer is not installed.
        ValueError: if the mode or a layer is unknown, there are too few images, or their pixels are out of range.
    """
    mode = _mode(mode)
    return Calibrated(float_tflite, calibration, input_type=input_type).file(mode, in_float=in_float, finer=finer)


def layer_sensitivity(
    float_tflite: bytes,
    mode: str | QuantizationMode,
    calibration: Iterable[Any],
    *,
    input_type: str | None = None,
    images: int = 4,
) -> list[tuple[str, float]]:
    """Returns the loss of each layer if it alone is quantized: [(layer, loss)], the most sensitive first.

    The loss is 1 minus the cosine between the outputs of the float file and of the quantized one, a mean over the first
    `images` of the calibration. Other arguments and errors: see `quantized`.
    """
    mode = dataclasses.replace(_mode(mode), share=0)  # the layer alone, and in the bits of the mode
    calibrated = Calibrated(float_tflite, calibration, input_type=input_type)
    some = calibrated.images[:images]
    expected = run_tflite(float_tflite, some)
    layers = [layer.layer for layer in calibrated.layers]
    losses = []
    for layer in layers:
        actual = run_tflite(calibrated.file(mode, in_float=[other for other in layers if other != layer]), some)
        cosine = (actual * expected).sum(1) / np.linalg.norm(actual, axis=1) / np.linalg.norm(expected, axis=1)
        losses.append((layer, float(1 - cosine.mean())))
    return sorted(losses, key=lambda row: -row[1])


def run_tflite(tflite: bytes, images: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the file's outputs for images with a batch of 1 in front: (images, numbers), all outputs in a row."""
    interpreter = _interpreter(tflite)
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    rows = []
    for image in images:
        _run(interpreter, image)
        rows.append(np.concatenate([interpreter.get_tensor(index).ravel() for index in outputs]))
    return np.stack(rows).astype("float64")


class Calibrated:
    """A float file with its activation statistics on calibration images, which quantizes to any mode.

    Args and errors: see `quantized`.
    """

    def __init__(self, float_tflite: bytes, calibration: Iterable[Any], *, input_type: str | None = None):
        self.images = _checked(calibration, _interpreter(float_tflite), input_type)
        self.model = _compat.read_flatbuffer(float_tflite)
        self.graph = self.model.subgraphs[0]
        self.layers = fully_connected_layers(self.model)
        self.statistics = _observe(float_tflite, self.layers, self.images)
        self.rounded: dict[Any, tuple[np.ndarray, np.ndarray]] = {}  # {(layer, bits, block): (weights, scales)}

    def file(self, mode: str | QuantizationMode, *, in_float: Sequence[str] = (), finer: Sequence[str] = ()) -> bytes:
        """Returns the bytes of the file in a mode; arguments and errors: see `quantized`."""
        check_quantizer()
        quantizer, recipe_manager, qtyping = _compat.quantizer_modules()
        mode = _mode(mode)
        self._check([*in_float, *finer])
        finer = [*finer, *self._most_sensitive(mode, in_float, finer)]
        model = copy.deepcopy(self.model)
        recipe, ranges = recipe_manager.RecipeManager(), dict[str, Any]()
        kinds = qtyping.TFLOperationName
        uses = uses_of(model)
        recipe.add_dynamic_config(".*", kinds.CONV_2D, 8)
        for layer in self.layers:
            if layer.layer in in_float:
                continue
            eight = layer.layer in finer or bool(re.search(mode.finer, layer.layer))
            bits, block = self._bits(layer, mode, eight)
            ranges |= self.write_weights(model, layer, bits, block, uses)
            rule = f"^{re.escape(layer.name)};"
            if mode.static and not eight:
                recipe.add_static_config(rule, kinds.FULLY_CONNECTED, 8, bits)
                ranges |= self._activation_ranges(layer)
            else:
                granularity = qtyping.QuantGranularity(f"BLOCKWISE_{block}" if block else "CHANNELWISE")
                recipe.add_dynamic_config(rule, kinds.FULLY_CONNECTED, bits, granularity)
        with _quietly():
            work = quantizer.Quantizer(_compat.write_flatbuffer(model))
            work.load_quantization_recipe(recipe.get_quantization_recipe())
            return bytes(work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)

    def _most_sensitive(self, mode: QuantizationMode, in_float: Sequence[str], finer: Sequence[str]) -> list[str]:
        """Returns the layers that get 8 bits for `mode.share`: those with the most loss for each byte that they save.

        The loss of a layer is the change of the outputs on some images, if it alone has fewer bits.
        """
        layers = [one for one in self.layers if one.layer not in {*in_float, *finer}]
        layers = [one for one in layers if not re.search(mode.finer, one.layer)]
        layers = [one for one in layers if self._bits(one, mode, False)[0] < 8]
        if not mode.share or not layers:
            return []
        logger.info("measures which of %d layers need 8 bits, on %d images", len(layers), SENSITIVITY_IMAGES)
        some, whole = self.images[:SENSITIVITY_IMAGES], packed(copy.deepcopy(self.model))
        expected = run_tflite(whole, some)
        losses = {}
        for layer in layers:
            model = copy.deepcopy(self.model)
            self.write_weights(model, layer, mode.bits, mode.block)
            losses[layer.layer] = float(np.square(run_tflite(packed(model), some) - expected).sum())
        more = {one.layer: self._bytes(one, 8, 0) - self._bytes(one, mode.bits, mode.block) for one in layers}
        size = float(len(self.file(dataclasses.replace(mode, share=0), in_float=in_float, finer=finer)))
        chosen = []
        for name in sorted(more, key=lambda name: -losses[name] / more[name]):
            if size + more[name] <= mode.share * len(whole):
                size += more[name]
                chosen.append(name)
        return chosen

    def _kernel(self, layer: FullyConnected) -> np.ndarray:
        return constant(self.model, self._tensor(layer, 1))

    def _bytes(self, layer: FullyConnected, bits: int, block: int) -> float:
        """Returns the bytes of a layer's weights and scales.

        A block has a scale in float16; an output has one in float32, and a zero point of 64 bits.
        """
        outputs, inputs = self._kernel(layer).shape
        return outputs * inputs * bits / 8 + (2 * outputs * inputs // block if block else 12 * outputs)

    def _check(self, names: Sequence[str]) -> None:
        known = [layer.layer for layer in self.layers]
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(f"Expected layers out of {', '.join(known)}. Received: {', '.join(unknown)}")

    def _bits(self, layer: FullyConnected, mode: QuantizationMode, eight: bool) -> tuple[int, int]:
        """Returns the bits and the block of a layer's weights; (8, 0) where the block does not divide the inputs."""
        inputs = self._tensor(layer, 1).shape[1]
        return (8, 0) if eight or (mode.block and inputs % mode.block) else (mode.bits, mode.block)

    def _weights(self, layer: FullyConnected, bits: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        key = layer, bits, block
        if key not in self.rounded:
            kernel = self._kernel(layer)
            self.rounded[key] = rounded(kernel, self.statistics[layer.input].covariance(), bits, block)
        return self.rounded[key]

    def _tensor(self, layer: FullyConnected, place: int) -> Any:
        return self.graph.tensors[self.graph.operators[layer.position].inputs[place]]

    def write_weights(
        self, model: Any, layer: FullyConnected, bits: int, block: int = 0, uses: Any = None
    ) -> dict[str, Any]:
        """Writes a layer's rounded weights and a corrected bias into a model; returns the weights' range, by name."""
        weights, scales = self._weights(layer, bits, block)
        most, uses = scales * (2 ** (bits - 1) - 1), uses_of(model) if uses is None else uses
        operator = model.subgraphs[0].operators[layer.position]
        shift = (constant(self.model, self._tensor(layer, 1)) - weights) @ self.statistics[layer.input].mean()
        tensor = own_constant(model, uses, operator, 1)
        set_constant(model, tensor, weights)
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = own_constant(model, uses, operator, 2)
            set_constant(model, bias, constant(model, bias) + shift)
        return {tensor.name.decode(): {"min": -most, "max": most}}

    def _activation_ranges(self, layer: FullyConnected) -> dict[str, dict[str, np.ndarray]]:
        ranges = {}
        for index, floor in ((layer.input, -np.inf), (layer.output, GELU_FLOOR if layer.before_gelu else -np.inf)):
            values = self.statistics[index]
            ends = {"min": max(values.least, floor), "max": values.most}
            name = self.graph.tensors[index].name.decode()
            ranges[name] = {end: np.array([[value]], "float32") for end, value in ends.items()}
        return ranges


class _Statistics:
    """Least and largest value of a tensor; of a layer's input also the mean and covariance of its channels."""

    def __init__(self, is_input: bool):
        self.least, self.most, self.rows, self.is_input = np.inf, -np.inf, 0, is_input
        self.origin: Any = 0.0  # of the sums
        self.sum: Any = 0.0
        self.products: Any = 0.0

    def add(self, values: np.ndarray) -> None:
        values = values.reshape(-1, values.shape[-1])
        self.least, self.most = min(self.least, values.min()), max(self.most, values.max())
        if self.is_input:
            if not self.rows:  # near the mean, so that a small variance is not lost in the products of large values
                self.origin = values.mean(0)
            values = values - self.origin
            self.rows += len(values)
            self.sum = self.sum + values.sum(0, dtype="float64")
            self.products = self.products + values.T @ values

    def mean(self) -> np.ndarray:
        return self.origin + self.sum / self.rows

    def covariance(self) -> np.ndarray:
        mean = self.sum / self.rows  # from the origin on
        return self.products / self.rows - np.outer(mean, mean)


def _observe(tflite: bytes, layers: Sequence[FullyConnected], images: Iterable[np.ndarray]) -> dict[int, _Statistics]:
    inputs = {layer.input for layer in layers}
    statistics = {index: _Statistics(index in inputs) for index in inputs | {layer.output for layer in layers}}
    for tensors in run_graph(tflite, images, statistics):
        for index, values in tensors.items():
            statistics[index].add(values)
    return statistics


def run_graph(tflite: bytes, images: Iterable[np.ndarray], tensors: Iterable[int]) -> Iterator[dict[int, np.ndarray]]:
    """Yields tensors of a file's graph by their number for each image, which has a batch of 1 in front."""
    with _compat.all_tensors_kept() as options:
        interpreter = _interpreter(tflite, **options)
    tensors = list(tensors)
    for image in images:
        _run(interpreter, image)
        yield {index: interpreter.get_tensor(index) for index in tensors}


def _mode(mode: Any) -> QuantizationMode:
    if not isinstance(mode, QuantizationMode) and mode not in QUANTIZATION_MODES:
        raise ValueError(f"Expected a mode out of {', '.join(QUANTIZATION_MODES)}. Received: {mode!r}")
    return mode if isinstance(mode, QuantizationMode) else QUANTIZATION_MODES[mode]


def _checked(calibration: Iterable[Any], interpreter: Any, input_type: str | None) -> list[np.ndarray]:
    """Returns the calibration images with a batch of 1 in front."""
    (entry,) = interpreter.get_input_details()
    shape, dtype = tuple(map(int, entry["shape"])), np.dtype(entry["dtype"])
    if input_type not in (None, *PIXELS):
        raise ValueError(f"Expected input_type to be one of {', '.join(PIXELS)}. Received: input_type={input_type!r}")
    images = [np.asarray(next(iter(one.values())) if isinstance(one, dict) else one) for one in calibration]
    if len(images) < MIN_IMAGES:
        raise ValueError(f"Expected at least {MIN_IMAGES} images to calibrate on. Received: {len(images)}")
    if others := {image.shape for image in images} - {shape, shape[1:]}:
        raise ValueError(f"Expected images of shape {shape[1:]}. Received: {', '.join(map(str, sorted(others)))}")
    least, most = min(image.min() for image in images), max(image.max() for image in images)
    description, low, high, bright = PIXELS[
        input_type or ("uint8" if dtype == np.uint8 else "float32" if most > 16 else "scaled")
    ]
    kinds = {image.dtype.name for image in images}
    if not (low <= least and bright <= most <= high) or (description.startswith("uint8") and kinds != {"uint8"}):
        raise ValueError(f"Expected {description}. Received: {', '.join(sorted(kinds))} from {least:.4g} to {most:.4g}")
    return [image.reshape(shape).astype(dtype) for image in images]


def _interpreter(tflite: bytes, **options: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    with _quietly(), quiet():
        interpreter = Interpreter(model_content=bytes(tflite), num_threads=2, **options)
        interpreter.allocate_tensors()
    return interpreter


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Hides the quantizer's progress bars, and the warning that all tensors are kept, which calibration needs."""
    with contextlib.redirect_stderr(io.StringIO()), _compat.all_tensors_kept():
        yield


def _run(interpreter: Any, image: np.ndarray) -> None:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()


def check_quantizer(**_: Any) -> None:
    """Raises an ImportError that names the extra if the quantizer is not installed."""
    try:
        import ai_edge_quantizer  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Quantization by calibration images needs the extra "mobile": pip install ai-edge-quantizer ai-edge-litert'
        ) from error
