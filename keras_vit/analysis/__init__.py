"""What a model looks at and what it has learned, read from outside: the model stays as it is.

    rollout = keras_vit.analysis.attention_rollout(model, model.preprocess_input(images))
    keras_vit.analysis.plots.over_image(images[0], rollout[0])

Takes any Keras model that contains our layers, nested ones too. Only `plots` draws, and imports matplotlib.
"""

from keras_vit.analysis import plots
from keras_vit.analysis.attention import (
    attention_distance,
    attention_entropy,
    attention_maps,
    attention_rollout,
    class_attention,
    mean_attention,
    patch_attention,
)
from keras_vit.analysis.convolutions import stage_maps, strongest_channels
from keras_vit.analysis.embeddings import (
    filter_components,
    neighbours,
    patch_tokens,
    position_similarity,
    token_colours,
)
from keras_vit.analysis.geometry import receptive_fields
from keras_vit.analysis.relevance import attention_relevance

__all__ = [
    "attention_distance",
    "attention_entropy",
    "attention_maps",
    "attention_relevance",
    "attention_rollout",
    "class_attention",
    "filter_components",
    "mean_attention",
    "neighbours",
    "patch_attention",
    "patch_tokens",
    "plots",
    "position_similarity",
    "receptive_fields",
    "stage_maps",
    "strongest_channels",
    "token_colours",
]
