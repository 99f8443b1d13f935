"""The pages of a run, report and card, put together from what the other parts found."""

import collections
import dataclasses
import platform

import numpy as np

import keras_vit
from keras_vit.analysis.attention import attention_rollout
from keras_vit.data.pipeline import read_pixels
from keras_vit.export.card import export_row, write_card
from keras_vit.layers import TransformerBlock
from keras_vit.preprocessing import OFFICIAL, pixels_of, preprocess_input
from keras_vit.report.page import Attention, Mistake, Report
from keras_vit.report.preview import target_words, write_preview
from keras_vit.training.fit import batches_of
from keras_vit.training.plan import Plan
from keras_vit.variants import ResNet

SHOWN = 12  # pictures of a kind in the report
PREVIEWED = 24  # pictures of a batch in the preview, and how many batches
BATCHES = 4


def report(recipe, model, source, scores, history, agreements):
    """Returns the `Report` of a run; `scores` are of the test pictures."""
    names, probabilities = source.class_names, scores.probabilities
    right = np.flatnonzero(scores.predictions == scores.labels)
    worst, order = scores.mistakes[:SHOWN], _some_of_each(right, scores.labels)
    pictures = {
        i: read_pixels(source.test.pictures[i], model.input_shape[1:3], recipe.evaluation) for i in (*worst, *order)
    }
    maps = []
    if order and any(isinstance(layer, TransformerBlock) for layer in model.layers):  # a BiT has none
        maps = attention_rollout(model, preprocess_input(np.stack([pictures[i] for i in order]), pixels_of(model)))
    return Report(
        title=f"{source.name}: a Vision Transformer for {len(names)} classes",
        summary={
            "test accuracy": f"{scores.accuracy:.2%}",
            "test pictures": f"{len(scores.labels):,}",
            "parameters": f"{model.count_params():,}",
            "training": f"{sum(row['seconds'] for row in history):.0f} s",
        },
        history=history,
        class_names=names,
        confusion=scores.confusion,
        mistakes=[
            Mistake(
                picture=pictures[i],
                name=source.test.names[i],
                true=names[scores.labels[i]],
                predicted=names[scores.predictions[i]],
                probability=float(probabilities[i].max()),
                true_probability=float(probabilities[i, scores.labels[i]]),
            )
            for i in worst
        ],
        attention=[
            Attention(pictures[i], rollout, f"{names[label]}, {probabilities[i].max():.0%} sure", source.test.names[i])
            for i, label, rollout in zip(order, scores.labels[order], maps)
        ],
        exports=[export_row(item) for item in agreements],
        settings={name: str(value) for name, value in dataclasses.asdict(recipe).items()},
        bad_images=source.bad,
    )


def _some_of_each(indices, labels):
    """Returns some of the indices: one of each class, then a second of each, and so on."""
    seen, rank = collections.Counter(), {}
    for i in indices:
        rank[i] = seen[labels[i]], labels[i]
        seen[labels[i]] += 1
    return sorted(indices, key=rank.get)[:SHOWN]


def preview_page(path, recipe, source):
    """Writes a page of the first training batches of a recipe, as its model would get them."""
    size, steps = (recipe.image_size, recipe.image_size), BATCHES
    batches = batches_of(recipe, source, size, OFFICIAL, Plan(steps, steps, 0), 0, (0, 1, 1))
    rows = []
    for step, (images, targets, weights) in enumerate(batches.as_numpy_iterator(), 1):
        pixels = np.rint((images[:PREVIEWED] + 1) * 127.5).clip(0, 255).astype(np.uint8)
        labels = [target_words(target, source.class_names) for target in targets]
        # Rows of weight 0 are there to fill a short batch up.
        shown = [(pixels[i], labels[i]) for i in range(len(pixels)) if weights[i]]
        rows.append((f"Step {step}, the first {len(shown)} of {recipe.batch_size} pictures", shown))
    asked = ("crop", "flip", "rotate", "shift", "zoom", "shear", "randaugment", "mixup", "cutmix", "keras_cv")
    settings = {name: getattr(recipe, name) for name in asked if getattr(recipe, name)}
    write_preview(path, rows, f"{source.name}: what the training sees", settings)


def card(path, recipe, model, source, metrics, agreements, takes):
    """Writes card.md of a run."""
    write_card(
        path,
        exports=agreements,
        takes=takes,
        scaled=pixels_of(model).words,
        bad=metrics["bad_pictures"],
        title=source.name,
        variant=_words(recipe.variant),
        parameters=f"{metrics['parameters']:,}",
        num_classes=len(source.class_names),
        class_names=", ".join(source.class_names),
        data=source.name,
        version=keras_vit.__version__,
        rows=recipe.image_size,
        columns=recipe.image_size,
        accuracy=f"{metrics['test_accuracy']:.2%}",
        seed=recipe.seed,
        machine=f"{platform.system()}, {platform.machine()}",
        **{split: len(getattr(source, split).labels) for split in ("train", "validation", "test")},
    )


def _words(variant):
    if isinstance(variant, str):
        return variant
    if isinstance(variant, ResNet):
        return f"a ResNet of {variant.units} units"
    sizes = (f"{variant.num_layers} layers", f"{variant.num_heads} heads", f"MLP {variant.mlp_dim}")
    stem = f"ResNet of {variant.stem.units} units, " if variant.stem else ""
    return f"{stem}patch {variant.patch_size}, width {variant.hidden_size}, {', '.join(sizes)}"
