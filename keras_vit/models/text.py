"""The text tower of SigLIP and CLIP: from token ids to an embedding beside that of images."""

from typing import Any

import keras

from keras_vit import layers
from keras_vit.layers.initializers import initial
from keras_vit.models.config import Numerics, TextTower


@keras.saving.register_keras_serializable(package="keras_vit")
class TextModel(keras.Model):
    """A functional `keras.Model` from token ids to embeddings, with how images and texts are compared.

    An image and a text have the similarity `scale * cosine + bias`, of which SigLIP takes the sigmoid and CLIP the
    softmax over texts.

    Args:
        inputs, outputs, name: as in `keras.Model`.
        scale: factor of the cosine of two embeddings; None if it is not known.
        bias: what is added; None, as for 0, in CLIP.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        *,
        scale: float | None = None,
        bias: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.scale, self.bias = scale, bias

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "bias": self.bias}


def text_model(
    tower: TextTower, numerics: Numerics, scale: float | None = None, bias: float | None = None
) -> TextModel:
    """Returns the model of a text tower with random weights.

    Args:
        tower: the architecture.
        numerics: the form of the GELU and the epsilon of the norms.
        scale, bias: as in `TextModel`.

    Source: arXiv:2103.00020, section 2.4; arXiv:2303.15343; transformers' `modeling_clip.py` and `modeling_siglip.py`.
    """
    ids = keras.Input((tower.length,), dtype="int32", name="ids")
    x = keras.layers.Embedding(tower.vocabulary, tower.hidden_size, initial("uniform"), name="words")(ids)
    x = layers.Positions("learned", (1, tower.length), name="positions")(x)
    block = layers.TransformerBlock if tower.end is None else layers.CausalBlock
    for i in range(tower.num_layers):
        x = block(
            tower.num_heads,
            tower.mlp_dim,
            gelu=numerics.gelu,
            norm_epsilon=numerics.norm_epsilon,
            name=f"block_{i:02d}",
        )(x)
    x = keras.layers.LayerNormalization(epsilon=numerics.norm_epsilon, name="norm")(x)
    x = layers.TextToken(tower.end, name="pooling")(x, ids)
    x = keras.layers.Dense(
        tower.embedding_size,
        use_bias=tower.end is None,
        kernel_initializer=initial("glorot_uniform"),
        name="embedding",
    )(x)
    return TextModel(ids, x, name="text", scale=scale, bias=bias)
