"""The model card: what a model is, what it was made from, how well it does, and what was not looked at."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template

import numpy as np

from keras_vit.atomic import write_text
from keras_vit.evaluation.accuracy import Scores
from keras_vit.evaluation.calibration import calibration
from keras_vit.export.card_header import header
from keras_vit.export.markdown import folded, grid, table, words
from keras_vit.export.proof_tables import exports_section

MATRIX_CLASSES = 20  # a larger confusion matrix is too wide for a page; its largest cells are listed instead
MOST_PAIRS = 20


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
        scores: of the test pictures.
        counts: split -> pictures.
        digest: sha256 of the data, as `keras_vit.data.sources.Source` has it.
        bad: pictures left out because they could not be read.
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
    template = Template(resources.files("keras_vit").joinpath("export/card.md").read_text("utf-8"))
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
        title=words(card.name),
        variant=words(card.variant),
        parameters=f"{card.parameters:,}",
        num_classes=f"{classes:,}",
        class_names=f": {', '.join(words(name) for name in card.class_names)}" if classes <= MATRIX_CLASSES else "",
        version=words(card.version),
        origin=f"from the checkpoint {words(card.base)}" if card.base else "from nothing",
        rows=rows,
        columns=columns,
        files=_files(card),
        data=_data(card),
        recipe=folded(
            f"{len(card.settings)} settings that are not the defaults",
            table([{"setting": name, "value": value} for name, value in card.settings.items()]),
        ),
        ran_on="\n".join(f"- {words(name)}: {words(value)}" for name, value in card.ran_on.items()),
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
                "takes": f"RGB of {rows} x {columns} pixels, {card.scaled}; float32 (batch, {rows}, {columns}, 3)",
                "gives": f"probabilities (batch, {len(card.class_names)})",
            },
            {"file": "labels.txt", "takes": "", "gives": "the name of a class a line, in the order of the outputs"},
        ]
    )


def _data(card):
    told = f"{words(card.name)}, sha256 of pictures, labels, order and splits `{card.digest}`."
    if card.bad:
        told += f" {card.bad:,} pictures could not be read and were left out."
    return f"{told}\n\n{table([{'split': split, 'pictures': f'{n:,}'} for split, n in card.counts.items()])}"


def _confusion(counts, names):
    if len(names) <= MATRIX_CLASSES:
        matrix = grid(["true ↓ predicted →", *names], [[name, *row] for name, row in zip(names, counts)])
        return "Numbers of pictures, a true class a row, what the model said a column:\n\n" + matrix
    pairs = _pairs(counts, names)
    if not pairs:
        return "No picture was taken for one of another class."
    return "The most frequent confusions:\n\n" + table(pairs)


def _pairs(counts, names):
    wrong = np.where(np.eye(len(names), dtype=bool), 0, counts)
    order = [cell for cell in np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS] if wrong.flat[cell] > 0]
    return [
        {"true class": names[true], "taken for": names[said], "pictures": f"{counts[true, said]:,}"}
        | {"of its class": f"{counts[true, said] / counts[true].sum():.1%}"}
        for true, said in (divmod(int(cell), len(names)) for cell in order)
    ]


def _classes(counts, names):
    right, pictures, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    rows = [
        {
            "class": name,
            "pictures": f"{pictures[k]:,}",
            "recall": _part(right[k], pictures[k]),
            "precision": _part(right[k], said[k]),
            "F1": _part(2 * right[k], pictures[k] + said[k]),
        }
        for k, name in enumerate(names)
    ]
    return table(rows) if len(rows) <= MATRIX_CLASSES else folded(f"All {len(rows):,} classes", table(rows))


def _part(count, of):
    return f"{count / of:.1%}" if of else "–"


def _bins(found):
    return table(
        [
            {
                "highest probability": f"{found.edges[k]:.2f} to {found.edges[k + 1]:.2f}",
                "pictures": f"{found.counts[k]:,}",
                "its mean": f"{found.confidence[k]:.3f}",
                "accuracy": f"{found.accuracy[k]:.3f}",
            }
            for k in np.flatnonzero(found.counts)
        ]
    )


def _weakest(counts, names):
    pictures = counts.sum(axis=1)
    recall = np.divide(np.diag(counts), pictures, out=np.full(len(names), np.inf), where=pictures > 0)
    worst = int(recall.argmin())
    told = f"Weakest class: {words(names[worst])}, of which it finds {recall[worst]:.1%} of {pictures[worst]:,}."
    missing = int((pictures == 0).sum())
    return told + (f" Without a test picture, so not known at all: {missing:,} classes." if missing else "")
