"""The model card: what a model is, what it was made from, how well it does, and what was not looked at."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template

import numpy as np

from keras_vit._atomic import write_text
from keras_vit.evaluation.accuracy import Scores
from keras_vit.evaluation.calibration import calibration
from keras_vit.report.markdown import escaped, folded, grid, table
from keras_vit.report.proof_tables import exports_section

# The identifiers that the Hub takes for `license`, as it names them in its refusal of any other (May 2026).
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
_NOT_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # words that YAML reads as something else


def header(*, name, data, accuracy, ece, license=None, hub_data=None, base_model=None):
    """Returns the YAML header of a card, with its two lines of dashes.

    Args:
        name: of the model.
        data: name of the data set, for people.
        accuracy: on the test images, 0 to 1.
        ece: expected calibration error on them, 0 to 1.
        license: its name, such as "Apache-2.0"; None where nobody said.
        hub_data: the data set's name on the Hub, "owner/name", or None.
        base_model: the same of the checkpoint it was made from.
    """
    metrics = [
        {"type": "accuracy", "name": "Test accuracy", "value": round(accuracy, 6)},
        {"type": "expected_calibration_error", "name": "Expected calibration error", "value": round(ece, 6)},
    ]
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        # The Hub wants a type; "imagefolder" is what its own tools put for images that are not on it.
        "dataset": {"type": hub_data or "imagefolder", "name": data, "split": "test"},
        "metrics": metrics,
    }
    fields = {
        **_license(license),
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "vision-transformer", "keras-vit"],
        "datasets": [hub_data] if hub_data else None,
        "metrics": ["accuracy"],
        "base_model": base_model,
        "model-index": [{"name": name, "results": [result]}],
    }
    return "\n".join(["---", *_block({key: value for key, value in fields.items() if value}), "---"])


def _license(license):
    name = re.sub(r"[^a-z0-9.+-]+", "-", (license or "unknown").lower()).strip("-")
    return {"license": name} if name in LICENSES else {"license": "other", "license_name": name or "unnamed"}


def _block(value, indent=""):
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


def _scalar(value):
    if not isinstance(value, str):
        return repr(value)
    return value if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT else _quoted(value)


def _quoted(text):
    """Returns a double-quoted scalar; what cannot be printed, or is half a character, is written as its number."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate is no character
    escaped = (f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(escaped)}"'


_MATRIX_CLASSES = 20  # a larger confusion matrix is too wide for a page; its largest cells are listed instead
_MOST_PAIRS = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Card:
    """All that a card says.

    Args:
        name: of the model and its data.
        variant: the architecture, in words.
        parameters: how many.
        class_names: in the order of the outputs.
        image_size: (rows, columns), pixels.
        scaled: how pixels are scaled, in words.
        scores: of the test images.
        counts: split -> images.
        digest: sha256 of the data, as `keras_vit.data.sources.Source` has it.
        bad: images left out because they could not be read.
        settings: name -> value of the recipe's settings that are not the defaults.
        ran_on: name -> value of the machine and the software.
        version: of keras_vit.
        agreements: of the exported files.
        refused: {file: reason} of the exports that are not kept.
        base: the checkpoint it was made from, in words, or None.
        base_model: that checkpoint's name on the Hugging Face Hub, or None.
        hub_data: the data set's name there, or None.
        license: the name of the licence, or None where nobody said.
    """

    name: str
    variant: str
    parameters: int
    class_names: Sequence[str]
    image_size: tuple[int, int]
    scaled: str
    scores: Scores
    counts: Mapping[str, int]
    digest: str
    bad: int
    settings: Mapping[str, object]
    ran_on: Mapping[str, object]
    version: str
    agreements: Sequence = ()
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    base: str | None = None
    base_model: str | None = None
    hub_data: str | None = None
    license: str | None = None


def write_card(path, card):
    """Writes a `Card` as a Markdown file in Hugging Face's format; an older file is replaced by the whole new one."""
    # A file's name may hold bytes that are no UTF-8; Python reads them as lone surrogates.
    write_text(path, render_card(card).encode("utf-8", "backslashreplace").decode("utf-8"))


def render_card(card):
    """Returns the text that `write_card` writes: the template card.md, filled in."""
    scores, classes = card.scores, len(card.class_names)
    found = calibration(scores.probabilities, scores.labels)
    rows, columns = card.image_size
    template = Template(resources.files("keras_vit").joinpath("report/card.md").read_text("utf-8"))
    return template.substitute(
        header=header(
            name=card.name,
            data=card.name,
            accuracy=scores.accuracy,
            ece=found.ece,
            license=card.license,
            hub_data=card.hub_data,
            base_model=card.base_model,
        ),
        title=escaped(card.name),
        variant=escaped(card.variant),
        parameters=f"{card.parameters:,}",
        num_classes=f"{classes:,}",
        class_names=f": {', '.join(escaped(name) for name in card.class_names)}" if classes <= _MATRIX_CLASSES else "",
        version=escaped(card.version),
        origin=f"from the checkpoint {escaped(card.base)}" if card.base else "from nothing",
        rows=rows,
        columns=columns,
        files=_files(card),
        data=_data(card),
        recipe=folded(
            f"{len(card.settings)} settings that are not the defaults",
            table([{"setting": name, "value": value} for name, value in card.settings.items()]),
        ),
        ran_on="\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in card.ran_on.items()),
        accuracy=f"{scores.accuracy:.2%}",
        test=f"{len(scores.labels):,}",
        confusion=_confusion(scores.confusion, card.class_names),
        classes=_classes(scores.confusion, card.class_names),
        ece=f"{found.ece:.4f}",
        mce=f"{found.mce:.4f}",
        bins=len(found.counts),
        calibration=_bins(found),
        exports=exports_section(card.agreements, card.refused),
        weakest=_weakest(scores.confusion, card.class_names),
    )


def _files(card):
    rows, columns = card.image_size
    return table(
        [
            {
                "file": "model.keras",
                "input": f"RGB of {rows} x {columns} pixels, {card.scaled}; float32 (batch, {rows}, {columns}, 3)",
                "output": f"probabilities (batch, {len(card.class_names)})",
            },
            {"file": "labels.txt", "input": "", "output": "the name of a class a line, in the order of the outputs"},
        ]
    )


def _data(card):
    told = f"{escaped(card.name)}, sha256 of images, labels, order and splits `{card.digest}`."
    if card.bad:
        told += f" {card.bad:,} images could not be read and were left out."
    return f"{told}\n\n{table([{'split': split, 'images': f'{n:,}'} for split, n in card.counts.items()])}"


def _confusion(counts, names):
    if len(names) <= _MATRIX_CLASSES:
        matrix = grid(["true ↓ predicted →", *names], [[name, *row] for name, row in zip(names, counts)])
        return "Numbers of images, a true class a row, what the model said a column:\n\n" + matrix
    pairs = _pairs(counts, names)
    if not pairs:
        return "No image was taken for one of another class."
    return "The most frequent confusions:\n\n" + table(pairs)


def _pairs(counts, names):
    wrong = np.where(np.eye(len(names), dtype=bool), 0, counts)
    order = [cell for cell in np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS] if wrong.flat[cell] > 0]
    return [
        {"true class": names[true], "taken for": names[said], "images": f"{counts[true, said]:,}"}
        | {"of its class": f"{counts[true, said] / counts[true].sum():.1%}"}
        for true, said in (divmod(int(cell), len(names)) for cell in order)
    ]


def _classes(counts, names):
    right, images, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    rows = [
        {
            "class": name,
            "images": f"{images[k]:,}",
            "recall": _part(right[k], images[k]),
            "precision": _part(right[k], said[k]),
            "F1": _part(2 * right[k], images[k] + said[k]),
        }
        for k, name in enumerate(names)
    ]
    return table(rows) if len(rows) <= _MATRIX_CLASSES else folded(f"All {len(rows):,} classes", table(rows))


def _part(count, of):
    return f"{count / of:.1%}" if of else "–"


def _bins(found):
    return table(
        [
            {
                "highest probability": f"{found.edges[k]:.2f} to {found.edges[k + 1]:.2f}",
                "images": f"{found.counts[k]:,}",
                "its mean": f"{found.confidence[k]:.3f}",
                "accuracy": f"{found.accuracy[k]:.3f}",
            }
            for k in np.flatnonzero(found.counts)
        ]
    )


def _weakest(counts, names):
    images = counts.sum(axis=1)
    recall = np.divide(np.diag(counts), images, out=np.full(len(names), np.inf), where=images > 0)
    worst = int(recall.argmin())
    told = f"Weakest class: {escaped(names[worst])}, of which it finds {recall[worst]:.1%} of {images[worst]:,}."
    missing = int((images == 0).sum())
    return told + (f" Without a test image, so not known at all: {missing:,} classes." if missing else "")
