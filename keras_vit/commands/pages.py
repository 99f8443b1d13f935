"""The pages of a run, report and card, put together from what the other parts found."""

import collections
import dataclasses
import json
import os
import pathlib
import platform

import numpy as np

import keras_vit
from keras_vit.analysis.attention import attention_rollout
from keras_vit.commands.run_folder import RUN
from keras_vit.data.pipeline import read_pixels
from keras_vit.evaluation.calibration import calibration
from keras_vit.layers import TransformerBlock
from keras_vit.models.config import ResNet
from keras_vit.models.interface import pixels_of
from keras_vit.preprocessing import OFFICIAL_PIXELS, preprocess_input
from keras_vit.report.model_card import ModelCard, write_model_card
from keras_vit.report.preview_page import target_words, write_preview
from keras_vit.report.proof_tables import export_tables
from keras_vit.report.run_page import AttentionExample, Mistake, Reconstruction, Report
from keras_vit.training.fit import batches_of
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.training.schedules import Plan
from keras_vit.weights.checkpoints import find_checkpoint

SHOWN = 12  # images of a kind in the report
PREVIEWED = 24  # images of a batch in the preview, and how many batches
BATCHES = 4


def report(recipe, model, source, scores, history, agreements, refused=None):
    """Returns the `Report` of a run; `scores` are of the test images, `refused` is {file: reason} of the exports."""
    names, probabilities = source.class_names, scores.probabilities
    trust = calibration(probabilities, scores.labels)
    right = np.flatnonzero(scores.predictions == scores.labels)
    worst, order = scores.most_confident_mistakes[:SHOWN], _some_of_each(right, scores.labels)
    images = {
        i: read_pixels(source.test.images[i], model.input_shape[1:3], recipe.evaluation) for i in (*worst, *order)
    }
    maps = []
    if order and any(isinstance(layer, TransformerBlock) for layer in model.layers):  # a BiT has none
        maps = attention_rollout(model, preprocess_input(np.stack([images[i] for i in order]), pixels_of(model)))
    return Report(
        title=f"{source.name}: a Vision Transformer for {len(names)} classes",
        summary={
            "test accuracy": f"{scores.accuracy:.2%}",
            "test images": f"{len(scores.labels):,}",
            "calibration error": f"{trust.ece:.4f}",
            "parameters": f"{model.count_params():,}",
            "training": f"{sum(row['seconds'] for row in history):.0f} s",
        },
        history=history,
        class_names=names,
        confusion_matrix=scores.confusion_matrix,
        calibration=trust,
        mistakes=[
            Mistake(
                image=images[i],
                name=source.test.names[i],
                true=names[scores.labels[i]],
                predicted=names[scores.predictions[i]],
                probability=float(probabilities[i].max()),
                true_probability=float(probabilities[i, scores.labels[i]]),
            )
            for i in worst
        ],
        attention=[
            AttentionExample(
                images[i], rollout, f"{names[label]}, {probabilities[i].max():.0%} sure", source.test.names[i]
            )
            for i, label, rollout in zip(order, scores.labels[order], maps)
        ],
        settings={name: str(value) for name, value in dataclasses.asdict(recipe).items()},
        bad_images=source.bad,
        **export_tables(agreements, refused),
    )


def _some_of_each(indices, labels):
    """Returns some of the indices: one of each class, then a second of each, and so on."""
    seen, rank = collections.Counter(), {}
    for i in indices:
        rank[i] = seen[labels[i]], labels[i]
        seen[labels[i]] += 1
    return sorted(indices, key=rank.get)[:SHOWN]


def pretext_report(recipe, network, source, history, metrics):
    """Returns the `Report` of a run of a pretext task, with reconstructions at some test images of each class."""
    examples, metric = source.test, OBJECTIVES[recipe.objective].metric
    order = _some_of_each(range(len(examples.labels)), examples.labels)
    pixels = np.stack([read_pixels(examples.images[i], network.input_shape[1:3], recipe.evaluation) for i in order])
    task = network.layers[-1]
    columns = task.reconstructions(preprocess_input(pixels, pixels_of(task.vit)))
    return Report(
        title=f"{source.name}: a Vision Transformer learns without classes, by {recipe.objective}",
        summary={
            metric: f"{metrics['test_metric']:.1%}",
            "test loss": f"{metrics['test_loss']:.4f}",
            "test images": f"{metrics['test_images']:,}",
            "parameters": f"{metrics['parameters']:,}",
            "training": f"{metrics['training_seconds']:.0f} s",
        },
        history=history,
        accuracy_name=metric.capitalize(),
        reconstructions=[Reconstruction(*images, examples.names[i]) for i, *images in zip(order, *columns)],
        settings={name: str(value) for name, value in dataclasses.asdict(recipe).items()},
        bad_images=source.bad,
    )


def preview_page(path, recipe, source):
    """Writes a page of the first training batches of a recipe, as its model would get them."""
    size, steps = (recipe.image_size, recipe.image_size), BATCHES
    batches = batches_of(recipe, source, size, OFFICIAL_PIXELS, Plan(steps, steps, 0), 0, (0, 1, 1))
    rows = []
    for step, (images, targets, weights) in enumerate(batches.as_numpy_iterator(), 1):
        pixels = np.rint((images[:PREVIEWED] + 1) * 127.5).clip(0, 255).astype(np.uint8)
        labels = [target_words(target, source.class_names) for target in targets]
        # Rows of weight 0 are there to fill a short batch up.
        shown = [(pixels[i], labels[i]) for i in range(len(pixels)) if weights[i]]
        rows.append((f"Step {step}, the first {len(shown)} of {recipe.batch_size} images", shown))
    asked = ("crop", "flip", "rotate", "shift", "zoom", "shear", "randaugment", "mixup", "cutmix", "keras_cv")
    settings = {name: getattr(recipe, name) for name in asked if getattr(recipe, name)}
    write_preview(path, rows, f"{source.name}: what the training sees", settings)


def card(path, recipe, model, source, scores, metrics, agreements, refused=None):
    """Writes card.md of a run, beside its run.json.

    Args:
        path: the file.
        recipe: the run's.
        model: the trained model.
        source: the data.
        scores: of the test images.
        metrics: the run's, as in metrics.json.
        agreements: of the exported files.
        refused: {file: reason} of the exports that are not kept.
    """
    base, base_model, its_license = _base(recipe)
    run = json.loads((pathlib.Path(path).parent / RUN).read_text("utf-8"))
    write_model_card(
        path,
        ModelCard(
            name=source.name,
            variant=_words(recipe.variant),
            parameters=metrics["parameters"],
            class_names=source.class_names,
            image_size=model.input_shape[1:3],
            pixel_scaling=pixels_of(model).description,
            scores=scores,
            counts={split: len(getattr(source, split).labels) for split in ("train", "validation", "test")},
            digest=source.digest,
            bad_images=metrics["bad_images"],
            settings=_settings(recipe, source),
            environment={
                "machine": f"{platform.system()}, {platform.machine()}, {os.cpu_count()} processors",
                "devices": run["devices"],
                "training": f"{metrics['training_seconds']:,.0f} s",
                **run["versions"],
            },
            version=keras_vit.__version__,
            agreements=agreements,
            refused=refused or {},
            base=base,
            base_model=base_model,
            hub_data=_hub_data(recipe.data),
            license=its_license or recipe.license,
        ),
    )


def _settings(recipe, source):
    """Returns a recipe's settings that are not the defaults, without the places of this machine."""
    defaults = {field.name: field.default for field in dataclasses.fields(recipe)}
    changed = {name: getattr(recipe, name) for name in defaults if getattr(recipe, name) != defaults[name]}
    base, *_ = _base(recipe)
    public = {"data": source.name, "variant": _words(recipe.variant), "weights": base}
    return {name: public.get(name, value) for name, value in changed.items() if name != "data_dir"}


def _base(recipe):
    """Returns a recipe's checkpoint in words, its name on the Hugging Face Hub and its licence; None for none."""
    weights = recipe.weights
    if weights is None:
        return None, None, None
    if weights.startswith("hf://"):
        name = weights.removeprefix("hf://").split("@")[0]
        return name, name, None
    try:
        variant = recipe.variant if isinstance(recipe.variant, str) else None
        found = find_checkpoint(weights, variant, recipe.image_size, include_top=False)
    except ValueError:  # a file or an address, of which no row tells anything
        return weights.rstrip("/").rpartition("/")[2], None, None
    return f"{found.name} ({found.address})", None, found.license


def _hub_data(data):
    """Returns the name on the Hugging Face Hub of a recipe's data, without its configuration; None for others."""
    name = data.removeprefix("hf:")
    if name == data or pathlib.Path(name).exists():
        return None
    return "/".join(name.split("/")[:2])


def _words(variant):
    if isinstance(variant, str):
        return variant
    if isinstance(variant, ResNet):
        return f"a ResNet of {variant.units} units"
    sizes = (f"{variant.num_layers} layers", f"{variant.num_heads} heads", f"MLP {variant.mlp_dim}")
    stem = f"ResNet of {variant.stem.units} units, " if variant.stem else ""
    return f"{stem}patch {variant.patch_size}, width {variant.hidden_size}, {', '.join(sizes)}"
