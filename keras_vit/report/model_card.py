"""The model card: Markdown in Hugging Face's format with data, recipe, accuracy, calibration, exports and limits."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from keras_vit._arguments import counted
from keras_vit._atomic import write_text
from keras_vit.evaluation.accuracy import Scores
from keras_vit.evaluation.brightness import Brightness
from keras_vit.evaluation.calibration import Calibration, calibration
from keras_vit.evaluation.labels import LabelScores
from keras_vit.evaluation.numbers import NumberScores
from keras_vit.evaluation.reject import FalseRejects
from keras_vit.evaluation.verdict import Verdict
from keras_vit.export.targets import image_kind
from keras_vit.report.charts import number_text
from keras_vit.report.markdown import escaped, folded, grid, table
from keras_vit.report.proof_tables import exports_section
from keras_vit.report.target_figures import LABEL_HEADINGS, label_pairs, label_rows, label_summary, number_rows
from keras_vit.report.verdict_block import verdict_section

# The identifiers that the Hub accepts for `license`, as its error for any other lists them (May 2026).
LICENSES = frozenset(
    """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr
    mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
    grok2-community gemma unknown""".split()
)
_PLAIN = re.compile(r"[A-Za-z][\w./+-]*", re.ASCII)
_NOT_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # words that YAML does not read as text


def card_header(
    *,
    name: str,
    data: str,
    accuracy: float = 0.0,
    balanced_accuracy: float = 0.0,
    macro_f1: float = 0.0,
    ece: float = 0.0,
    measured: Mapping[str, tuple[str, float]] | None = None,
    learns: str = "classes",
    license: str | None = None,
    hub_data: str | None = None,
    base_model: str | None = None,
) -> str:
    """Returns the YAML header of a model card, with its two lines of dashes.

    Args:
        name: Name of the model.
        data: Name of the data set for readers.
        accuracy: Accuracy on the test split, 0 to 1.
        balanced_accuracy: Mean accuracy of the classes on the test split, 0 to 1.
        macro_f1: Mean F1 score of the classes on the test split, 0 to 1.
        ece: Expected calibration error on the test split, 0 to 1.
        measured: {type on the Hub: (name, value)} on the test split, of a model of labels or numbers, in place of
            accuracy and ece.
        learns: What the model has learned, "classes", "labels" or "numbers".
        license: Name of the licence, such as "Apache-2.0"; None if unknown.
        hub_data: Name of the data set on the Hugging Face Hub, "owner/name", or None.
        base_model: Name of the base checkpoint on the Hub, or None.
    """
    task = None if learns == "numbers" else "image-classification"
    measured = measured or {
        "accuracy": ("Test accuracy", accuracy),
        "balanced_accuracy": ("Balanced accuracy", balanced_accuracy),
        "f1": ("Macro F1", macro_f1),
        "expected_calibration_error": ("Expected calibration error", ece),
    }
    metrics = [{"type": kind, "name": title, "value": round(value, 6)} for kind, (title, value) in measured.items()]
    result = {
        "task": {"type": task or "other", "name": "Image classification" if task else "Image regression"},
        # The Hub requires a type; its own tools write "imagefolder" for data that is not on the Hub.
        "dataset": {"type": hub_data or "imagefolder", "name": data, "split": "test"},
        "metrics": metrics,
    }
    fields = {
        **_license(license),
        "library_name": "keras",
        "pipeline_tag": task,  # the Hub has none for numbers
        "tags": [task or "image-regression", "vision-transformer", "keras-vit"],
        "datasets": [hub_data] if hub_data else None,
        "metrics": ["accuracy", "f1"] if learns == "classes" else [next(iter(measured))],
        "base_model": base_model,
        "model-index": [{"name": name, "results": [result]}],
    }
    return "\n".join(["---", *_block({key: value for key, value in fields.items() if value}), "---"])


def _license(license: str | None) -> dict[str, str]:
    name = re.sub(r"[^a-z0-9.+-]+", "-", (license or "unknown").lower()).strip("-")
    return {"license": name} if name in LICENSES else {"license": "other", "license_name": name or "unnamed"}


def _block(value: list[Any] | dict[str, Any], indent: str = "") -> list[str]:
    """Returns lists, dicts and scalars as lines of YAML."""
    lines = []
    marked = [("-", item) for item in value] if isinstance(value, list) else [(f"{k}:", v) for k, v in value.items()]
    for mark, item in marked:
        if not isinstance(item, list | dict):
            lines.append(f"{indent}{mark} {_scalar(item)}")
        elif mark == "-":
            first, *others = _block(item, indent + "  ")
            lines += [f"{indent}- {first.strip()}", *others]
        else:
            lines += [f"{indent}{mark}", *_block(item, indent + "  ")]
    return lines


def _scalar(value: object) -> str:
    if not isinstance(value, str):
        return repr(value)
    return value if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT else _quoted(value)


def _quoted(text: str) -> str:
    """Returns a double-quoted scalar; characters that are not printable are written as their numbers."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is not a character
    escaped = (f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(escaped)}"'


_MATRIX_CLASSES = 20  # a larger confusion matrix is too wide for a page; its largest cells are listed instead
_MOST_PAIRS = 20
_DARKER = {"bright on dark": "darker", "dark on bright": "brighter"}


@dataclasses.dataclass(frozen=True, eq=False)
class ModelCard:
    """The contents of a model card.

    Args:
        name: Name of the model and its data.
        variant: Description of the architecture.
        parameters: Number of parameters.
        class_names: In the order of the outputs.
        image_size: (height, width) in pixels.
        channels: Of the images: 1 is grey, 3 RGB, 4 RGBA, another number that of their bands.
        pixel_scaling: Description of the scaling of pixels.
        verdict: Scores on the test split, and what they show.
        counts: Split -> number of images.
        digest: SHA-256 of the data, as of `keras_vit.data.sources.Source`.
        bad_images: Number of images that could not be read and were left out.
        settings: Name -> value of the recipe's settings that differ from the defaults.
        environment: Name -> value of the machine and the software.
        version: Version of keras_vit.
        agreements: Proofs of the exported files, `keras_vit.export.proof.Agreement`.
        refused: {file: reason} of the exports that are not kept.
        base: Description of the checkpoint that training started from, or None.
        base_model: Name of that checkpoint on the Hugging Face Hub, or None.
        hub_data: Name of the data set on the Hub, or None.
        license: Name of the licence; None if unknown.
        teacher: Description of the teacher whose outputs the model learned, with its licence, or None.
        base_license: Licence of the checkpoint that training started from, and what it asks for; None without one.
        origin: The kind of data and where it comes from, in words; "" for the name alone.
        brightness: Brightness of training images, or None.
        original_sizes: Smallest and largest (height, width) of these images, pixels, before they are resized; or None.
        inverted: (accuracy on test images with inverted brightness, accuracy on the same as they are, their number), or
            None.
        rejects: How many test images the model rejects as none of its classes; None if it rejects none.
        value_range: The numbers in image files that were black and white, by KERAS_VIT_VALUE_RANGE; None if not stated.
    """

    name: str
    variant: str
    parameters: int
    class_names: Sequence[str]
    image_size: tuple[int, int]
    pixel_scaling: str
    verdict: Verdict
    counts: Mapping[str, int]
    digest: str
    bad_images: int
    settings: Mapping[str, object]
    environment: Mapping[str, object]
    version: str
    channels: int = 3
    agreements: Sequence[Any] = ()
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    base: str | None = None
    teacher: str | None = None
    base_model: str | None = None
    hub_data: str | None = None
    license: str | None = None
    base_license: str | None = None
    origin: str = ""
    brightness: Brightness | None = None
    original_sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    inverted: tuple[float, float, int] | None = None
    rejects: FalseRejects | None = None
    value_range: tuple[float, float] | None = None


def write_model_card(path: str | os.PathLike[str], card: ModelCard) -> None:
    """Writes a model card, a Markdown file in Hugging Face's format; an older file is replaced by the complete new one.

    Args:
        path: The file.
        card: The contents.
    """
    # A file name may contain bytes that are not UTF-8; Python reads them as lone surrogates.
    write_text(path, render_model_card(card).encode("utf-8", "backslashreplace").decode("utf-8"))


def render_model_card(card: ModelCard) -> str:
    """Returns the text that `write_model_card` writes: the template model_card.md or target_card.md, filled in."""
    scores, classes = card.verdict.scores, len(card.class_names)
    if not isinstance(scores, Scores):
        return _target_card(card, scores)
    calibrated = calibration(scores.probabilities, scores.labels)
    return _template("model_card.md").substitute(
        _shared_parts(card),
        header=card_header(
            name=card.name,
            data=card.name,
            accuracy=scores.accuracy,
            balanced_accuracy=scores.balanced_accuracy,
            macro_f1=scores.macro_f1,
            ece=calibrated.ece,
            license=card.license,
            hub_data=card.hub_data,
            base_model=card.base_model,
        ),
        num_classes=f"{classes:,}",
        class_names=f": {', '.join(escaped(name) for name in card.class_names)}" if classes <= _MATRIX_CLASSES else "",
        files=_files(card, f"probabilities (batch, {classes})"),
        accuracy=f"{scores.accuracy:.2%}",
        interval="{:.1%} to {:.1%}".format(*scores.interval),
        balanced_accuracy=f"{scores.balanced_accuracy:.2%}",
        macro_f1=f"{scores.macro_f1:.2%}",
        test=f"{len(scores.labels):,}",
        confusion_matrix=_confusion_matrix(scores.confusion_matrix, card.class_names),
        classes=_classes(scores.confusion_matrix, card.class_names),
        ece=f"{calibrated.ece:.4f}",
        mce=f"{calibrated.mce:.4f}",
        bins=len(calibrated.counts),
        calibration=_bins(calibrated),
        outside=_outside(classes, card.rejects),
        weakest=_weakest(scores.confusion_matrix, card.class_names),
    )


def _outside(classes: int, rejects: FalseRejects | None) -> str:
    """Returns what the model does with images of something else."""
    if rejects is None or rejects.reject is None:
        return f"The model assigns one of its {classes:,} classes to every image, also to images of something else."
    reject = rejects.reject
    return (
        "The model rejects an image as none of these if its highest probability is below "
        f"{reject.threshold:.4f} (`model.reject`; the output `known` of an exported file is then below 0). The "
        f"threshold was chosen on the validation images, for {100 * reject.share:.3g}% false rejects. An image of "
        "something else that resembles a class is not rejected."
    )


def _template(name: str) -> Template:
    return Template(resources.files("keras_vit").joinpath(f"report/{name}").read_text("utf-8"))


def _shared_parts(card: ModelCard) -> dict[str, object]:
    """Returns the parts of a card that depend on the data and the training alone."""
    height, width = card.image_size
    return {
        "title": escaped(card.name),
        "variant": escaped(card.variant),
        "parameters": f"{card.parameters:,}",
        "version": escaped(card.version),
        "trained_from": _trained_from(card),
        "height": height,
        "width": width,
        "channels": card.channels,
        "value_range": _value_range(card.value_range),
        "data": _data(card),
        "recipe": folded(
            f"{len(card.settings)} settings that differ from the defaults",
            table([{"setting": name, "value": value} for name, value in card.settings.items()]),
        ),
        "environment": "\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in card.environment.items()),
        "exports": exports_section(card.agreements, card.refused),
        "verdict": verdict_section(card.verdict),
    }


def _trained_from(card: ModelCard) -> str:
    teacher = f", and from the outputs of the teacher {escaped(card.teacher)}" if card.teacher else ""
    if not card.base:
        return f"from scratch{teacher}"
    license = f". Licence of the checkpoint: {escaped(card.base_license)}" if card.base_license else ""
    return f"from the checkpoint {escaped(card.base)}{teacher}{license}"


def _target_card(card: ModelCard, scores: LabelScores | NumberScores) -> str:
    """Returns the card of a model of labels or numbers."""
    parts = _label_parts(card, scores) if isinstance(scores, LabelScores) else _number_parts(card, scores)
    header = card_header(
        name=card.name,
        data=card.name,
        measured=parts.pop("measured"),
        learns="labels" if isinstance(scores, LabelScores) else "numbers",
        license=card.license,
        hub_data=card.hub_data,
        base_model=card.base_model,
    )
    return _template("target_card.md").substitute(_shared_parts(card), header=header, **parts)


def _label_parts(card: ModelCard, scores: LabelScores) -> dict[str, Any]:
    shape = ", ".join(map(str, (*card.image_size, card.channels)))
    names = ", ".join(escaped(name) for name in scores.names)
    rows = [
        {"label": name, "images": f"{images:,}"}
        | {heading: _rounded(value) for heading, value in zip(LABEL_HEADINGS[2:], figures, strict=True)}
        for name, images, *figures in label_rows(scores)
    ]
    summary = "; ".join(f"{name} **{value}**" for name, value in label_summary(scores).items())
    pairs = label_pairs(scores)
    return {
        "measured": {
            "mean_average_precision": ("Mean average precision", scores.mean_average_precision),
            "f1": ("Micro F1", scores.micro_f1),
        },
        "what": f"{counted(len(scores.names), 'label')}, any number of which an image has: {names}",
        "files": _files(card, f"the score of each label on its own, 0 to 1, (batch, {len(scores.names)})"),
        "code": f"scores = model.predict(model.preprocess_input(images))  # uint8 (batch, {shape})\n"
        "labels = scores >= model.thresholds",
        "results": f"On {counted(len(scores.targets), 'test image')}: {summary}. No choice in training was based on "
        "these images; the thresholds have the highest F1 on the validation images.\n\n"
        + table(rows)
        + ("\n\nPairs of labels that most test images have:\n\n" + table(pairs) if pairs else ""),
        "limits": "- The thresholds suit images with each label as often as in the validation images.\n"
        "- The test images have the same origin as the training images; the figures on other images can be lower.",
    }


def _number_parts(card: ModelCard, scores: NumberScores) -> dict[str, Any]:
    shape = ", ".join(map(str, (*card.image_size, card.channels)))
    names = ", ".join(escaped(name) for name in scores.names)
    spans = ", ".join(
        f"{escaped(name)} {number_text(column.min())} to {number_text(column.max())}"
        for name, column in zip(scores.names, scores.targets.T)
    )
    return {
        "measured": {
            kind: (f"{title} of {scores.names[0]}", float(getattr(scores, figure)[0]))
            for kind, title, figure in (("r_squared", "R2", "r2"), ("mae", "Mean absolute error", "mae"))
        },
        "what": f"{counted(len(scores.names), 'number')}, in the units of the data: {names}",
        "files": _files(card, f"{{name: number (batch, 1)}} of {names}", has_names=False),
        "code": f"numbers = model.predict(model.preprocess_input(images))  # uint8 (batch, {shape})\n"
        f"print(numbers[{scores.names[0]!r}])  # (batch, 1)",
        "results": f"On {counted(len(scores.targets), 'test image')}, with 95 % intervals of 1,000 resamples of these. "
        "No choice in training was based on them.\n\n" + table(number_rows(scores)),
        "limits": f"- The test images have {spans}. Numbers beyond those of the training images are extrapolated.\n"
        "- The test images have the same origin as the training images; errors on other images can be larger.",
    }


def _rounded(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"


def _files(card: ModelCard, output: str, has_names: bool = True) -> str:
    height, width = card.image_size
    rows = [
        {
            "file": "model.keras",
            "input": f"{image_kind(card.channels)}, {height} x {width} pixels, {card.pixel_scaling}; "
            f"float32 (batch, {height}, {width}, {card.channels})",
            "output": output,
        },
        {
            "file": "labels.txt",
            "input": "",
            "output": "names of the classes, one per line, in the order of the outputs",
        },
    ]
    return table(rows[: 1 + has_names])


def _value_range(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return ""
    low, high = (f"{end:.15g}" for end in ends)
    return (
        f"\nIn files of floats, signed integers or more than 8 bits, {low} was black and {high} white. `keras-vit` "
        f"reads this from run.json; without that file, set `KERAS_VIT_VALUE_RANGE={low},{high}`."
    )


def _data(card: ModelCard) -> str:
    origin = f"{escaped(card.name)}: {escaped(card.origin)}." if card.origin else f"{escaped(card.name)}."
    paragraph = f"{origin} SHA-256 of images, labels, order and splits `{card.digest}`."
    if card.bad_images:
        paragraph += f" Left out: {counted(card.bad_images, 'image')} that could not be read."
    splits = table([{"split": split, "images": f"{n:,}"} for split, n in card.counts.items()])
    return "\n\n".join(part for part in (paragraph, splits, _training_images(card)) if part)


def _training_images(card: ModelCard) -> str:
    """Returns a paragraph on what the training images look like: their original sizes and their brightness."""
    measured = card.brightness
    if measured is None:
        return ""
    sentences = [f"Of {counted(measured.images, 'training image')}:"]
    if card.original_sizes:
        smallest, largest = (f"{height} x {width}" for height, width in card.original_sizes)
        sizes = smallest if smallest == largest else f"from {smallest} to {largest}"
        sentences.append(f"height x width in the file {sizes} pixels;")
    sentences.append(
        f"mean brightness {measured.mean:.2f}, at the border {measured.border:.2f}, in the centre "
        f"{measured.centre:.2f} (0 is black, 1 is white)."
    )
    if measured.polarity is None:
        sentences.append(f"The border is darker than the centre in {measured.darker_border:.0%} of them.")
        return " ".join(sentences)
    share = max(measured.darker_border, measured.brighter_border)
    sentences.append(
        f"**{measured.polarity.capitalize()}**: the border is {_DARKER[measured.polarity]} than the centre in "
        f"{share:.0%} of them. Images of the opposite polarity were not trained on: invert them first (255 - pixel)."
    )
    if card.inverted:
        inverted, upright, images = card.inverted
        sentences.append(
            f"On {counted(images, 'test image')} the accuracy is {upright:.2%}, and {inverted:.2%} if the same images "
            "are inverted."
        )
    return " ".join(sentences)


def _confusion_matrix(counts: np.ndarray, names: Sequence[str]) -> str:
    if len(names) <= _MATRIX_CLASSES:
        matrix = grid(["true ↓ predicted →", *names], [[name, *row] for name, row in zip(names, counts)])
        return "Numbers of images; rows are true classes, columns are predicted classes:\n\n" + matrix
    pairs = _pairs(counts, names)
    if not pairs:
        return "All test images are classified correctly."
    return "The largest cells of the confusion matrix without its diagonal:\n\n" + table(pairs)


def _pairs(counts: np.ndarray, names: Sequence[str]) -> list[dict[str, str]]:
    wrong = np.where(np.eye(len(names), dtype=bool), 0, counts)
    order = [cell for cell in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS] if wrong.flat[cell] > 0]
    return [
        {"true class": names[true], "predicted class": names[predicted], "images": f"{counts[true, predicted]:,}"}
        | {"share": f"{counts[true, predicted] / counts[true].sum():.1%}"}
        for true, predicted in (divmod(int(cell), len(names)) for cell in order)
    ]


def _classes(counts: np.ndarray, names: Sequence[str]) -> str:
    correct, images, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    rows = [
        {
            "class": name,
            "images": f"{images[k]:,}",
            "recall": _share(correct[k], images[k]),
            "precision": _share(correct[k], predicted[k]),
            "F1": _share(2 * correct[k], images[k] + predicted[k]),
        }
        for k, name in enumerate(names)
    ]
    return table(rows) if len(rows) <= _MATRIX_CLASSES else folded(f"All {len(rows):,} classes", table(rows))


def _share(count: int, of: int) -> str:
    return f"{count / of:.1%}" if of else "–"


def _bins(calibrated: Calibration) -> str:
    return table(
        [
            {
                "confidence": f"{calibrated.edges[k]:.2f} to {calibrated.edges[k + 1]:.2f}",
                "images": f"{calibrated.counts[k]:,}",
                "mean confidence": f"{calibrated.confidence[k]:.3f}",
                "accuracy": f"{calibrated.accuracy[k]:.3f}",
            }
            for k in np.flatnonzero(calibrated.counts)
        ]
    )


def _weakest(counts: np.ndarray, names: Sequence[str]) -> str:
    images = counts.sum(axis=1)
    recall = np.divide(np.diag(counts), images, out=np.full(len(names), np.inf), where=images > 0)
    worst = int(recall.argmin())
    sentence = (
        f"Lowest recall: {recall[worst]:.1%} of {counted(images[worst], 'image')}, class {escaped(names[worst])}."
    )
    missing = int((images == 0).sum())
    return sentence + (f" Unknown recall, because of no test images: {counted(missing, 'class')}." if missing else "")
