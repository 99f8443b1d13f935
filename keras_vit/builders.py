"""Public builders: one line each, all made by `build`; and `load`, which needs no architecture's name."""

import contextlib
import dataclasses
import inspect
import logging
import math

import keras

from keras_vit import _arguments as checked
from keras_vit.layers.initializers import weights_to_come
from keras_vit.layers.mlp import GELUS
from keras_vit.layers.positions import INTERPOLATIONS
from keras_vit.models.class_names import usable_names
from keras_vit.models.config import OFFICIAL_BIT, OFFICIAL_VIT, VARIANTS, Variant, get_variant, name_of, with_options
from keras_vit.models.description import describe_model, keras_names, our_model, weight_path
from keras_vit.models.resnet import bit
from keras_vit.models.vision_model import VisionModel
from keras_vit.models.vit import vit
from keras_vit.preprocessing import OFFICIAL_PIXELS
from keras_vit.weights.channels import CHANNELS
from keras_vit.weights.load import read_weights
from keras_vit.weights.open import BY_THE_OFFICIAL_CODE, open_checkpoint

logger = logging.getLogger("keras_vit")
# What other libraries call some of the arguments.
OTHER_NAMES = {
    "image_size": "input_shape=(rows, columns, channels)",
    "img_size": "input_shape=(rows, columns, channels)",
    "num_classes": "classes=",
    "pretrained": "weights=",
    "activation": "classifier_activation=",
}


def build(
    variant,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    name=None,
    *,
    representation_size=None,
    dropout=None,
    attention_dropout=0.0,
    stochastic_depth=0.0,
    gelu=None,
    norm_epsilon=None,
    position_resize=None,
    channels=None,
    new_head=False,
    **options,
):
    """Builds a Vision Transformer, a hybrid or a BiT.

    The model takes images of (batch, rows, columns, channels) as its `preprocess_input` makes them.

    Args:
        variant: name of an architecture, such as "ViT-B/16", "R50+ViT-B/16" or "BiT-R50x1", or a `keras_vit.Variant`
            or `keras_vit.ResNet` of one's own.
        include_top: whether the classification head is on top.
        weights: None for random weights; the path of a checkpoint of the official code, big_vision, BiT, Hugging Face,
            timm or Keras; an address (https://, gs://, hf://org/name); the name of a published one (see
            `keras_vit.checkpoints`), or "imagenet" or "imagenet21k" for the best of this variant. It loads whole or
            not at all.
        input_tensor: a Keras tensor to use as the input. With a `name`, the layers are those of a model of that name
            inside the graph, so that several towers fit into one; without, they are layers of the graph itself.
        input_shape: (rows, columns, channels); the checkpoint's own, or (224, 224, 3), by default; the latter for
            "imagenet" and "imagenet21k". For a plain Vision Transformer the sides are multiples of the patch size.
        pooling: what the head reads, or what comes out without a head: "token" (the class token), "gap" (the mean of
            the patch tokens, or of a BiT's map), "map" (attention pooling), "none" (every token, without a class
            token; a BiT's map), "token+gap" (the first two side by side), "token+distillation" (DeiT's two heads).
            None is the checkpoint's or the variant's own with a head, and all tokens or the whole map without one.
        classes: number of classes of the head; the checkpoint's own, or 1000, by default.
        classifier_activation: activation of the head; None for logits.
        name: name of the model.
        representation_size: width of a tanh layer between the pooled token and the head, as in pre-training; None for
            the one that the checkpoint's head reads, or no such layer.
        dropout: rate after each dense layer and after the positions; None is the official configuration's.
        attention_dropout: rate on the attention probabilities.
        stochastic_depth: rate of dropped residual branches in the last block, growing linearly from 0 in the first.
        gelu: "tanh" (the approximation that the official files were trained with) or "erf" (exact, the ports'); None is
            the checkpoint's own, or "tanh".
        norm_epsilon: of the layer norms; None is the checkpoint's own, or 1e-6.
        position_resize: how positions are made to fit another size: "corner" (the official code's), "half_pixel"
            (timm's for .npz files), "antialias" (timm's own) or "torch" (transformers'); None is the way of the
            project that the checkpoint comes from. The model's layer "encoder" keeps it.
        channels: how the first kernel is made to fit another number of channels: "average", "repeat" or "slice".
        new_head: keeps the new, zero-initialised head where `weights` holds another one.
        **options: other fields of the row, a `keras_vit.Variant`, such as `register_tokens=4`.

    Returns:
        A functional `keras.Model` that has `preprocess_input` and `pixels`.

    Raises:
        ValueError: if the variant is unknown, the input shape does not fit the patches, an argument is out of its
            range, or the checkpoint does not fit (all faults in one message).
    """
    row = get_variant(variant)
    fields = [field.name for field in dataclasses.fields(row) if field.name != "parameters"]
    function, known = f"keras_vit.build or a field of a {type(row).__name__}", inspect.signature(build).parameters
    checked.known_names(function, options, [*known, *fields], OTHER_NAMES)
    row = with_options(row, options)
    is_vit, published = isinstance(row, Variant), name_of(row)
    if not is_vit and (representation_size or dropout or attention_dropout or stochastic_depth):
        raise ValueError(
            "Expected a BiT without representation_size, dropout and stochastic_depth: it has no such layers."
        )
    include_top, new_head = checked.flag("include_top", include_top), checked.flag("new_head", new_head)
    if classes is not None:
        classes = checked.integer("classes", classes)
        if not include_top:
            raise ValueError(
                f"Expected no classes without the head that has them. Received: classes={classes}, include_top=False"
            )
    if representation_size is not None:
        representation_size = checked.integer("representation_size", representation_size)
    attention_dropout = checked.rate("attention_dropout", attention_dropout)
    stochastic_depth = checked.rate("stochastic_depth", stochastic_depth)
    dropout = None if dropout is None else checked.rate("dropout", dropout)
    _check_options(name, gelu, position_resize, channels, classifier_activation)
    if norm_epsilon is not None:
        norm_epsilon = checked.number("norm_epsilon", norm_epsilon, "above 0", lambda value: 0 < value < math.inf)
    shape = _shape_of(input_tensor, input_shape)
    heads = row.num_heads if is_vit else None
    if shape is None and weights in ("imagenet", "imagenet21k"):
        shape = (224, 224, 3)
    with open_checkpoint(weights, published, shape, include_top and not new_head, heads) as (file, found, pixels, _):
        if file and file.num_heads not in (None, heads):
            raise ValueError(f"{file.path} has {file.num_heads} attention heads, the variant {heads}.")
        row = _as_found(row, found, pooling)
        kept = found if include_top and not new_head else None
        shape = shape or (*(found and found.image_size or (224, 224)), found.channels if found else 3)
        # A named tower in a graph of the caller's is a model of its own there: two can stand side by side.
        is_nested = input_tensor is not None and name is not None
        dtype = input_tensor.dtype if is_nested else None
        images = (
            input_tensor
            if input_tensor is not None and not is_nested
            else keras.Input(shape, None, dtype, name="images")
        )
        numerics = _numerics(row, file, gelu=gelu, norm_epsilon=norm_epsilon)
        mode = position_resize or (file.position_resize if file else "corner")
        arguments = {
            "include_top": include_top,
            "pooling": pooling,
            "classes": classes or (kept and kept.classes) or 1000,
            "classifier_activation": classifier_activation,
            "pixels": pixels,
        }
        if is_vit:
            is_resized = found and found.image_size and row.grid(*found.image_size) != row.grid(*shape[:2])
            arguments |= {
                "representation_size": representation_size or (kept and kept.representation_size),
                "dropout": row.dropout if dropout is None else dropout,
                "attention_dropout": attention_dropout,
                "stochastic_depth": stochastic_depth,
                "position_resize": mode if is_resized else file and file.resized,
            }
        with weights_to_come() if file else contextlib.nullcontext():
            outputs = (vit if is_vit else bit)(images, row, numerics, **arguments)
        if file:
            # On the model alone: what the caller put before `input_tensor` has weights of its own. One array after
            # another, for half the memory: no one sees the model if one of them fails.
            model = keras.Model(images, outputs)
            variables, arrays = reading(model, file, row, include_top, new_head, mode, found, channels)
            for path, array in arrays:
                variables[path].assign(array)
        names = file.class_names if file and include_top and not new_head else None
        names = usable_names(names) if names and len(names) == arguments["classes"] else None
    if is_nested:
        outputs = VisionModel(images, outputs, name=name, class_names=names)(input_tensor)
    sources = [images] if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    name = name or (_function_name(published) if published else "ViT" if is_vit else "BiT")
    return VisionModel(sources[0] if len(sources) == 1 else sources, outputs, name=name, class_names=names)


def load(
    weights,
    *,
    num_heads=None,
    input_shape=None,
    pooling=None,
    classifier_activation="softmax",
    name=None,
    representation_size=None,
    gelu=None,
    norm_epsilon=None,
    position_resize=None,
    channels=None,
):
    """Builds the model that a checkpoint is of, and loads it.

    Source, architecture, size and number of classes are told from the file. A file without a head gives features: the
    class token after the last norm, or what `pooling` says.

    Args:
        weights: as in `keras_vit.build`; also a model that Keras saved (.keras or .h5).
        num_heads: attention heads, where neither shapes nor a config.json tell (Hugging Face, timm); heads of width 64
            by default.
        input_shape: (rows, columns, channels), where the file's grid of positions is no square, or to resize it;
            (224, 224, 3) by default where the file does not tell.
        pooling, classifier_activation, name, representation_size, gelu, norm_epsilon, position_resize, channels: as in
            `keras_vit.build`. The layer of a headless Hugging Face file, `pooler`, is read with `representation_size`.

    Returns:
        A functional `keras.Model` that has `preprocess_input` and `pixels`.

    Raises:
        ValueError: if the file is unreadable or of an unknown source, does not tell an architecture, or does not fit
            it (all faults in one message).
    """
    if weights is None:
        raise ValueError(
            "Expected weights to be a path, an address or the name of a checkpoint. Received: weights=None. "
            "keras_vit.build(variant) builds a model with random weights."
        )
    num_heads = None if num_heads is None else checked.integer("num_heads", num_heads)
    input_shape = _shape_of(None, input_shape)
    _check_options(name, gelu, position_resize, channels, classifier_activation)
    with open_checkpoint(weights, shape=input_shape, num_heads=num_heads, must_tell=True) as given:
        if given.found is None:
            raise ValueError(
                f"{given.file.path} does not tell its architecture. Name it: keras_vit.build(variant, weights=...)."
            )
        overrides = (num_heads, input_shape, pooling, name, representation_size, gelu, norm_epsilon, channels)
        if given.model and classifier_activation == "softmax" and not any(overrides):
            return given.model
        row, headless = given.found.variant, given.found.classes is None
        if input_shape is None and given.found.image_size is None and isinstance(row, Variant):
            raise ValueError(
                f"{given.file.path}: its positions make no square of patches. "
                "Pass input_shape=(rows, columns, channels)."
            )
        return build(
            row,
            not headless,
            given,
            input_shape=input_shape,
            pooling=pooling or (getattr(row, "pooling", "gap") if headless else None),
            classifier_activation=classifier_activation,
            name=name,
            representation_size=representation_size,
            gelu=gelu,
            norm_epsilon=norm_epsilon,
            position_resize=position_resize,
            channels=channels,
        )


def _check_options(name, gelu, position_resize, channels, classifier_activation):
    """Raises a ValueError for what is none of the texts that an argument can be."""
    checked.choice("gelu", gelu, GELUS, or_none=True)
    checked.choice("position_resize", position_resize, INTERPOLATIONS, or_none=True)
    checked.choice("channels", channels, CHANNELS, or_none=True)
    if name is not None and not (isinstance(name, str) and name and "/" not in name):
        raise ValueError(f"Expected name to be a text without '/'. Received: name={name!r}")
    try:
        keras.activations.get(classifier_activation)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "Expected classifier_activation to be the name of an activation of Keras, such as 'softmax', or None. "
            f"Received: classifier_activation={classifier_activation!r}"
        ) from error


def _shape_of(input_tensor, input_shape):
    """Returns the (rows, columns, channels) that the caller asked for, or None."""
    if input_shape is not None:
        input_shape = checked.shape("input_shape", input_shape)
    if input_tensor is None:
        return input_shape
    if not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"Expected input_tensor to be a Keras tensor, the output of keras.Input or of a layer. "
            f"Received: {type(input_tensor).__name__}"
        )
    if input_shape is not None and input_shape != tuple(input_tensor.shape[1:]):
        raise ValueError(
            "Expected input_shape to be the shape of input_tensor, or None. "
            f"Received: input_shape={input_shape}, input_tensor of {tuple(input_tensor.shape[1:])}"
        )
    return tuple(input_tensor.shape[1:])


def _as_found(row, found, pooling):
    """Returns the row with the tokens that the checkpoint has, where the caller does not say otherwise."""
    if not (found and isinstance(found.variant, Variant) and isinstance(row, Variant)):
        return row
    theirs = found.variant.pooling
    if pooling or (theirs == "gap" and row.pooling == "none"):  # two that no file can tell apart
        theirs = pooling or row.pooling
    if theirs != row.pooling and not pooling:
        logger.info("pooling is %r, as in the checkpoint", theirs)
    own = ("distillation_token", "register_tokens", "layer_scale", "swiglu")
    return dataclasses.replace(
        row, pooling=theirs, **{name: getattr(row, name) or getattr(found.variant, name) for name in own}
    )


def _numerics(row, file, **chosen):
    numerics = file.numerics if file else (OFFICIAL_VIT if isinstance(row, Variant) else OFFICIAL_BIT)
    return dataclasses.replace(numerics, **{name: value for name, value in chosen.items() if value is not None})


def _function_name(variant):
    return variant.replace("-", "_").replace("+", "_").replace("/", "")


def _words(row):
    if not isinstance(row, Variant):
        return f"a ResNet of {row.units} units, its last map of {row.widths[-1]} channels"
    blocks = f"{row.num_layers} blocks of width {row.hidden_size} with {row.num_heads} heads"
    return blocks if row.stem is None else f"{blocks} on the map of a ResNet of {row.stem.units} units"


def _builder(variant):
    def builder(*args, **kwargs):
        return build(variant, *args, **kwargs)

    row = VARIANTS[variant]
    signature = inspect.signature(build)
    builder.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    builder.__name__ = builder.__qualname__ = _function_name(variant)
    builder.__doc__ = (
        f"Builds a {variant}: {_words(row)}.\n\n"
        f"    {row.parameters:,} parameters at 224 x 224 pixels with 1,000 classes. "
        "The arguments are those of `keras_vit.build`.\n    "
    )
    return builder


ViT_Ti16 = _builder("ViT-Ti/16")
ViT_S8 = _builder("ViT-S/8")
ViT_S14 = _builder("ViT-S/14")
ViT_S16 = _builder("ViT-S/16")
ViT_S32 = _builder("ViT-S/32")
ViT_B8 = _builder("ViT-B/8")
ViT_B16 = _builder("ViT-B/16")
ViT_B32 = _builder("ViT-B/32")
ViT_L14 = _builder("ViT-L/14")
ViT_L16 = _builder("ViT-L/16")
ViT_L32 = _builder("ViT-L/32")
ViT_H14 = _builder("ViT-H/14")
ViT_g14 = _builder("ViT-g/14")
ViT_G14 = _builder("ViT-G/14")
R_ViT_Ti16 = _builder("R+ViT-Ti/16")
R26_ViT_S32 = _builder("R26+ViT-S/32")
R26_ViT_B32 = _builder("R26+ViT-B/32")
R50_ViT_B16 = _builder("R50+ViT-B/16")
R50_ViT_B32 = _builder("R50+ViT-B/32")
R50_ViT_L16 = _builder("R50+ViT-L/16")
R50_ViT_L32 = _builder("R50+ViT-L/32")
BiT_R50x1 = _builder("BiT-R50x1")
BiT_R50x2 = _builder("BiT-R50x2")
BiT_R50x3 = _builder("BiT-R50x3")
BiT_R101x1 = _builder("BiT-R101x1")
BiT_R101x3 = _builder("BiT-R101x3")
BiT_R152x1 = _builder("BiT-R152x1")
BiT_R152x2 = _builder("BiT-R152x2")
BiT_R152x4 = _builder("BiT-R152x4")
BiT_R200x3 = _builder("BiT-R200x3")


def load_weights(model, weights, *, new_head=False, position_resize=None, channels=None):
    """Gives a model the weights of a checkpoint: all of them, or none and an error.

    Args:
        model: a functional model with our layers, from `keras_vit.build` or composed around it.
        weights, new_head, position_resize, channels: as in `keras_vit.build`. The GELU and the epsilons stay those of
            the model; a log line says where the checkpoint's differ. The pixel contract becomes the checkpoint's.

    Raises:
        ValueError: if the model holds no layers of ours, or the checkpoint does not fit (all faults in one message).
    """
    if weights is None:
        raise ValueError("Expected weights to be a path, an address or a checkpoint's name. Received: weights=None")
    checked.choice("position_resize", position_resize, INTERPOLATIONS, or_none=True)
    checked.choice("channels", channels, CHANNELS, or_none=True)
    new_head = checked.flag("new_head", new_head)
    inner, told = our_model(model), describe_model(model)
    top = told.classes is not None
    heads = getattr(told.variant, "num_heads", None)
    with open_checkpoint(weights, told.name, told.input_shape, top and not new_head, heads) as (file, found, pixels, _):
        if file.numerics != told.numerics:
            logger.info("%s was trained with %s, the model has %s", file.path, file.numerics, told.numerics)
        mode = position_resize or file.position_resize
        variables, arrays = reading(inner, file, told.variant, top, new_head, mode, found, channels)
        arrays = dict(arrays)
        pixels = pixels or (OFFICIAL_PIXELS if file.source in BY_THE_OFFICIAL_CODE else told.pixels)
    for name in list(arrays):
        variables[name].assign(arrays.pop(name))
    if pixels != told.pixels:
        logger.info("pixels are read as the checkpoint's: %s", pixels.words)
        told.reader.pixels = pixels


def reading(model, file, row, include_top, new_head, mode, found, channels):
    """Returns the model's variables by our path, and an iterator of the arrays for them."""
    variables = {weight_path(layer, variable): variable for layer in model.layers for variable in layer.weights}
    arrays = read_weights(
        file,
        {name: tuple(variable.shape) for name, variable in variables.items()},
        row,
        grid=row.grid(*model.input_shape[1:3]) if isinstance(row, Variant) else None,
        include_top=include_top,
        new_head=new_head,
        mode=mode,
        channels=_adaptation(found, model.input_shape[1:], channels),
        names=keras_names(model) if file.is_keras_weights else None,
    )
    return variables, arrays


def _adaptation(found, shape, channels):
    """Returns (channels of the file's images, of the model's, how the kernel is adapted), or None if they agree."""
    if found is None or found.channels == shape[2]:
        return None
    if channels is None:
        raise ValueError(
            f"The checkpoint reads {found.channels} channels, input_shape={tuple(shape)} has {shape[2]}. Pass "
            "channels='average', 'repeat' or 'slice' to say how its first kernel is adapted."
        )
    return found.channels, shape[2], channels
