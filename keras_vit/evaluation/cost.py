"""What one image costs a model: multiply-accumulates and memory, by kind of layer; nothing is computed for it."""

import collections
import dataclasses
import inspect
import math
import re

import keras

from keras_vit import _arguments as checked
from keras_vit import _compat
from keras_vit.evaluation.cost_rules import PRODUCTS, RULES, Work
from keras_vit.models.hooks import around_calls, layers_of


@dataclasses.dataclass(frozen=True)
class CostRow:
    """Holds what all layers of one class cost together, those of other classes inside them left out.

    Args:
        kind: name of the class; "Attention" are its two products alone, its four projections are "Dense".
        layers: how many.
        parameters: numbers in their own weights.
        multiply_accumulates: of one image.
        activations: bytes of one image, see `Cost`.
    """

    kind: str
    layers: int
    parameters: int
    multiply_accumulates: int
    activations: int


_SUMS = ("layers", "parameters", "multiply_accumulates", "activations")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Holds what one image costs a model.

    Activations are what the innermost layers give and the probabilities of attention: about what training keeps of an
    image for the way back. Not among them are the image, what passes unchanged (dropout, which is off here) or in
    another shape (Reshape), sums of branches, and what a layer makes between its parts, as the GELU of an MLP.

    Args:
        input_shape: of the image, without the batch.
        rows: a `Row` a kind of layer, those that multiply most first.
        unknown: kinds of layers with weights but without a rule, and of products that a functional model has between
            its layers: what they multiply is not in the numbers; what layers inside them multiply is.
        largest: bytes of the one layer that reads, keeps and gives most. To ask the model takes at least these beside
            its weights; what waits in other branches comes on top.
    """

    input_shape: tuple
    rows: tuple[CostRow, ...]
    unknown: tuple[str, ...]
    largest: int

    @property
    def total(self):
        """The sum of all rows, a `Row`."""
        return CostRow("total", *(sum(getattr(row, name) for row in self.rows) for name in _SUMS))

    @property
    def parameters(self):
        """Numbers in all weights."""
        return self.total.parameters

    @property
    def multiply_accumulates(self):
        """Of one image; its floating-point operations are twice as many."""
        return self.total.multiply_accumulates

    @property
    def activations(self):
        """Bytes of one image."""
        return self.total.activations

    def text(self):
        """Returns all of it as a table, a line a row."""
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
        lines.append(f"the layer that reads, keeps and gives most: {self.largest / 1e6:,.2f} MB")
        if self.unknown:
            lines.append(f"not counted, for there is no rule: {', '.join(self.unknown)}")
        return "\n".join(lines)


def cost(model, input_shape=None, rules=None):
    """Returns the `Cost` of a Keras model, which is run on shapes alone.

    Args:
        model: functional, Sequential or subclassed; of ours or any other.
        input_shape: of one image, (rows, columns, channels); the model's own by default. For a model that leaves
            sides open, or a subclassed one.
        rules: {class: rule} beside `keras_vit.evaluation.cost_rules.RULES`, for layers of one's own.

    Raises:
        ValueError: if the shape is open, or the model takes no such image.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: a {type(model).__name__}")
    if input_shape is not None:
        input_shape = checked.plain(input_shape)
        if not isinstance(input_shape, tuple):
            input_shape = checked.shape("input_shape", input_shape)
    images = _images(model, input_shape)
    if not all(layer.built for layer in (model, *layers_of(model, keras.layers.Layer))):
        _run(_Runner(model), images)  # some make their layers while they are built
    layers = layers_of(model, keras.layers.Layer)
    meter = _Meter(layers, RULES | (rules or {}))
    with around_calls(list(meter.rules), meter.around):
        _run(_Runner(model, meter.clear), images)
    batch, *shape = keras.tree.flatten(images)[0].shape
    unknown = {type(layer).__name__ for layer, rule in meter.rules.items() if rule is None and layer.weights}
    unknown |= {name for part in (model, *layers_of(model, keras.Model)) for name in _products_between(part)}
    return Cost(tuple(shape), _rows(layers, meter, batch), tuple(sorted(unknown)), meter.largest // batch)


def pretraining_exaflops(multiply_accumulates, images):
    """Returns what training on so many images costs, 1e18 floating-point operations.

    Two operations a multiply-accumulate, and three passes an image: the way back is two, for the gradients of the
    activations and of the weights.

    Args:
        multiply_accumulates: of one image.
        images: that training sees: those of an epoch times the epochs.
    """
    return multiply_accumulates * 2 * 3 * images / 1e18


class _Runner(keras.Model):
    """Runs a model; `begin` is called before each time.

    A backend may run it twice: PyTorch, on a real device where its meta one fails.
    """

    def __init__(self, model, begin=lambda: None):
        super().__init__(name=f"{model.name}_runner")
        self.model, self.begin = model, begin

    def call(self, images):
        self.begin()
        self.model(images, training=False)
        return []


class _Meter:
    """Counts what layers do while they run.

    Args:
        layers: all of a model; models among them are left out.
        rules: {class: rule}.
    """

    def __init__(self, layers, rules):
        self.rules = {layer: _rule_of(layer, rules) for layer in layers if not isinstance(layer, keras.Model)}
        self.clear()

    def clear(self):
        """Begins anew."""
        self.multiply_accumulates, self.activations, self.largest = collections.Counter(), collections.Counter(), 0

    def around(self, layer, call, *inputs, **options):
        """Runs a layer and counts it."""
        result = call(*inputs, **options)
        if _tensors(options):  # in the order in which the layer names them
            arguments = inspect.signature(type(layer).call).bind(layer, *inputs, **options).arguments
            inputs = dict([*arguments.items()][1:])
        self._note(layer, _tensors(inputs), _tensors(result))
        return result

    def _note(self, layer, inputs, outputs):
        rule, innermost = self.rules[layer], not _inside(layer)
        shapes = [[tuple(x.shape) for x in tensors] for tensors in (inputs, outputs)]
        work = rule(layer, *shapes) if rule else Work()
        self.multiply_accumulates[layer] += work.multiply_accumulates
        kept = work.kept * _item_bytes(outputs[0]) if work.kept else 0
        given = _bytes(x for x in outputs if all(x is not one for one in inputs))
        is_view = isinstance(layer, (keras.layers.Reshape, keras.layers.Flatten))
        self.activations[layer] += kept + given * (innermost and not is_view)
        if innermost or kept:
            read = _bytes({id(x): x for x in inputs}.values())
            self.largest = max(self.largest, read + kept + given)


def _rule_of(layer, rules):
    """Returns the rule of a layer's class or of one that it computes like; else None."""
    for kind in type(layer).__mro__:
        if kind in rules:
            return rules[kind] if type(layer).call is kind.call else None
    return None


def _rows(layers, meter, batch):
    """Returns the sums by kind of layer, the most expensive kind first; kinds that cost nothing are left out."""
    sums = collections.defaultdict(lambda: [0] * len(_SUMS))
    for layer in layers:
        inside = {id(weight) for part in _inside(layer) for weight in part.weights}
        own = sum(math.prod(weight.shape) for weight in layer.weights if id(weight) not in inside)
        one = (1, own, meter.multiply_accumulates[layer] // batch, meter.activations[layer] // batch)
        sums[type(layer).__name__] = [a + b for a, b in zip(sums[type(layer).__name__], one)]
    rows = (CostRow(kind, *values) for kind, values in sums.items() if any(values[1:]))
    return tuple(sorted(rows, key=lambda row: (-row.multiply_accumulates, -row.parameters, -row.activations, row.kind)))


def _inside(layer):
    """Returns the layers inside a layer, however deep."""
    return _compat.layers_inside(layer)


def _products_between(model):
    """Yields the names of operations that multiply and are no layers, of a functional model."""
    for operation in getattr(model, "operations", ()):
        if type(operation).__name__ in PRODUCTS and not isinstance(operation, keras.layers.Layer):
            yield type(operation).__name__


def _tensors(structure):
    return [x for x in keras.tree.flatten(structure) if hasattr(x, "shape") and hasattr(x, "dtype")]


def _bytes(tensors):
    return sum(math.prod(x.shape) * _item_bytes(x) for x in tensors)


def _item_bytes(tensor):
    """Returns the bytes of one of its numbers; a bool takes a whole one."""
    bits = re.search(r"\d+", keras.backend.standardize_dtype(tensor.dtype))
    return int(bits[0]) // 8 if bits else 1


def _images(model, input_shape):
    """Returns what the model is run on: tensors without numbers, of one image where the batch is open."""
    own = getattr(model, "inputs", None)
    if input_shape is None and own:
        taken = own[0] if isinstance(model, keras.Sequential) else model.input  # a structure, in a functional model
        found = keras.tree.map_structure(lambda x: keras.KerasTensor((x.shape[0] or 1, *x.shape[1:]), x.dtype), taken)
    else:
        dtype = own[0].dtype if own else keras.config.floatx()
        found = keras.KerasTensor((1, *(input_shape or (None,))), dtype)
    if any(None in x.shape for x in keras.tree.flatten(found)):
        shapes = [tuple(x.shape[1:]) for x in own or ()]
        raise ValueError(
            "Expected the shape of one image, input_shape=(rows, columns, channels): the model leaves it open. "
            f"Received: {model.name!r}, which takes {', '.join(map(str, shapes)) or 'what it is called with'}"
        )
    return found


def _run(runner, images):
    """Runs a model on shapes; a ValueError where it does not take them."""
    try:
        runner.compute_output_spec(images)
    except Exception as error:  # what the wrong shape makes a backend raise has no common kind
        shapes = ", ".join(str(tuple(x.shape[1:])) for x in keras.tree.flatten(images))
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{runner.model.name!r} does not take images of shape {shapes}: {reason[:300]}") from error
