"""Judges a model on images in all the ways that `keras-vit evaluate` offers."""

import dataclasses
import functools
import logging

import numpy as np

from keras_vit._progress import log_progress, show_progress
from keras_vit.commands.classifier import Classifier, open_model
from keras_vit.commands.examples import evaluation_split, in_classes, namings, resize_note, resizes, source_for
from keras_vit.data.decoding import read_file
from keras_vit.data.pipeline import evaluation_batches, read_all
from keras_vit.evaluation.accuracy import Scores
from keras_vit.evaluation.accuracy import score as score
from keras_vit.evaluation.calibration import calibration
from keras_vit.evaluation.class_subsets import read_classes
from keras_vit.evaluation.feature_cache import cached_features, extract_features, model_digest
from keras_vit.evaluation.few_shot import REGULARIZER
from keras_vit.evaluation.few_shot import few_shot as learn_from_few
from keras_vit.evaluation.pixel_contracts import IMAGES, better_contract
from keras_vit.evaluation.probes import NEIGHBOURS
from keras_vit.evaluation.probes import knn as ask_neighbours
from keras_vit.evaluation.probes import linear_probe as probe
from keras_vit.evaluation.real_labels import read_real_labels, real_accuracy, validation_order
from keras_vit.export.proof import read_proof
from keras_vit.models.features import representation
from keras_vit.report.run_page import Report, write_report
from keras_vit.runtime.files import is_exported, open_exported
from keras_vit.weights.download import cache_folder

logger = logging.getLogger("keras_vit")

TEST_PART = 0.2  # of a folder without parts, where something has to be learned from the rest


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Holds what was found of a model.

    Args:
        scores: of its head; None where there is none to judge.
        class_names: in the order of the scores.
        others: {what: accuracy} by other labels, or of classifiers that learned from the model's features.
        notes: sentences on how it was done.
        kind: of the head's outputs, "probabilities" or "scores".
    """

    scores: Scores | None
    class_names: tuple[str, ...]
    others: dict[str, float]
    notes: tuple[str, ...]
    kind: str = "probabilities"

    @property
    def calibration(self):
        """The `Calibration` of the head's probabilities; None of scores that stand each by itself."""
        if self.kind == "scores":
            return None
        return calibration(self.scores.probabilities, self.scores.labels)

    def write_page(self, path, title):
        """Writes it as a page: with a head, what is taken for what, class by class, and a reliability plot."""
        summary, parts = {what: f"{accuracy:.2%}" for what, accuracy in self.others.items()}, {}
        if self.scores is not None:
            found = {"accuracy": f"{self.scores.accuracy:.2%}"}
            found["among the first 5"] = f"{self.scores.top_k_accuracy(5):.2%}"
            if self.calibration is not None:
                found["calibration error"] = f"{self.calibration.ece:.4f}"
            summary = found | {"images": f"{len(self.scores.labels):,}"} | summary
            parts = {"class_names": self.class_names, "confusion_matrix": self.scores.confusion_matrix}
            parts["calibration"] = self.calibration
        notes = {f"note {i}": note for i, note in enumerate(self.notes, 1)}
        write_report(path, Report(title, summary, settings=notes, **parts))

    def text(self):
        """Returns it as lines to read."""
        lines = []
        if self.scores is not None:
            width, counts = max(map(len, self.class_names)), self.scores.confusion_matrix.sum(axis=1)
            rows = zip(self.class_names, self.scores.per_class_accuracy, counts)
            lines += [f"{name:<{width}s}  {accuracy:7.2%} of {count:,}" for name, accuracy, count in rows if count]
            lines.append(f"accuracy {self.scores.accuracy:.2%} on {len(self.scores.labels):,} images")
            if len(self.class_names) > 5:
                lines.append(f"the true class among the first 5: {self.scores.top_k_accuracy(5):.2%}")
            if self.calibration is not None:
                lines.append(f"calibration error {self.calibration.ece:.4f}")
        lines += [f"{what}: {accuracy:.2%}" for what, accuracy in self.others.items()]
        return "\n".join([*lines, *self.notes])


@show_progress()
def evaluate(
    model,
    data=None,
    *,
    flips=False,
    classes=None,
    real=None,
    few_shot=(),
    knn=False,
    linear_probe=False,
    image_size=None,
    class_depth=1,
    pixels=None,
    outputs=None,
):
    """Judges a model on images whose classes are known.

    Args:
        model: a .keras file, a run's folder, an exported file, which is run as a client does, from the encoded images
            on, or a checkpoint that `keras_vit.load` takes.
        data: what `keras_vit.data.sources.open_source` takes, of which the test images are used, else the validation
            images, else all; None for the test images of the run that the model came from.
        flips: whether an image is judged together with its mirror image.
        classes: a text file of the classes to choose from, by name, number or wnid, one a line; the images of others
            are left out. None for all of the model's.
        real: the published real.json, for `data` that is ImageNet's validation set.
        few_shot: numbers of images a class; for each, a linear classifier learns from so many on the features.
        knn: whether the nearest neighbours in the features are asked.
        linear_probe: whether a logistic regression learns from the features.
        image_size: (rows, columns) in pixels, where a model is made for another size; None for its own.
        class_depth: how many folders down the class folders of `data` lie: 2 for data/region/class.
        pixels, outputs: as of `keras_vit.commands.classifier.open_model`.

    Returns:
        The `Evaluation`.

    Raises:
        ValueError: if the model, the data or a list cannot be used, an option is not for this model, or the data has a
            class that the model's head has not; with `few_shot`, `knn` or `linear_probe`, the head is then passed over.
    """
    learned = bool(few_shot or knn or linear_probe)
    if real and classes:
        raise ValueError(f"Expected one of real and classes. Received: real={real!r}, classes={classes!r}")
    subject = _open(model, image_size, pixels, outputs)
    if (learned or flips) and not isinstance(subject, Classifier):
        raise ValueError(
            "Expected a Keras model, a run's folder or a checkpoint for few-shot evaluation, nearest neighbours, a "
            f"linear probe or flips. Received: {model}, an exported file"
        )
    opened = functools.partial(source_for, subject.path, data, class_depth=class_depth)
    source = opened()
    scores, names, others, notes = None, (), {}, []
    try:
        scores, names, others, notes = _of_head(subject, source, flips, classes, real)
    except _NoHead as error:
        if not learned or flips or classes or real:
            raise
        notes.append(f"the head is not judged: {error}")
    exported = scores is not None and not isinstance(subject, Classifier)
    if exported and resizes(subject, getattr(source, evaluation_split(source)).images):
        notes.append(resize_note(subject, scores.accuracy, None if data or classes else _proven(subject, scores)))
    if learned:
        found, more = _of_features(subject, source, opened, tuple(dict.fromkeys(few_shot)), knn, linear_probe)
        others, notes = others | found, notes + more
    return Evaluation(scores, names, others, tuple(notes), getattr(subject, "returns", None) or "probabilities")


def _proven(file, scores):
    """Returns a file's accuracy on the same images as evaluation resizes them, if its proof holds it."""
    proof = next((item for item in read_proof(file.path.parent) if item["file"] == file.path.name), {})
    return proof["accuracy"] if proof.get("images") == len(scores.labels) else None


class _NoHead(ValueError):
    """Says why a model's head cannot be judged."""


def _open(model, image_size, pixels, outputs):
    """Opens a model: a `Classifier`, or an exported file."""
    if not is_exported(model):
        return open_model(model, image_size, pixels=pixels, outputs=outputs)
    for name, value in {"image_size": image_size, "pixels": pixels, "outputs": outputs}.items():
        if value:
            raise ValueError(f"Expected {name} for a model of Keras. Received: {model}, in which it is fixed")
    return open_exported(model)


def _of_head(subject, source, flips, classes, real):
    """Returns the scores of a model's head, the names of their classes, accuracies by other labels, and notes."""
    if not subject.class_names:
        if "numbers" in (getattr(subject, "kind", None), *subject.outputs):
            raise _NoHead(f"{subject.path} returns numbers, not classes: there is no accuracy of them.")
        raise _NoHead(f"{subject.path} gives features, not classes. --few-shot, --knn and --linear-probe judge those.")
    names = tuple(subject.class_names)
    try:
        examples = in_classes(source, names)[evaluation_split(source)]
    except ValueError as error:
        raise _NoHead(str(error)) from error
    # Whatever can be wrong is read before the model runs for an hour.
    chosen = read_classes(classes, *namings(names, numbers=True)) if classes else None
    labels = read_real_labels(real, len(names)) if real else None
    order = validation_order(examples.names, len(labels)) if real else None
    if isinstance(subject, Classifier):
        scores = score(subject.served, log_progress(_batches(subject, examples), "judged", len(examples.labels)), flips)
    else:
        scores = Scores(examples.labels, subject.predict_encoded(map(read_file, examples.images))["probabilities"])
    notes = ["each image was judged together with its mirror image"] if flips else []
    if isinstance(subject, Classifier):
        notes += contract_warnings(subject, examples)
    if chosen:
        whole, scores = scores, scores.restricted_to(chosen)
        names = tuple(names[i] for i in chosen)
        notes.append(f"{len(names):,} of the model's {len(subject.class_names):,} classes to choose from")
        if left_out := len(whole.labels) - len(scores.labels):
            notes.append(f"{left_out:,} images of other classes are left out")
    found = {}
    if real:
        counted = sum(map(bool, labels))
        found[f"by ReaL labels, on {counted:,} images"] = real_accuracy(scores.predictions[order], labels)
    return scores, names, found, notes


def contract_warnings(subject, examples):
    """Returns a warning if another usual pixel contract does much better on some labelled images, and logs it."""
    some = np.linspace(0, len(examples.labels) - 1, min(len(examples.labels), IMAGES)).astype(int)
    pixels = read_all([examples.images[i] for i in some], subject.image_size, subject.protocol)
    rival = better_contract(subject.served, pixels, examples.labels[some], subject.pixels)
    if rival is None:
        return []
    logger.warning("%s: %s", subject.path, rival.text)
    return [f"WARNING: {rival.text}"]


def _of_features(subject, source, opened, few_shot, knn, linear_probe):
    """Returns {what: accuracy} of what learned from a model's features, and notes."""
    judged, notes = evaluation_split(source), []
    if judged == "train":
        source, judged = opened(test=TEST_PART), "test"
        if not len(source.test.labels):
            received = f"Received: {source.name}"
            raise ValueError(f"Expected 3 images or more of a class, to learn from and to judge on. {received}")
        notes.append(f"{TEST_PART:.0%} of each class, drawn by seed 0, was judged on, and learned from the rest")
    model, digest, pixels = representation(subject.model), model_digest(subject.model), subject.pixels

    def features_of(split):
        examples = getattr(source, split)
        about = digest, source.digest, split, subject.image_size, subject.protocol, repr(pixels)
        compute = functools.partial(_extracted, subject, model, examples)
        return cached_features(cache_folder() / "features", about, compute)

    arrays = *features_of("train"), *features_of(judged)
    count, found = len(arrays[3]), {}
    if few_shot:
        result = learn_from_few(*arrays, few_shot, (REGULARIZER,), class_names=source.class_names)
        found |= {f"{shots}-shot, a linear classifier, on {count:,} images": result.at(shots) for shots in few_shot}
    if knn:
        k = min(NEIGHBOURS, len(arrays[1]))
        nearest = ask_neighbours(*arrays, k)
        found[f"{k} nearest neighbours of {len(arrays[1]):,}, on {count:,} images"] = nearest.accuracy
    if linear_probe:
        found[f"linear probe of {len(arrays[1]):,}, on {count:,} images"] = probe(*arrays).accuracy
    return found, notes


def _extracted(subject, model, examples):
    return extract_features(model, _batches(subject, examples), len(examples.labels))


def _batches(subject, examples):
    return evaluation_batches(examples, subject.image_size, contract=subject.pixels, protocol=subject.protocol)
