"""Tells the architecture of a finished model from its layers."""

import dataclasses
import re

import keras

from keras_vit import _compat, layers
from keras_vit.models.config import Numerics, ResNet, Variant, name_of
from keras_vit.preprocessing import Pixels


@dataclasses.dataclass(frozen=True, eq=False)
class ModelDescription:
    """What a model is of.

    Args:
        variant: its row, a `Variant` or a `ResNet`.
        name: of the published row of these sizes, or None.
        numerics: form of the GELU, and epsilons.
        weights: {our path: variable}.
        input_shape: (rows, columns, channels).
        grid: (rows, columns) of patches; None for a BiT.
        classes: of the head; None without one.
        representation_size: width of the layer before the head; None without one.
        position_resize: how its positions were resized, where they were.
        reader: the layer that reads the pixels.
    """

    variant: Variant | ResNet
    name: str | None
    numerics: Numerics
    weights: dict
    input_shape: tuple[int, ...]
    grid: tuple[int, int] | None
    classes: int | None
    representation_size: int | None
    position_resize: str | None
    reader: layers.Patches | layers.Stem

    @property
    def pixels(self) -> Pixels:
        """The contract by which our first layer reads pixels; layers of the caller's in front are not in it."""
        return self.reader.pixels


def describe_model(model):
    """Returns the `Description` of a model that `keras_vit.build` made, also of a fine-tuned or a reloaded one.

    Where the model holds ours as a layer, that one is described.

    Raises:
        ValueError: if there is no model of ours.
    """
    inner = our_model(model)
    named = {layer.name: layer for layer in inner.layers}
    units = {name: layer for name, layer in named.items() if isinstance(layer, layers.Bottleneck)}
    blocks = [layer for layer in inner.layers if isinstance(layer, layers.TransformerBlock)]
    stem = _resnet(named["stem"], units) if "stem" in named else None
    numerics, grid, row = Numerics(), None, stem
    if stem:
        some = named["stem"]
        numerics = Numerics("tanh", 1e-6, some.group_norm_epsilon, some.conv_epsilon, some.conv_epsilon_inside)
    if blocks:
        row, grid = _transformer(named, blocks, stem)
        epsilon = blocks[0].mlp_norm.epsilon
        numerics = dataclasses.replace(numerics, gelu=blocks[0].mlp.gelu, norm_epsilon=epsilon)
    pre_logits, head = named.get("pre_logits"), named.get("head")
    return ModelDescription(
        row,
        name_of(row),
        numerics,
        {weight_path(layer, variable): variable for layer in inner.layers for variable in layer.weights},
        tuple(inner.inputs[0].shape[1:]),
        grid,
        head.units if head else None,
        pre_logits.units if pre_logits else None,
        named["encoder"].position_resize if blocks else None,
        named["stem" if stem else "patches"],
    )


def our_model(model):
    """Returns the functional model that holds our layers: the model itself, or one inside it.

    Raises:
        ValueError: if there is none, or more than one.
    """
    of_ours = (layers.PatchEncoder, layers.Stem)
    inside = getattr(model, "layers", ())
    found = [model] if any(isinstance(layer, of_ours) for layer in inside) else []
    found += [
        layer
        for layer in inside
        if isinstance(layer, keras.Model) and any(isinstance(one, of_ours) for one in _compat.layers_inside(layer))
    ]
    if not found:
        raise ValueError(f"Expected a model with keras_vit's layers. Received: {_words(model)} without")
    if len(found) > 1:
        names = [one.name for one in found]
        raise ValueError(
            f"Expected a model with one encoder of keras_vit. Received: {model.name!r} with {len(found)}, "
            f"{', '.join(names)}. Pass one of them, such as model.get_layer({names[-1]!r})."
        )
    return model if found[0] is model else our_model(found[0])


def _words(model):
    return repr(model.name) if isinstance(model, keras.Model) else f"a {type(model).__name__}"


def weight_path(layer, variable):
    """Returns the weight's path from its layer on: inside a layer of the caller's, that one's name is in front."""
    within = f"/{variable.path}".rsplit(f"/{layer.name}/", 1)[-1]
    return f"{layer.name}/{within}"


def keras_names(model):
    """Returns {our path: name} of the weights in a .weights.h5 file, where Keras names layers after their class."""
    names, layers_of, variables_of = {}, {}, {}
    for layer in model.layers:
        kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
        number = layers_of[kind] = layers_of.get(kind, -1) + 1
        for variable in layer.weights:
            path = weight_path(layer, variable)
            inside = path.split("/")[1:-1]
            group = "/".join(["layers", f"{kind}_{number}" if number else kind, *inside, "vars"])
            index = variables_of[group] = variables_of.get(group, -1) + 1
            names[path] = f"{group}/{index}"
    return names


def _resnet(stem, units):
    count, widths = {}, {}
    for name, unit in units.items():
        stage = int(name.removeprefix("stage").partition("_")[0])
        count[stage] = count.get(stage, 0) + 1
        widths[stage] = unit.width
    stages = sorted(count)
    return ResNet([count[stage] for stage in stages], [widths[stage] for stage in stages], stem.width)


def _transformer(named, blocks, stem):
    patches, encoder, pooling = named["patches"], named["encoder"], named.get("pooling")
    kinds = {
        layers.ClassToken: "token",
        keras.layers.GlobalAveragePooling1D: "gap",
        layers.AttentionPooling: "map",
        layers.ClassAndMean: "token+gap",
        layers.ClassAndDistillation: "token+distillation",
    }
    own = "token" if encoder.has_class_token else "none"
    attention, is_axial = blocks[0].attention, blocks[0].name.endswith("_rows")
    is_windowed = isinstance(attention, layers.WindowAttention) and not is_axial
    positions, positions_at = _positions(named, encoder, blocks[0])
    row = Variant(
        patches.patch_size,
        encoder.hidden_size,
        len(blocks) // 2 if is_axial else len(blocks),
        attention.num_heads,
        blocks[0].mlp.mlp_dim,
        stem,
        kinds.get(type(pooling), own),
        encoder.has_distillation_token,
        encoder.num_registers,
        blocks[0].layer_scale,
        isinstance(blocks[0].mlp, layers.SwiGLU),
        positions,
        positions_at,
        "axial" if is_axial else "full",
        attention.window[0] if is_windowed else None,
        blocks[0].mlp.hidden_dropout.rate,
    )
    rows, columns = patches.input.shape[1:3]
    return row, (rows // row.patch_size, columns // row.patch_size)


def _positions(named, encoder, block):
    """Returns the kind of the positions, and where they are."""
    if isinstance(block, layers.RelativeBlock):
        return "relative", "stem"
    for name, where in (("positions", "shared"), (f"{block.name.removesuffix('_rows')}_positions", "layers")):
        if name in named:
            return named[name].kind, where
    if encoder.has_position_table:
        return "learned", "stem"
    return encoder.positions.kind if encoder.positions else "none", "stem"
