"""Public builders: one line each, all made by `build`."""

import inspect

import keras

from keras_vit.models.vit import vit
from keras_vit.variants import VARIANTS, get_variant
from keras_vit.weights.load import read_weights


def build(
    variant,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name=None,
    *,
    representation_size=None,
    dropout=None,
    attention_dropout=0.0,
    stochastic_depth=0.0,
    gelu="tanh",
    new_head=False,
):
    """Builds a Vision Transformer.

    The model takes pictures of (batch, rows, columns, channels) as `keras_vit.preprocess_input` makes them.

    Args:
        variant: name of an architecture, such as "ViT-B/16", or a `keras_vit.Variant` of one's own.
        include_top: whether the classification head is on top.
        weights: None for random weights, or the path of a checkpoint in the official .npz layout. It loads whole or
            not at all; positions are resized as the official code does where the number of patches differs.
        input_tensor: a Keras tensor to use as the input.
        input_shape: (rows, columns, channels), any multiples of the patch size and any number of channels;
            (224, 224, 3) by default.
        pooling: what the head reads, or what comes out without a head: "token" (the class token), "gap" (the mean of
            the patch tokens), "map" (attention pooling), "none" (every token, without a class token). None is the
            variant's own with a head, and its whole token sequence without one.
        classes: number of classes of the head.
        classifier_activation: activation of the head; None for logits.
        name: name of the model.
        representation_size: width of a tanh layer between the pooled token and the head, as in pre-training;
            None for no such layer.
        dropout: rate after each dense layer and after the positions; None is the official configuration's.
        attention_dropout: rate on the attention probabilities.
        stochastic_depth: rate of dropped residual branches in the last block, growing linearly from 0 in the first.
        gelu: "tanh" (the approximation that the official files were trained with) or "erf" (exact).
        new_head: keeps the new, zero-initialised head where `weights` holds another one.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: if the variant is unknown, the input shape does not fit the patches, an argument is out of its
            range, or the checkpoint does not fit (all faults in one message).
    """
    row = get_variant(variant)
    if not (isinstance(classes, int) and classes > 0):
        raise ValueError(f"Expected the number of classes. Received: classes={classes!r}")
    images = _input(input_tensor, input_shape)
    outputs = vit(
        images,
        row,
        include_top=include_top,
        pooling=pooling,
        classes=classes,
        classifier_activation=classifier_activation,
        representation_size=representation_size,
        dropout=row.dropout if dropout is None else dropout,
        attention_dropout=attention_dropout,
        stochastic_depth=stochastic_depth,
        gelu=gelu,
    )
    name = name or (_function_name(variant) if isinstance(variant, str) else "ViT")
    if weights is not None:
        # On the ViT alone: what the caller put before `input_tensor` has weights of its own.
        _load(keras.Model(images, outputs), weights, row, include_top, new_head)
    sources = [images] if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    return keras.Model(sources[0] if len(sources) == 1 else sources, outputs, name=name)


def _input(input_tensor, input_shape):
    if input_tensor is None:
        return keras.Input(input_shape or (224, 224, 3), name="images")
    if not keras.backend.is_keras_tensor(input_tensor):
        raise ValueError(
            f"Expected input_tensor to be a Keras tensor, the output of keras.Input or of a layer. "
            f"Received: {type(input_tensor).__name__}"
        )
    if input_shape is not None and tuple(input_shape) != tuple(input_tensor.shape[1:]):
        raise ValueError(
            "Expected input_shape to be the shape of input_tensor, or None. "
            f"Received: input_shape={tuple(input_shape)}, input_tensor of {tuple(input_tensor.shape[1:])}"
        )
    return input_tensor


def _load(model, path, variant, include_top, new_head):
    variables = {_path(layer, variable): variable for layer in model.layers for variable in layer.weights}
    rows, columns = (side // variant.patch_size for side in model.input_shape[1:3])
    arrays = read_weights(
        path,
        {name: tuple(variable.shape) for name, variable in variables.items()},
        variant,
        grid=(rows, columns),
        include_top=include_top,
        new_head=new_head,
    )
    for name, array in arrays.items():
        variables[name].assign(array)


def _path(layer, variable):
    """Returns the weight's path from its layer on: inside a layer of the caller's, that one's name is in front."""
    within = f"/{variable.path}".rsplit(f"/{layer.name}/", 1)[-1]
    return f"{layer.name}/{within}"


def _function_name(variant):
    return variant.replace("-", "_").replace("/", "")


def _builder(variant):
    def builder(*args, **kwargs):
        return build(variant, *args, **kwargs)

    row = VARIANTS[variant]
    signature = inspect.signature(build)
    builder.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    builder.__name__ = builder.__qualname__ = _function_name(variant)
    builder.__doc__ = (
        f"Builds a {variant}: {row.num_layers} blocks of width {row.hidden_size} with {row.num_heads} heads.\n\n"
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
