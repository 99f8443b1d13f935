"""`keras-vit check --labels`: lists images whose label may be wrong, as a page and as a table to correct."""

import csv
import dataclasses
import functools
import hashlib
import logging
import os
import pathlib
import shlex
from typing import Any

import numpy as np

import keras_vit
from keras_vit._arguments import counted
from keras_vit._atomic import written_aside
from keras_vit._progress import show_progress
from keras_vit.analysis.embeddings import nearest_neighbours
from keras_vit.commands.image_files import thumbnail
from keras_vit.commands.image_list import trained_on
from keras_vit.commands.image_model import ImageModel, is_checkpoint, open_model
from keras_vit.commands.run_folder import recipe_beside
from keras_vit.data.corrections import corrections_in
from keras_vit.data.listing import Learns
from keras_vit.data.messages import few, quoted
from keras_vit.data.pipeline import evaluation_batches
from keras_vit.data.sources import Examples, Source, open_source
from keras_vit.data.targets import LEARNED
from keras_vit.evaluation.feature_cache import cached_features, extract_features, model_digest
from keras_vit.evaluation.label_errors import FOLDS, LabelErrors, label_errors
from keras_vit.models.config import Gelu
from keras_vit.models.features import representation
from keras_vit.models.interface import image_size_of
from keras_vit.preprocessing import Pixels
from keras_vit.report.labels_page import DoubtedLabel, write_labels_page
from keras_vit.training.model import new_model
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.weights.download import cache_folder

logger = logging.getLogger("keras_vit")

SHARE, LEAST = 0.05, 20  # of the images that are listed at most, and the number that always may be
PAGE_IMAGES = 100
_PRINTED = 10
_NEAREST = 3  # images shown of each of the two labels
_WELL_SEPARATED = 0.8  # share of the labels that the classifier agrees with
_NO_LABEL = "no label"
_SIDES = 224, 96  # largest side of an image on the page, and of its nearest ones, pixels
TABLE_COLUMNS = ("path", "label", "likelier", "score", "keep")


@dataclasses.dataclass(frozen=True, eq=False)
class LabelCheck:
    """Images whose label may be wrong.

    Args:
        data: the path or name of the data.
        source: the data.
        examples: its images, of all splits.
        features: of the images, (images, features).
        errors: how probable their labels are.
        notes: sentences on how the labels were checked.
        settings: of a recipe for this data, as on the command line.
        corrections: the table that corrected the labels before; None for none.
        channels: of the images.
    """

    data: str
    source: Source
    examples: Examples
    features: np.ndarray
    errors: LabelErrors
    notes: tuple[str, ...]
    settings: tuple[str, ...] = ()
    corrections: str | os.PathLike[str] | None = None
    channels: int = 3

    @property
    def listed(self) -> np.ndarray:
        """The indices of the images that are listed, the least probable label first."""
        return self.errors.doubted[: max(LEAST, round(SHARE * len(self.examples.labels)))]

    @property
    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """A row of `TABLE_COLUMNS` for each image that is listed."""
        errors, words = self.errors, functools.partial(_words, self.source)
        likelier, scores = errors.likelier, errors.scores
        return [
            (self.examples.names[i], words(errors.labels[i]), words(likelier[i]), f"{scores[i]:.4f}", "yes")
            for i in self.listed
        ]

    def text(self) -> str:
        """Returns the first images that are listed, and the notes, as lines of text."""
        rows = self.rows
        lines = [f"{len(rows):,} of {len(self.examples.labels):,} labels to look at, the least probable first:"]
        lines += [
            f"  {score}  {path}: {label or _NO_LABEL}, likelier {other or _NO_LABEL}"
            for path, label, other, score, _ in rows[:_PRINTED]
        ]
        lines += [f"  and {len(rows) - _PRINTED:,} more"] if len(rows) > _PRINTED else []
        return "\n".join([*lines, *self.notes])

    def command(self, table: str | os.PathLike[str]) -> str:
        """Returns the command to train on the data with the corrections in a table.

        Args:
            table: the path of the table.
        """
        return " ".join(["keras-vit fit", quoted(self.data), f"corrections={quoted(table)}", *self.settings])

    def write_table(self, path: str | os.PathLike[str]) -> None:
        """Writes a .csv file with the columns path, label, likelier, score and keep, which `corrections=` reads.

        Earlier corrections are in it, too, so that it replaces their table.

        Args:
            path: of the file.
        """
        rows, listed = self.rows, {self.examples.names[i] for i in self.listed}
        if self.corrections:
            earlier = corrections_in(self.corrections)
            rows += [(name, label, "", "", keep) for _, name, label, keep in earlier if name not in listed]
        with written_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([TABLE_COLUMNS, *rows])

    def write_page(self, path: str | os.PathLike[str], title: str) -> None:
        """Writes an HTML page of the images that are listed, each beside the nearest images of both labels.

        Args:
            path: of the file.
            title: the heading.
        """
        shown = [*zip(self.listed[:PAGE_IMAGES].tolist(), self.rows)]
        summary = {
            "labels to look at": f"{len(self.listed):,}",
            "images": f"{len(self.examples.labels):,}",
            "labels that a classifier agrees with": f"{self.errors.agreement:.1%}",
        }
        doubts = []
        for i, (name, label, likelier, score, _) in shown:
            image, labels = self._thumbnail(i, _SIDES[0]), (label or _NO_LABEL, likelier or _NO_LABEL)
            doubts.append(DoubtedLabel(image, name, *labels, float(score), self._nearest(i)))
        write_labels_page(path, doubts, title, summary, self.notes, len(self.listed))

    def _nearest(self, index: int) -> dict[str, list[np.ndarray]]:
        """Returns {label: images} nearest to an image, of its own label and of the likelier one."""
        labels, units = self.errors.labels, np.asarray(self.examples.units)
        nearest = {}
        for label in (labels[index], self.errors.likelier[index]):
            same = labels == label if labels.ndim == 1 else (labels == label).all(axis=1)
            others = np.flatnonzero(same & (units != units[index]))
            if len(others):
                order, _ = nearest_neighbours(self.features[others], self.features[index : index + 1], _NEAREST)
                nearest[_words(self.source, label) or _NO_LABEL] = [
                    self._thumbnail(i, _SIDES[1]) for i in others[order[0]]
                ]
        return nearest

    def _thumbnail(self, index: int, side: int) -> np.ndarray:
        return thumbnail(self.examples.images[index], side, self.channels)


def output_files(page: str | os.PathLike[str]) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns the paths of a page and of the table beside it, which has the same name.

    Args:
        page: the .html file to write.

    Raises:
        ValueError: if it does not end in .html, or the table exists: it may have been corrected by hand.
    """
    page = pathlib.Path(page)
    if page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"Expected a file name that ends in .html for the page. Received: {page}")
    table = page.with_suffix(".csv")
    if table.exists():
        raise ValueError(
            f"{table} exists and may have your corrections. Apply them with --corrections {quoted(table)} and name "
            "another page with --output, or remove it"
        )
    return page, table


@show_progress()
def check_labels_of(
    data: str | os.PathLike[str],
    model: str | os.PathLike[str],
    image_size: tuple[int, int] | None = None,
    *,
    class_depth: int | None = None,
    groups: str | None = None,
    learns: Learns | None = None,
    corrections: str | os.PathLike[str] | None = None,
    pixels: str | Pixels | None = None,
    channels: int | None = None,
    gelu: Gelu | None = None,
) -> LabelCheck:
    """Finds images whose label may be wrong, by the features of a model.

    If the model is a run that was trained on some of the images, the checkpoint that the run started from is used in
    its place: a model fits wrong labels that it is trained on.

    Args:
        data: the images, as in `keras_vit.data.sources.open_source`; all splits are checked together, without images
            that cannot be read.
        model: a .keras file, the folder of a run, or a checkpoint as in `keras_vit.load`.
        image_size: (height, width) in pixels to resize the model to; None for its own.
        class_depth, groups, learns, corrections: as in `open_source`.
        pixels: the pixel values that the model expects, as in `keras_vit.pixels_of`.
        channels: of the images, to which a checkpoint is adapted; None for those of the model.
        gelu: of a checkpoint, as in `keras_vit.load`.

    Returns:
        The images.

    Raises:
        ValueError: if the model or the data cannot be used, or the images have numbers.
    """
    if learns == "numbers":
        raise ValueError(
            f"Expected images with classes or labels, to check these. Received: {data}, of which numbers are learned. "
            "The report of a run shows its largest errors"
        )
    opened = open_model(model, image_size, pixels=pixels, channels=channels, gelu=gelu)
    shares: dict[str, Any] = {} if data == "digits" else {"validation": 0.0, "test": 0.0}
    options: dict[str, Any] = {"class_depth": class_depth, "groups": groups, "learns": learns}
    options |= {"channels": opened.channels, "corrections": corrections}
    source = open_source(data, on_bad_image="skip", **options, **shares)
    examples = _all_examples(source)
    opened, notes = _not_memorised(opened, examples)
    features = _features(opened, examples)
    logger.info("compares the labels of %s with predictions from their features", counted(len(features), "image"))
    errors = label_errors(features, examples.labels, examples.units)
    settings = [
        *([f"class_depth={class_depth}"] if class_depth else []),
        *([shlex.quote(f"groups={groups}")] if groups else []),
        *(["objective=labels"] if learns == "labels" else []),
        *([f"channels={channels}"] if channels else []),
        *(["on_bad_image=skip"] if source.bad else []),
    ]
    is_file = is_checkpoint(opened.path) and opened.path.exists()
    notes += _notes(errors, source, opened if is_file and pixels is None else None)
    facts = (os.fspath(data), source, examples, features, errors, tuple(notes), tuple(settings))
    return LabelCheck(*facts, corrections, opened.channels)


def _all_examples(source: Source) -> Examples:
    splits = [split for split in (source.train, source.validation, source.test) if len(split.labels)]
    return Examples(
        tuple(image for split in splits for image in split.images),
        np.concatenate([split.labels for split in splits]),
        tuple(name for split in splits for name in split.names),
        digests=tuple(digest for split in splits for digest in split.digests),
        units=np.concatenate([np.asarray(split.units) for split in splits]),
    )


def _not_memorised(opened: ImageModel, examples: Examples) -> tuple[ImageModel, list[str]]:
    """Returns the model, or the one that its run started from if it was trained on the labels of the images; notes."""
    recipe = recipe_beside(opened.path)
    if recipe is None or OBJECTIVES[recipe.objective].learns is None:
        return opened, []
    seen = trained_on(opened.path.parent, examples)
    count = len(examples.labels) if seen is None else int(seen.sum())
    if not count:
        return opened, []
    if recipe.weights is None:
        return opened, [
            f"{opened.path.parent} was trained on {count:,} of these images, from random weights: it fits wrong labels "
            "among them, which are harder to recognize. Name a published checkpoint with --labels instead"
        ]
    model = new_model(dataclasses.replace(recipe, representation_size=None, head_bias=0.0, head="new"), ("", ""))
    for weight in model.get_layer("head").weights:
        weight.assign(np.zeros(weight.shape))  # not used; random ones would make another digest each time
    if image_size_of(model) != opened.image_size:
        model = keras_vit.resize(model, opened.image_size)
    return dataclasses.replace(opened, model=model), [
        f"features of {recipe.weights}, which {opened.path.parent} started from: the run was trained on {count:,} of "
        "these images and fits wrong labels among them"
    ]


def _features(opened: ImageModel, examples: Examples) -> np.ndarray:
    contents = hashlib.sha256("".join(examples.digests).encode()).hexdigest()
    key = model_digest(opened.model), contents, opened.image_size, opened.protocol, repr(opened.pixels)

    def compute() -> tuple[np.ndarray, np.ndarray]:
        batches = evaluation_batches(examples, opened.image_size, contract=opened.pixels, protocol=opened.protocol)
        return extract_features(representation(opened.model), batches, len(examples.labels))

    return cached_features(cache_folder() / "features", key, compute)[0]


def _notes(errors: LabelErrors, source: Source, assumed: ImageModel | None) -> list[str]:
    notes = [f"a logistic regression on the features of other images agrees with {errors.agreement:.1%} of the labels"]
    if errors.agreement < _WELL_SEPARATED:
        notes.append(
            "the features tell these classes apart poorly, so that most of the listed labels may be right: a larger "
            "model or --image-size lists fewer of those"
        )
        if assumed:
            notes.append(
                f"{assumed.path} is used with pixels as {assumed.pixels.description}: if it was trained on others, set "
                "--pixels, and if on another GELU, --gelu"
            )
    if errors.small:
        names = few(source.class_names[number] for number in errors.small)
        notes.append(f"classes with fewer than {FOLDS} images, or groups of them, whose scores mean less: {names}")
    if count := int(errors.unchecked.sum()):
        notes.append(f"not checked: {counted(count, 'image')} whose class has no other image or group")
    if source.bad:
        notes.append(f"left out: {counted(len(source.bad), 'image')} that cannot be read")
    return notes


def _words(source: Source, label: np.ndarray) -> str:
    return LEARNED[source.learns].words(label, source.class_names)
