"""Computational cost of a model for one image: multiply-accumulates, parameters and activation memory by layer type."""

import collections
import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_vit import _arguments as checked
from keras_vit import _compat
from keras_vit.evaluation.cost_rules import PRODUCTS, RULES, Rule, Work
from keras_vit.models.hooks import around_calls, layers_of


@dataclasses.dataclass(frozen=True)
class CostRow:
    """Total cost of all layers of one class, without the layers of other classes inside them.

    Args:
        kind: Name of the class. "Attention" counts its two products only; its four projections are "Dense".
        layers: Number of layers.
        parameters: Number of parameters in their own weights.
        multiply_accumulates: Number of multiply-accumulates for one image.
        activations: Bytes of activations for one image, see `Cost`.
    """

    kind: str
    layers: int
    parameters: int
    multiply_accumulates: int
    activations: int


_SUMS = ("layers", "parameters", "multiply_accumulates", "activations")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Multiply-accumulates, parameters and activation memory of a model for one image, by layer type.

    Activations are the outputs of the innermost layers and the attention probabilities: roughly the memory that
    training holds for the backward pass of an image. They do not include the image, tensors that pass unchanged
    (dropout, which is off here) or with another shape (Reshape), sums of branches, and intermediate tensors inside a
    layer, such as the GELU of an MLP.

    Args:
        input_shape: Shape of the image, without the batch axis.
        rows: A `CostRow` for each layer type, the most multiply-accumulates first.
        unknown: Layer types that have weights but no rule, and products between the layers of a functional model.
            Their multiply-accumulates are not counted; those of layers inside them are.
        largest: Bytes of the inputs, outputs and attention probabilities of the layer for which they are largest.
            Inference needs at least this memory besides the weights, and more if other branches wait.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        cost = keras_vit.evaluation.cost(model)
        assert cost.parameters == model.count_params()
        assert cost.rows[0].kind == "Dense"
        ```
    """

    input_shape: tuple[int, ...]
    rows: tuple[CostRow, ...]
    unknown: tuple[str, ...]
    largest: int

    @property
    def total(self) -> CostRow:
        """The sum of all rows."""
        return CostRow("total", *(sum(getattr(row, name) for row in self.rows) for name in _SUMS))

    @property
    def parameters(self) -> int:
        """Number of parameters of the model."""
        return self.total.parameters

    @property
    def multiply_accumulates(self) -> int:
        """Number of multiply-accumulates (MACs) for one image; floating-point operations (FLOPs) are twice as many."""
        return self.total.multiply_accumulates

    @property
    def activations(self) -> int:
        """Bytes of activations for one image."""
        return self.total.activations

    def text(self) -> str:
        """Returns a table as plain text, a line for each layer type."""
        cells = [("layer", "number", "parameters", "multiply-accumulates", "activations")]
        cells += [
            (
                row.kind,
                f"{row.layers:,}",
                f"{row.parameters:,}",
                f"{row.multiply_accumulates / 1e6:,.2f} M",
                f"{row.activations / 1e6:,.2f} MB",
            )
            for row in (*self.rows, self.total)
        ]
        first, *others = (max(map(len, column)) for column in zip(*cells))
        lines = ["  ".join((f"{row[0]:<{first}s}", *map(str.rjust, row[1:], others))) for row in cells]
        lines.append(f"largest layer, inputs and outputs: {self.largest / 1e6:,.2f} MB")
        if self.unknown:
            lines.append(f"not counted, because there is no rule: {', '.join(self.unknown)}")
        return "\n".join(lines)


def cost(
    model: keras.Model,
    input_shape: Sequence[int | None] | None = None,
    rules: Mapping[type, Rule] | None = None,
) -> Cost:
    """Counts multiply-accumulates (MACs, half the FLOPs), parameters and activation memory of a Keras model.

    The model runs on shapes only; nothing is computed.

    Args:
        model: Any functional, Sequential or subclassed Keras model.
        input_shape: Shape of one image, (height, width, channels); the model's own by default. Needed for a model with
            open sides, and for a subclassed one.
        rules: {layer class: rule} in addition to `keras_vit.evaluation.cost_rules.RULES`, for custom layers.

    Returns:
        The totals and a row for each layer type, a `Cost`.

    Raises:
        ValueError: If the shape is open, or the model does not accept such an image.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        print(keras_vit.evaluation.cost(model).text())
        ```
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: a {type(model).__name__}")
    if input_shape is not None:
        plain = checked.plain(input_shape)
        input_shape = plain if isinstance(plain, tuple) else checked.shape("input_shape", plain)
    images = _images(model, input_shape)
    if not all(layer.built for layer in (model, *layers_of(model, keras.layers.Layer))):
        _run(_Runner(model), images)  # some models create their layers while they are built
    layers = layers_of(model, keras.layers.Layer)
    meter = _Meter(layers, {**RULES, **(rules or {})})
    with around_calls(list(meter.rules), meter.around):
        _run(_Runner(model, meter.clear), images)
    batch, *shape = keras.tree.flatten(images)[0].shape
    unknown = {type(layer).__name__ for layer, rule in meter.rules.items() if rule is None and layer.weights}
    unknown |= {name for part in (model, *layers_of(model, keras.Model)) for name in _products_between(part)}
    return Cost(tuple(shape), _rows(layers, meter, batch), tuple(sorted(unknown)), meter.largest // batch)


def pretraining_exaflops(multiply_accumulates: float, images: float) -> float:
    """Computes the training compute of a model in exaFLOPs, 1e18 floating-point operations.

    A multiply-accumulate is two operations, and an image is three passes: the backward pass counts as two, for the
    gradients of the activations and of the weights.

    Args:
        multiply_accumulates: Number for one image.
        images: Number of images in training: images of an epoch times epochs.

    Returns:
        The exaFLOPs.

    Example:
        ```python
        # ViT-B/16 on ImageNet-21k for 300 epochs
        assert round(keras_vit.evaluation.pretraining_exaflops(17.6e9, 300 * 14_197_122)) == 450
        ```
    """
    return multiply_accumulates * 2 * 3 * images / 1e18


class _Runner(keras.Model):
    """Runs a model, and calls `begin` before each run.

    A backend may run it twice: PyTorch runs it on a real device if its meta device fails.
    """

    def __init__(self, model: keras.Model, begin: Callable[[], None] = lambda: None) -> None:
        super().__init__(name=f"{model.name}_runner")
        self.model, self.begin = model, begin

    def call(self, images: Any) -> list[Any]:
        """Runs the model; its output is not needed."""
        self.begin()
        self.model(images, training=False)
        return []


class _Meter:
    """Counts the work of layers while they run.

    Args:
        layers: All layers of a model; models among them are left out.
        rules: {layer class: rule}.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer], rules: Mapping[type, Rule]) -> None:
        self.rules = {layer: _rule_of(layer, rules) for layer in layers if not isinstance(layer, keras.Model)}
        self.clear()

    def clear(self) -> None:
        """Sets all counts to 0."""
        self.multiply_accumulates: collections.Counter[Any] = collections.Counter()
        self.activations: collections.Counter[Any] = collections.Counter()
        self.largest = 0

    def around(self, layer: keras.layers.Layer, call: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        """Calls a layer and counts its work."""
        result = call(*inputs, **options)
        arguments: Any = inputs
        if _tensors(options):  # in the order of the layer's signature
            bound = inspect.signature(type(layer).call).bind(layer, *inputs, **options).arguments
            arguments = dict([*bound.items()][1:])
        self._count(layer, _tensors(arguments), _tensors(result))
        return result

    def _count(self, layer: keras.layers.Layer, inputs: list[Any], outputs: list[Any]) -> None:
        rule, innermost = self.rules[layer], not _inside(layer)
        shapes = [[tuple(x.shape) for x in tensors] for tensors in (inputs, outputs)]
        work = rule(layer, *shapes) if rule else Work()
        self.multiply_accumulates[layer] += work.multiply_accumulates
        kept = work.kept * _item_bytes(outputs[0]) if work.kept else 0
        returned = _bytes(x for x in outputs if all(x is not one for one in inputs))
        is_view = isinstance(layer, (keras.layers.Reshape, keras.layers.Flatten))
        self.activations[layer] += kept + returned * (innermost and not is_view)
        if innermost or kept:
            read = _bytes({id(x): x for x in inputs}.values())
            self.largest = max(self.largest, read + kept + returned)


def _rule_of(layer: keras.layers.Layer, rules: Mapping[type, Rule]) -> Rule | None:
    """Returns the rule of a layer's class or of a base class whose `call` it has; else None."""
    for kind in type(layer).__mro__:
        if kind in rules:
            return rules[kind] if type(layer).call is getattr(kind, "call", None) else None
    return None


def _rows(layers: Sequence[keras.layers.Layer], meter: _Meter, batch: int) -> tuple[CostRow, ...]:
    """Returns the sums by layer type, the most expensive first; types that cost nothing are left out."""
    sums: dict[str, list[int]] = collections.defaultdict(lambda: [0] * len(_SUMS))
    for layer in layers:
        inside = {id(weight) for part in _inside(layer) for weight in part.weights}
        own = sum(math.prod(weight.shape) for weight in layer.weights if id(weight) not in inside)
        one = (1, own, meter.multiply_accumulates[layer] // batch, meter.activations[layer] // batch)
        sums[type(layer).__name__] = [a + b for a, b in zip(sums[type(layer).__name__], one)]
    rows = (CostRow(kind, *values) for kind, values in sums.items() if any(values[1:]))
    return tuple(sorted(rows, key=lambda row: (-row.multiply_accumulates, -row.parameters, -row.activations, row.kind)))


def _inside(layer: keras.layers.Layer) -> Sequence[keras.layers.Layer]:
    """Returns the layers inside a layer, at any depth."""
    return _compat.layers_inside(layer)


def _products_between(model: keras.Model) -> Iterator[str]:
    """Yields the names of the operations of a functional model that multiply and are not layers."""
    for operation in getattr(model, "operations", ()):
        if type(operation).__name__ in PRODUCTS and not isinstance(operation, keras.layers.Layer):
            yield type(operation).__name__


def _tensors(structure: Any) -> list[Any]:
    return [x for x in keras.tree.flatten(structure) if hasattr(x, "shape") and hasattr(x, "dtype")]


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(math.prod(x.shape) * _item_bytes(x) for x in tensors)


def _item_bytes(tensor: Any) -> int:
    """Returns the bytes of one element of a tensor; 1 for bool."""
    bits = re.search(r"\d+", keras.backend.standardize_dtype(tensor.dtype))
    return int(bits[0]) // 8 if bits else 1


def _images(model: keras.Model, input_shape: Sequence[int | None] | None) -> Any:
    """Returns the symbolic input of the model, a batch of one image where the batch size is open."""
    own = getattr(model, "inputs", None)
    if input_shape is None and own:
        inputs = own[0] if isinstance(model, keras.Sequential) else model.input  # a structure, in a functional model
        images = keras.tree.map_structure(lambda x: keras.KerasTensor((x.shape[0] or 1, *x.shape[1:]), x.dtype), inputs)
    else:
        dtype = own[0].dtype if own else keras.config.floatx()
        images = keras.KerasTensor((1, *(input_shape or (None,))), dtype)
    if any(None in x.shape for x in keras.tree.flatten(images)):
        shapes = [tuple(x.shape[1:]) for x in own or ()]
        raise ValueError(
            "Expected the shape of one image, input_shape=(height, width, channels), because the model leaves it open. "
            f"Received: {model.name!r} with input shape {', '.join(map(str, shapes)) or 'unknown'}"
        )
    return images


def _run(runner: Any, images: Any) -> None:
    """Runs a model on shapes; raises a ValueError if it does not accept them."""
    try:
        runner.compute_output_spec(images)
    except Exception as error:  # a backend's exceptions for a wrong shape have no common class
        shapes = ", ".join(str(tuple(x.shape[1:])) for x in keras.tree.flatten(images))
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{runner.model.name!r} does not accept images of shape {shapes}: {reason[:300]}") from error
