"""The page of a model and some images: what it looks at, and what it has learned."""

import logging

import numpy as np

from keras_vit._progress import show_progress
from keras_vit.analysis import attention, convolutions, embeddings, geometry, plots, relevance
from keras_vit.commands.classifier import classifier_of, load_model, read_images
from keras_vit.commands.run_folder import MODEL
from keras_vit.layers import PatchEncoder, Patches, Stem, TransformerBlock
from keras_vit.models.features import representation
from keras_vit.models.hooks import head_of, layers_of
from keras_vit.report.analysis_page import Analysis, AnalyzedImage, write_analysis

logger = logging.getLogger("keras_vit")

MOST_LOOKS = 12  # images shown; the figures of the heads and the neighbours are of all that are given
NEAREST = 4


@show_progress()
def analyze(model, images, output, image_size=None, *, pixels=None, outputs=None):
    """Writes a page of what a model makes of images.

    Args:
        model: a .keras file, a run's folder, or a checkpoint that `keras_vit.load` takes.
        images: paths; the first 12 are shown; all count for the heads and for what is alike.
        output: the page, an .html file.
        image_size: (rows, columns) in pixels, to look at the model at another size than its own.
        pixels, outputs: as of `keras_vit.commands.classifier.open_model`.

    Raises:
        ValueError: if the model has no layers of ours, or images cannot be read; all of them in one message.
        ImportError: without matplotlib, the extra [plots].
    """
    plots.require_matplotlib()  # before minutes of work
    path, model = load_model(model, image_size)
    geometry.require_layers(model, kind=(Patches, Stem))
    subject = classifier_of(path, model, pixels=pixels, outputs=outputs)
    names = [str(image).replace("\\", "/").rpartition("/")[2] for image in images]
    write_analysis(output, analysis(subject, read_images(subject, images), names))


def analysis(subject, pixels, names):
    """Returns the `Analysis` of a `Classifier` on images.

    Args:
        subject: the model, which may also be one without a head.
        pixels: uint8 (images, rows, columns, 3) at its size.
        names: of the images.
    """
    model, looks = subject.model, _looks(subject, pixels, names)
    images = subject.prepared(pixels)
    rows, columns = subject.image_size
    summary = {"image": f"{rows} × {columns} pixels", "parameters": f"{model.count_params():,}"}
    parts = {}
    if blocks := layers_of(model, TransformerBlock):
        grid, heads = geometry.grid_of(model), blocks[0].attention.num_heads
        encoder = layers_of(model, PatchEncoder)[0]
        summary |= {"patches": f"{grid[0]} × {grid[1]}", "blocks × heads": f"{len(blocks)} × {heads}"}
        logger.info("how far and how sharply the heads look, over %d images", len(images))
        stem = geometry.receptive_fields(model)[:-1]
        parts = {
            "attention_of": _reads(encoder.has_class_token),
            "averaged_over": "one image" if len(images) == 1 else f"{len(images):,} images",
            "distances": attention.attention_distance(model, images),
            "entropies": attention.attention_entropy(model, images),
            "tokens": grid[0] * grid[1] + encoder.extra_tokens,
            "receptive_fields": [field for field in stem if field.name != "stem"],
        }
        if embeddings.position_values(model) is not None:
            parts["position_similarity"] = embeddings.position_similarity(model)
    components, shares = embeddings.filter_components(model)
    facts = {"file": subject.path.name, "read as": subject.pixels.description, "classes": _classes(subject.class_names)}
    name = subject.path.parent.name if subject.path.name == MODEL else subject.path.stem
    title = f"{name}: what the model looks at"
    return Analysis(
        title,
        summary,
        looks,
        filter_components=components,
        variance_shares=shares,
        facts={k: v for k, v in facts.items() if v},
        **parts,
    )


def _looks(subject, pixels, names):
    model, every = subject.model, subject.prepared(pixels)
    images = every[:MOST_LOOKS]
    count = len(images)
    logger.info("what %d images look like to the model", count)
    parts = [{} for _ in range(count)]

    def give(name, values):
        for part, value in zip(parts, values):
            part[name] = value

    if layers_of(model, TransformerBlock):
        has_class_token = layers_of(model, PatchEncoder)[0].has_class_token
        looked = attention.class_attention if has_class_token else attention.mean_attention
        give("attention_maps", looked(model, images))
        give("patch_attention", attention.patch_attention(model, images))
        give("rollout", attention.attention_rollout(model, images))
        give("token_colours", embeddings.token_colours(embeddings.patch_tokens(model, images)))
        if subject.class_names:
            give("relevance", relevance.attention_relevance(model, images))
    if layers_of(model, Stem):
        give("stage_maps", _stages(model, images))
    if subject.class_names:
        give("prediction", _said(subject.served.predict(images, verbose=0), subject.class_names))
    if len(every) > 1 and (len(model.output_shape) == 2 or head_of(model) is not None):
        order, cosines = embeddings.nearest_neighbours(representation(model).predict(every, verbose=0), count=NEAREST)
        near = [[(names[j], pixels[j], float(c)) for j, c in zip(*pair)] for pair in zip(order, cosines)]
        give("neighbours", near)
    return [AnalyzedImage(image, name, **part) for image, name, part in zip(pixels, names, parts)]


def _reads(has_class_token):
    if has_class_token:
        return "The attention of the class token, from which the answer is read, by block and head."
    return "The attention of all patches together, by block and head; this model has no class token."


def _stages(model, images):
    fields = {field.name: field.size for field in geometry.receptive_fields(model)}
    shown = [{} for _ in images]
    for name, maps in convolutions.stage_maps(model, images).items():
        mean, strongest = maps.mean(axis=-1, keepdims=True), convolutions.strongest_channels(maps)
        for i, stack in enumerate(np.concatenate([mean, strongest], axis=-1)):
            shown[i][f"{name}, receptive field {fields[name]} pixels"] = stack
    return shown


def _said(probabilities, class_names):
    best = probabilities.argmax(axis=1)
    return [f"{class_names[i]} {row[i]:.0%}" for i, row in zip(best, probabilities)]


def _classes(names):
    return ", ".join(names) if len(names) <= 20 else f"{len(names):,}"
