"""Attention maps, attention rollout, relevance, embeddings and feature maps of a trained model, and their plots.

All functions accept any Keras model that contains the layers of keras_vit, at any depth, and leave it as it is. Only
`plots` draws, and imports matplotlib.

Example:
    ```python
    model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
    images = np.zeros((1, 32, 32, 3), "uint8")
    rollout = keras_vit.analysis.attention_rollout(model, model.preprocess_input(images))
    figure = keras_vit.analysis.plots.over_image(images[0], rollout[0])
    ```
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
    nearest_neighbours,
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
    "nearest_neighbours",
    "patch_attention",
    "patch_tokens",
    "plots",
    "position_similarity",
    "receptive_fields",
    "stage_maps",
    "strongest_channels",
    "token_colours",
]
