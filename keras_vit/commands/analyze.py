"""`keras-vit analyze`: writes a page of attention maps, filters, position embeddings and nearest images of a model."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_vit._arguments import counted
from keras_vit._progress import show_progress
from keras_vit.analysis import attention, convolutions, embeddings, geometry, plots, relevance
from keras_vit.analysis.gradients import require_gradients
from keras_vit.analysis.reading import Reading, read_together
from keras_vit.commands.image_files import read_images
from keras_vit.commands.image_model import ImageModel, describe_image_model, load_keras_model
from keras_vit.commands.run_folder import MODEL_FILE
from keras_vit.layers import PatchEncoder, Patches, Stem, TransformerBlock
from keras_vit.models.features import Representation
from keras_vit.models.hooks import head_of, layers_of
from keras_vit.preprocessing import Pixels
from keras_vit.report.analysis_page import Analysis, AnalyzedImage, write_analysis

logger = logging.getLogger("keras_vit")

MAX_IMAGES_SHOWN = 12  # the figures of the heads and the nearest images are computed from all images
NEAREST_IMAGES = 4  # shown for each image


@show_progress()
def analyze(
    model: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    image_size: tuple[int, int] | None = None,
    *,
    pixels: str | Pixels | None = None,
    outputs: str | None = None,
) -> None:
    """Writes an HTML page of attention maps and other figures of a model on images.

    Args:
        model: a .keras file, the folder of a run, or a checkpoint as in `keras_vit.load`.
        images: paths. The page shows the first 12; the figures of the heads and the nearest images use all.
        output: the .html file to write.
        image_size: (height, width) in pixels to resize the model to; None for its own.
        pixels: the pixel values that the model expects, as in `keras_vit.pixels_of`.
        outputs: the kind of the outputs of the model, as in `keras_vit.outputs_of`.

    Raises:
        ValueError: if the model has no layers of keras_vit, or images cannot be read; one message lists all of these.
        ImportError: if matplotlib, the extra [plots], is not installed.
    """
    plots.require_matplotlib()  # first: the analysis takes minutes
    require_gradients()
    path, keras_model = load_keras_model(model, image_size)
    geometry.require_layers(keras_model, kind=(Patches, Stem))
    opened = describe_image_model(path, keras_model, pixels=pixels, outputs=outputs)
    names = [str(image).replace("\\", "/").rpartition("/")[2] for image in images]
    write_analysis(output, analyze_pixels(opened, read_images(opened, images), names))


def analyze_pixels(opened: ImageModel, pixels: np.ndarray, names: Sequence[str]) -> Analysis:
    """Computes the contents of the page: attention maps and other figures of a model on images.

    Args:
        opened: the model, with or without a head.
        pixels: uint8 (images, height, width, channels), of the size of the model.
        names: of the images.
    """
    model = opened.model
    logger.info("computes the attention maps of %s", counted(min(len(pixels), MAX_IMAGES_SHOWN), "image"))
    shown, of_all = _read(opened, opened.preprocess(pixels))
    height, width = opened.image_size
    summary = {"image": f"{height} × {width} pixels", "parameters": f"{model.count_params():,}"}
    parts: dict[str, Any] = {}
    if blocks := layers_of(model, TransformerBlock):
        grid, heads = geometry.grid_of(model), blocks[0].attention.num_heads
        encoder = layers_of(model, PatchEncoder)[0]
        summary |= {"patches": f"{grid[0]} × {grid[1]}", "blocks × heads": f"{len(blocks)} × {heads}"}
        stem = geometry.receptive_fields(model)[:-1]
        parts = {
            "attention_of": _attention_caption(encoder.has_class_token),
            "averaged_over": counted(len(pixels), "image"),
            "distances": of_all["distances"].mean(axis=0),
            "entropies": of_all["entropies"].mean(axis=0),
            "tokens": grid[0] * grid[1] + encoder.extra_tokens,
            "receptive_fields": [field for field in stem if field.name != "stem"],
        }
        if embeddings.position_values(model) is not None:
            parts["position_similarity"] = embeddings.position_similarity(model)
    components, shares = embeddings.filter_components(model)
    facts = {
        "file": opened.path.name,
        "pixels": opened.pixels.description,
        "classes": _class_list(opened.class_names),
    }
    name = opened.path.parent.name if opened.path.name == MODEL_FILE else opened.path.stem
    return Analysis(
        f"{name}: attention maps and features",
        summary,
        _analyzed_images(opened, pixels, names, shown, of_all.get("features")),
        filter_components=components,
        variance_shares=shares,
        facts={k: v for k, v in facts.items() if v},
        **parts,
    )


def _read(opened: ImageModel, images: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs a model on preprocessed images, once on each but for the shown ones, which two figures run again.

    Returns:
        ({figure: values} of the images that the page shows, {figure: values} of all images).
    """
    model = opened.model
    of_all: dict[str, Reading] = {}
    of_shown: dict[str, Reading] = {}
    if blocks := layers_of(model, TransformerBlock):
        has_class_token = layers_of(model, PatchEncoder)[0].has_class_token
        attention_maps = attention.class_attention_reading if has_class_token else attention.mean_attention_reading
        of_all |= {"distances": attention.distance_reading(model), "entropies": attention.entropy_reading(model)}
        of_shown |= {
            "attention_maps": attention_maps(model),
            "patch_attention": attention.patch_attention_reading(model),
            "rollout": attention.rollout_reading(model),
            "tokens": embeddings.patch_tokens_reading(model),
        }
    if layers_of(model, Stem):
        of_shown["stages"] = convolutions.stage_maps_reading(model)
    if len(images) > 1 and (len(model.output_shape) == 2 or head_of(model) is not None):
        of_all["features"] = Reading(Representation(model), lambda kept: kept[0])
    first, others = images[:MAX_IMAGES_SHOWN], images[MAX_IMAGES_SHOWN:]
    shown = read_together(of_all | of_shown, first)
    rest = read_together(of_all, others) if len(others) else {}
    whole = {name: np.concatenate([shown.pop(name), *([rest[name]] if rest else [])]) for name in of_all}
    if opened.class_names and blocks:
        shown["relevance"] = relevance.attention_relevance(model, first)
    if opened.class_names and opened.served is not None:
        shown["prediction"] = opened.served.predict(first, verbose=0)
    return shown, whole


def _analyzed_images(
    opened: ImageModel,
    pixels: np.ndarray,
    names: Sequence[str],
    shown: dict[str, Any],
    features: np.ndarray | None,
) -> list[AnalyzedImage]:
    """Returns the figures of each image that the page shows."""
    parts: dict[str, Any] = {
        name: shown[name] for name in ("attention_maps", "patch_attention", "rollout", "relevance") if name in shown
    }
    if "tokens" in shown:
        parts["token_colours"] = embeddings.token_colours(shown["tokens"])
    if "stages" in shown:
        parts["stage_maps"] = _stages(opened.model, shown["stages"])
    if "prediction" in shown:
        parts["prediction"] = _predictions(shown["prediction"], opened.class_names)
    if features is not None:
        order, cosines = embeddings.nearest_neighbours(features, count=NEAREST_IMAGES)
        parts["neighbours"] = [[(names[j], pixels[j], float(c)) for j, c in zip(*pair)] for pair in zip(order, cosines)]
    return [
        AnalyzedImage(image, name, **{part: values[i] for part, values in parts.items()})
        for i, (image, name) in enumerate(zip(pixels[:MAX_IMAGES_SHOWN], names))
    ]


def _attention_caption(has_class_token: bool) -> str:
    if has_class_token:
        return "The attention of the class token, which the head reads, by block and head."
    return "The mean attention of all patches, by block and head; this model has no class token."


def _stages(model: keras.Model, stages: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Returns the mean and the strongest feature maps of each stage of a hybrid or a ResNet, for each image."""
    fields = {field.name: field.size for field in geometry.receptive_fields(model)}
    shown: list[dict[str, np.ndarray]] = [{} for _ in next(iter(stages.values()))]
    for name, maps in stages.items():
        mean, strongest = maps.mean(axis=-1, keepdims=True), convolutions.strongest_channels(maps)
        for i, stack in enumerate(np.concatenate([mean, strongest], axis=-1)):
            shown[i][f"{name}, receptive field {fields[name]} pixels"] = stack
    return shown


def _predictions(probabilities: np.ndarray, class_names: Sequence[str]) -> list[str]:
    best = probabilities.argmax(axis=1)
    return [f"{class_names[i]} {row[i]:.0%}" for i, row in zip(best, probabilities)]


def _class_list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 20 else f"{len(names):,}"
