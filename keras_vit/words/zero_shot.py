"""`zero_shot`: an image classifier whose head is made of words."""

import collections
import logging
import os
from collections.abc import Sequence

import keras
import numpy as np

from keras_vit import _arguments as checked
from keras_vit.builders import load
from keras_vit.models.class_names import refuse_names
from keras_vit.models.description import describe_model
from keras_vit.models.resnet import classifier
from keras_vit.models.vision_model import VisionModel
from keras_vit.models.vit import unit_embedding
from keras_vit.words.encoder import text_encoder
from keras_vit.words.tokenizer import tokenizer

logger = logging.getLogger("keras_vit")

# A list of our own; the published ones of CLIP can be passed as texts.
TEMPLATES = {
    "imagenet": (
        "a photo of a {}.",
        "a photo of the {}.",
        "a close-up photo of a {}.",
        "a photo of a {} far away.",
        "a blurred photo of a {}.",
        "a dark photo of a {}.",
        "a bright photo of a {}.",
        "a photo of part of a {}.",
        "a photo of several {}.",
        "a drawing of a {}.",
    )
}
_DEFAULT = {True: "a photo of a {}.", False: "This is a photo of {}."}  # of CLIP, and of SigLIP
_TEXTS = 64  # embedded at a time


def zero_shot(
    weights: str | os.PathLike[str],
    labels: Sequence[str],
    templates: str | Sequence[str] | None = None,
    reject: str | Sequence[str] | None = None,
    *,
    model: keras.Model | None = None,
) -> VisionModel:
    """Returns an image classifier of labels that are words, without training, from a SigLIP or CLIP checkpoint.

    The head of the model is made of the embeddings of its labels: an image belongs to the label whose embedding is
    closest to its own. The logits are the similarities of the checkpoint, its temperature and bias included; the
    outputs are their softmax. The text tower is not in the model.

    Args:
        weights: the checkpoint, as in `text_encoder`.
        labels: the class names, in the order of the outputs.
        templates: texts with {} in place of a label, whose embeddings are averaged; or "imagenet", a list of ten; by
            default "a photo of a {}." for CLIP, "This is a photo of {}." for SigLIP.
        reject: texts for images of no label, such as "something else"; each is another class after the labels.
        model: the image tower, where `keras_vit.load(weights)` is not to be it: at another image size, for example.

    Returns:
        A `keras_vit.VisionModel` of probabilities, with the labels as class names.

    Raises:
        ImportError: if the library is missing that reads the tokenizer; it names the extra.
        ValueError, OSError: if the checkpoint has no text tower, or no embeddings of images that fit it, labels are
            missing, equal, or the same to the text tower, or a template has no {}.

    Example:
        ```python
        model = keras_vit.zero_shot("tiny_clip", ["ripe mango", "unripe mango"], reject="something else")
        assert model.class_names == ("ripe mango", "unripe mango", "something else")
        assert model.predict(np.zeros((1, 32, 32, 3)), verbose=0).shape == (1, 3)
        ```

    Source: arXiv:2103.00020, section 3.1.
    """
    names = (*_texts("labels", labels), *_texts("reject", reject or ()))
    refuse_names(names)
    if len(names) < 2:
        raise ValueError(f"Expected two labels or more, with those of reject. Received: {', '.join(names) or 'none'}")
    chosen = _templates(templates)
    encoder = text_encoder(weights)
    image = load(weights) if model is None else model
    size = encoder.output_shape[-1]
    if describe_model(image).classes is not None or image.output_shape != (None, size):
        raise ValueError(
            f"Expected an image tower that returns embeddings (batch, {size}), as the text tower does. Received: "
            f"{image.name!r}, which returns {image.output_shape}"
        )
    if encoder.scale is None:
        raise ValueError(f"Expected a checkpoint with logit_scale. Received: {weights}, a text tower alone")
    if not chosen:
        chosen = (_DEFAULT[encoder.bias is None],)
        logger.info("each label is put into the template %r", *chosen)
    directions = _directions(encoder, weights, names, chosen)
    outputs = classifier(unit_embedding(image.outputs[0]), len(names), "softmax")
    license = getattr(image, "license", None)
    result = VisionModel(image.input, outputs, name=image.name, class_names=names, license=license)
    head = result.get_layer("head")
    head.kernel.assign(encoder.scale * directions.T)
    head.bias.assign(np.full(len(names), encoder.bias or 0.0, np.float32))
    return result


def _directions(
    encoder: keras.Model, weights: str | os.PathLike[str], names: Sequence[str], templates: Sequence[str]
) -> np.ndarray:
    """Returns the embedding of each name, (names, size), of length 1: the mean of those of its templates."""
    tokens, total = tokenizer(weights), np.zeros((len(names), encoder.output_shape[-1]), np.float32)
    for template in templates:
        ids = tokens([template.replace("{}", name) for name in names])
        same = collections.defaultdict(list)
        for name, row in zip(names, ids):
            same[row.tobytes()].append(name)
        if equal := [" and ".join(map(repr, group)) for group in same.values() if len(group) > 1]:
            raise ValueError(
                "Expected labels that the text tower tells apart. Received: the same tokens for "
                f"{checked.first_few(equal)} in {template!r}"
            )
        total += _unit(encoder.predict(ids, batch_size=_TEXTS, verbose=0))
    return _unit(total)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _texts(name: str, texts: str | Sequence[str]) -> tuple[str, ...]:
    texts = (texts,) if name == "reject" and isinstance(texts, str) else texts
    if isinstance(texts, str) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"Expected {name} to be a list of texts, none of them blank. Received: {name}={texts!r:.200}")
    return tuple(texts)


def _templates(templates: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns templates that the caller chose; () for the default."""
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise ValueError(
                f"Expected templates to be {' or '.join(map(repr, TEMPLATES))}, or a list of texts with {{}} in place "
                f"of a label. Received: templates={templates!r:.200}"
            )
        return TEMPLATES[templates]
    chosen = _texts("templates", templates or ())
    if without := [template for template in chosen if "{}" not in template]:
        raise ValueError(f"Expected {{}} in place of a label in each template. Received: {checked.first_few(without)}")
    return chosen
