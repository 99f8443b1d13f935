"""`text_encoder`: the text tower of a checkpoint as a Keras model."""

import math
import os

from keras_vit import _arguments as checked
from keras_vit.layers.initializers import weights_to_come
from keras_vit.models.description import weight_path
from keras_vit.models.text import TextModel, text_model
from keras_vit.weights.load import read_weights
from keras_vit.weights.open import checkpoint_path
from keras_vit.weights.text import open_text_file


def text_encoder(weights: str | os.PathLike[str], *, num_heads: int | None = None) -> TextModel:
    """Loads the text tower of a SigLIP, SigLIP 2 or CLIP checkpoint: transformers', OpenCLIP's or big_vision's.

    Every array of the tower is read, or an error lists what does not fit. `keras_vit.load` reads the image tower of the
    same checkpoint, whose embeddings are compared with those of this one.

    Args:
        weights: a .safetensors file, the folder that it is in, or hf://OWNER/NAME; or big_vision's .npz.
        num_heads: attention heads, where no configuration beside the file states them; by default as many as have 64
            channels each.

    Returns:
        A functional `keras.Model` from token ids, int32 (batch, length), to embeddings (batch, size), not normalised.
        `keras_vit.tokenizer` makes ids of texts. `model.scale` and `model.bias` are those of the similarity of an image
        and a text, scale * cosine + bias.

    Raises:
        ValueError, OSError: if the file cannot be read, has no text tower, or holds another one (all faults in one
            message).

    Example:
        ```python
        encoder = keras_vit.text_encoder("tiny_clip")
        embeddings = encoder(keras_vit.tokenizer("tiny_clip")(["a cat", "a dog"]))
        assert embeddings.shape == (2, 16)
        ```

    Source: arXiv:2103.00020; arXiv:2303.15343; arXiv:2502.14786.
    """
    num_heads = None if num_heads is None else checked.integer("num_heads", num_heads)
    with open_text_file(checkpoint_path(weights), num_heads) as (file, tower, scale, bias):
        with weights_to_come():
            model = text_model(tower, file.numerics, None if scale is None else math.exp(scale), bias)
        variables = {weight_path(layer, variable): variable for layer in model.layers for variable in layer.weights}
        shapes = {path: tuple(variable.shape) for path, variable in variables.items()}
        for path, array in read_weights(file, shapes, tower):
            variables[path].assign(array)
    return model
