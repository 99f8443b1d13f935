"""Assembles the pages of a run from its results: the report, the model card and the preview."""

import collections
import dataclasses
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np

import keras_vit
from keras_vit.analysis.attention import attention_rollout
from keras_vit.commands.run_folder import RUN_FILE, read_object
from keras_vit.data.decoding import read_file
from keras_vit.data.pipeline import read_all, read_pixels
from keras_vit.data.sources import Examples, Source
from keras_vit.evaluation.accuracy import Scores, score
from keras_vit.evaluation.brightness import measure_brightness
from keras_vit.evaluation.calibration import calibration
from keras_vit.evaluation.reject import FalseRejects
from keras_vit.evaluation.verdict import Verdict
from keras_vit.export.proof import Agreement
from keras_vit.layers import TransformerBlock
from keras_vit.models.config import ResNet, Variant
from keras_vit.models.interface import pixels_of
from keras_vit.models.license import License
from keras_vit.preprocessing import OFFICIAL_PIXELS, preprocess_input
from keras_vit.report.model_card import ModelCard, write_model_card
from keras_vit.report.preview_page import target_words, write_preview
from keras_vit.report.proof_tables import export_tables
from keras_vit.report.run_page import AttentionExample, Mistake, Reconstruction, Report
from keras_vit.runtime.images import upright_size
from keras_vit.training.distillation import DISTILLATION_FILE
from keras_vit.training.fit import batches_of
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.training.recipe import Recipe
from keras_vit.training.schedules import Plan
from keras_vit.weights.checkpoints import find_checkpoint

REPORT_IMAGES = 12  # images in each section of the report
CARD_IMAGES = 256  # training images that the card describes, and test images that it inverts, at most
PREVIEW_IMAGES, PREVIEW_BATCHES = 24, 4  # images per batch in the preview, and batches

_BUILT_IN = {
    "digits": "scikit-learn's load_digits, scans of handwritten digits (E. Alpaydin and C. Kaynak, 1998)",
    "fashion_mnist": "Fashion-MNIST, images of clothes (Zalando Research, 2017)",
}


def run_report(
    recipe: Recipe,
    model: keras.Model,
    source: Source,
    verdict: Verdict,
    history: Sequence[Mapping[str, Any]],
    agreements: Sequence[Agreement],
    refused: Mapping[str, str] | None = None,
) -> Report:
    """Returns the report of a run: scores, curves, confusion matrix, most confident mistakes and attention maps.

    Args:
        recipe: the recipe of the run.
        model: the trained model.
        source: its images.
        verdict: its scores on the test images, and what they show.
        history: the rows of history.csv, one per epoch.
        agreements: of the exported files.
        refused: {file: reason} for exports that are not kept.
    """
    names, scores = source.class_names, cast(Scores, verdict.scores)
    probabilities = scores.probabilities
    calibrated = calibration(probabilities, scores.labels)
    correct = np.flatnonzero(scores.predictions == scores.labels)
    mistakes, examples = scores.most_confident_mistakes[:REPORT_IMAGES], _balanced(correct, scores.labels)
    images = {
        i: read_pixels(source.test.images[i], recipe.size, recipe.evaluation, recipe.channels)
        for i in (*mistakes, *examples)
    }
    rollouts: np.ndarray | tuple[()] = ()
    if examples and any(isinstance(layer, TransformerBlock) for layer in model.layers):  # a BiT has no blocks
        batch = preprocess_input(np.stack([images[i] for i in examples]), pixels_of(model))
        rollouts = attention_rollout(model, batch)
    return Report(
        title=f"{source.name}: a Vision Transformer for {len(names)} classes",
        verdict=verdict,
        summary={
            "test accuracy": f"{scores.accuracy:.2%}",
            "balanced accuracy": f"{scores.balanced_accuracy:.2%}",
            "macro F1": f"{scores.macro_f1:.2%}",
            "calibration error": f"{calibrated.ece:.4f}",
            "parameters": f"{model.count_params():,}",
            "training": f"{sum(row.get('seconds', 0.0) for row in history):.0f} s",
        },
        history=history,
        class_names=names,
        confusion_matrix=scores.confusion_matrix,
        calibration=calibrated,
        mistakes=[
            Mistake(
                image=images[i],
                name=source.test.names[i],
                true=names[scores.labels[i]],
                predicted=names[scores.predictions[i]],
                probability=float(probabilities[i].max()),
                true_probability=float(probabilities[i, scores.labels[i]]),
            )
            for i in mistakes
        ],
        attention=[
            AttentionExample(
                images[i], rollout, f"{names[label]}, probability {probabilities[i].max():.0%}", source.test.names[i]
            )
            for i, label, rollout in zip(examples, scores.labels[examples], rollouts)
        ],
        settings={name: str(value) for name, value in dataclasses.asdict(recipe).items()},
        bad_images=source.bad,
        **export_tables(agreements, refused),
    )


def _balanced(indices: Sequence[int] | np.ndarray, labels: np.ndarray) -> list[int]:
    """Returns some of the indices, balanced by class: the first of each class, then the second of each, and so on."""
    counts: collections.Counter[int] = collections.Counter()
    rank = {}
    for i in indices:
        rank[i] = counts[labels[i]], labels[i]
        counts[labels[i]] += 1
    return sorted(indices, key=rank.__getitem__)[:REPORT_IMAGES]


def pretext_report(
    recipe: Recipe,
    network: keras.Model,
    source: Source,
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
) -> Report:
    """Returns the report of a run of a pretext task, with its predictions for some test images of each class.

    Args:
        recipe: the recipe of the run.
        network: the trained network; its last layer is the pretext task.
        source: its images.
        history: the rows of history.csv, one per epoch.
        metrics: as in metrics.json.
    """
    examples, metric = source.test, OBJECTIVES[recipe.objective].metric
    order = _balanced(range(len(examples.labels)), examples.labels)
    pixels = read_all([examples.images[i] for i in order], recipe.size, recipe.evaluation, recipe.channels)
    task = network.layers[-1]
    reconstructions = task.reconstructions(preprocess_input(pixels, pixels_of(task.vit)))
    return Report(
        title=f"{source.name}: a Vision Transformer pre-trained with objective={recipe.objective}",
        summary={
            metric: f"{metrics['test_metric']:.1%}",
            "test loss": f"{metrics['test_loss']:.4f}",
            "test images": f"{metrics['test_images']:,}",
            "parameters": f"{metrics['parameters']:,}",
            "training": f"{metrics['training_seconds']:.0f} s",
        },
        history=history,
        accuracy_name=metric.capitalize(),
        reconstructions=[
            Reconstruction(image, seen, guessed, examples.names[i])
            for i, image, seen, guessed in zip(order, *reconstructions, strict=True)
        ],
        settings={name: str(value) for name, value in dataclasses.asdict(recipe).items()},
        bad_images=source.bad,
    )


def write_preview_page(path: str | os.PathLike[str], recipe: Recipe, source: Source) -> None:
    """Writes an HTML page of the first training batches of a recipe, as the model reads them.

    Args:
        path: the .html file to write.
        recipe: the recipe.
        source: its images.
    """
    steps, contract = PREVIEW_BATCHES, OFFICIAL_PIXELS.for_channels(recipe.channels)
    batches = batches_of(recipe, source, recipe.size, contract, Plan(steps, steps, 0), 0, (0, 1, 1))
    rows = []
    for step, (images, targets, weights) in enumerate(batches.as_numpy_iterator(), 1):
        pixels = np.rint((images[:PREVIEW_IMAGES] + 1) * 127.5).clip(0, 255).astype(np.uint8)
        labels = [_target_words(target, source) for target in targets]
        # Images of weight 0 only fill up a short batch.
        shown = [(pixels[i], labels[i]) for i in range(len(pixels)) if weights[i]]
        rows.append((f"Step {step}, the first {len(shown)} of {recipe.batch_size} images", shown))
    augmentations = ("crop", "flip", "rotate", "shift", "zoom", "shear", "randaugment", "mixup", "cutmix", "keras_cv")
    settings = {name: getattr(recipe, name) for name in augmentations if getattr(recipe, name)}
    write_preview(path, rows, f"{source.name}: augmented training images", settings)


def _target_words(target: np.ndarray, source: Source) -> str:
    """Returns what is learned of an augmented image as a text."""
    if source.learns == "numbers":
        return ", ".join(f"{name} {value:.4g}" for name, value in zip(source.class_names, target, strict=True))
    return target_words(target, source.class_names) or "no label"


def write_run_card(
    path: str | os.PathLike[str],
    recipe: Recipe,
    model: keras.Model,
    source: Source,
    verdict: Verdict,
    metrics: Mapping[str, Any],
    agreements: Sequence[Agreement],
    refused: Mapping[str, str] | None = None,
    rejects: FalseRejects | None = None,
) -> None:
    """Writes the model card of a run.

    Args:
        path: the file, card.md in the folder of the run; run.json is read from the same folder.
        recipe: the recipe of the run.
        model: the trained model.
        source: its images.
        verdict: its scores on the test images, and what they show.
        metrics: as in metrics.json.
        agreements: of the exported files.
        refused: {file: reason} for exports that are not kept.
        rejects: how many test images the model rejects as none of its classes; None if it rejects none.
    """
    base, base_model, base_license = _base_checkpoint(recipe)
    license: License | None = getattr(model, "license", None) or base_license
    run = read_object(pathlib.Path(path).parent / RUN_FILE)
    write_model_card(
        path,
        ModelCard(
            name=source.name,
            variant=_variant_text(recipe.variant),
            parameters=metrics["parameters"],
            class_names=source.class_names,
            image_size=recipe.size,
            channels=recipe.channels,
            pixel_scaling=pixels_of(model).description,
            verdict=verdict,
            counts={split: len(getattr(source, split).labels) for split in ("train", "validation", "test")},
            digest=source.digest,
            bad_images=metrics["bad_images"],
            settings=_changed_settings(recipe, source),
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
            teacher=_teacher(recipe, path),
            base_model=base_model,
            hub_data=_hub_data(recipe.data),
            license=license.name if license and license.is_known else recipe.license,
            base_license=license.text if license else None,
            origin=_origin(recipe.data),
            rejects=rejects,
            value_range=run.get("data", {}).get("value_range"),
            **_training_images(recipe, model, source),
        ),
    )


def _training_images(recipe: Recipe, model: keras.Model, source: Source) -> dict[str, Any]:
    """Returns what the card says on some training images, and on test images with inverted brightness."""
    chosen = _some(source.train)
    if not len(chosen):
        return {}
    images, read = [source.train.images[i] for i in chosen], (recipe.size, recipe.evaluation, recipe.channels)
    measured = measure_brightness(read_all(images, *read))
    sizes = sorted((upright_size(read_file(image)) for image in images), key=lambda side: (side[0] * side[1], side))
    facts: dict[str, Any] = {"brightness": measured, "original_sizes": (sizes[0], sizes[-1])}
    tested = _some(source.test)
    if measured.polarity and len(tested) and source.learns == "classes":
        pixels = read_all([source.test.images[i] for i in tested], *read)
        parts = [slice(start, start + 32) for start in range(0, len(tested), 32)]
        inverted, upright = (
            score(
                model,
                [
                    (preprocess_input(images[part], pixels_of(model)), source.test.labels[tested[part]])
                    for part in parts
                ],
            ).accuracy
            for images in (255 - pixels, pixels)
        )
        facts["inverted"] = inverted, upright, len(tested)
    return facts


def _some(examples: Examples) -> np.ndarray:
    """Returns at most `CARD_IMAGES` indices of examples, evenly spaced."""
    count = len(examples.labels)
    return np.linspace(0, count - 1, min(count, CARD_IMAGES)).astype(int)


def _origin(data: str) -> str:
    """Returns in words what kind of data a recipe names."""
    if data in _BUILT_IN:
        return _BUILT_IN[data]
    if data.startswith("synthetic"):
        return "synthetic images made by keras_vit"
    if data.startswith("hf:"):
        return "a data set of the Hugging Face Hub"
    path = pathlib.Path(data)
    if path.suffix in (".zip", ".csv"):
        return f"the images of a {path.suffix} file"
    if path.exists() or path.is_absolute() or data.startswith("."):
        return "a folder of images"
    return "a data set of TensorFlow Datasets"


def _changed_settings(recipe: Recipe, source: Source) -> dict[str, Any]:
    """Returns the settings of a recipe that differ from the defaults, without paths of this machine."""
    defaults = {field.name: field.default for field in dataclasses.fields(recipe)}
    changed = {name: getattr(recipe, name) for name in defaults if getattr(recipe, name) != defaults[name]}
    base, *_ = _base_checkpoint(recipe)
    public = {"data": source.name, "variant": _variant_text(recipe.variant), "weights": base}
    for name in ("corrections", "teacher", "unlabelled"):  # paths of this machine
        path = getattr(recipe, name)
        public[name] = path and pathlib.Path(path).name
    return {name: public.get(name, value) for name, value in changed.items() if name != "data_dir"}


def _base_checkpoint(recipe: Recipe) -> tuple[str | None, str | None, License | None]:
    """Returns (description, name on the Hugging Face Hub, licence) of the checkpoint that a recipe starts from."""
    weights = recipe.weights
    if weights is None:
        return None, None, None
    if weights.startswith("hf://"):
        name = weights.removeprefix("hf://").split("@")[0]
        return name, name, None
    try:
        variant = recipe.variant if isinstance(recipe.variant, str) else None
        checkpoint = find_checkpoint(weights, variant, max(recipe.size), include_top=False)
    except ValueError:  # a file or an address that is not in the table of checkpoints
        return weights.rstrip("/").rpartition("/")[2], None, None
    return f"{checkpoint.name} ({checkpoint.address})", None, License(checkpoint.license, "as published")


def _teacher(recipe: Recipe, path: str | os.PathLike[str]) -> str | None:
    """Returns the description of a recipe's teacher, for the card at a path; None without one."""
    if recipe.teacher is None:
        return None
    license = read_object(pathlib.Path(path).parent / DISTILLATION_FILE).get("license")
    return f"{pathlib.Path(recipe.teacher).name} ({recipe.distill})" + f". Its licence: {license}" * bool(license)


def _hub_data(data: str) -> str | None:
    """Returns the name of a recipe's data on the Hugging Face Hub, without its configuration; None for other data."""
    name = data.removeprefix("hf:")
    if name == data or pathlib.Path(name).exists():
        return None
    return "/".join(name.split("/")[:2])


def _variant_text(variant: str | Variant | ResNet) -> str:
    if isinstance(variant, str):
        return variant
    if isinstance(variant, ResNet):
        return f"a ResNet of {variant.units} units"
    sizes = (f"{variant.num_layers} layers", f"{variant.num_heads} heads", f"MLP dimension {variant.mlp_dim}")
    stem = f"ResNet of {variant.stem.units} units, " if variant.stem else ""
    return f"{stem}patch size {variant.patch_size}, hidden size {variant.hidden_size}, {', '.join(sizes)}"
