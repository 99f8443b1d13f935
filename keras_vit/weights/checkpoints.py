"""The published checkpoints: a row each in checkpoints.csv, and the 52,268 AugReg files by name or by query.

To add a checkpoint, add a row. Sources: the file lists and READMEs of google-research/vision_transformer (vit_jax) and
google-research/big_transfer; timm's default_cfgs, which pick one AugReg file per model and size, and its
results-imagenet.csv, which measured them.
"""

import csv
import dataclasses
import difflib
import functools
import logging
import math
import pathlib
import re

from keras_vit import _arguments as checked
from keras_vit.models.config import VARIANTS, get_variant
from keras_vit.weights.download import fetch

logger = logging.getLogger("keras_vit")

AUGREG = "gs://vit_models/augreg/"

# Data sets by the name that the AugReg files have for them: what they are called here, and their classes.
_PRE_TRAINED_ON = {"i1k": ("imagenet2012", 1000), "i21k": ("imagenet21k", 21843), "i21k_30": ("imagenet21k", 21843)}
_CLASSES = {"imagenet2012": 1000, "cifar100": 100, "oxford_iiit_pet": 37, "resisc45": 45, "kitti": 4}
_STEM = re.compile(
    r"(?P<model>\w+)-(?P<ds>i1k|i21k\w*)-\d+ep-[\w.-]+?(--(?P<data>\w+)-[\w.-]*res_(?P<resolution>\d+))?"
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Describes a published weight file: all it takes to use it.

    Args:
        name: its name here.
        variant: the architecture, a key of `keras_vit.models.config.VARIANTS`.
        address: where it is, as `keras_vit.weights.download.fetch` takes it.
        source: the naming dialect of its arrays, "npz" (vit_jax) or "bit" (big_transfer).
        image_size: side of the images it was trained on last, in pixels.
        classes: width of its head.
        trained_on: the data sets, "imagenet21k+imagenet2012" for pre-trained and fine-tuned.
        head: "real", or "zero" where the publisher overwrote the head with zeros.
        representation: whether it has the `pre_logits` layer before the head.
        interpolation: how an image is resized, as timm's configuration of the file says.
        crop: part of the resized image's side that is kept, from the middle; from the same place.
        top1: published ImageNet-1k accuracy, in percent, or None.
        published: where that accuracy was published, or None. Numbers from other places than timm's were measured
            with other resizing, which is worth some tenths of a point.
        mean, std: of pixels from 0 to 1, by channel.
        license: that of the publisher's project.
    """

    name: str
    variant: str
    address: str
    source: str
    image_size: int
    classes: int
    trained_on: str
    head: str = "real"
    representation: bool = False
    interpolation: str = "bicubic"
    crop: float = 0.9
    top1: float | None = None
    published: str | None = None
    mean: tuple = (0.5, 0.5, 0.5)
    std: tuple = (0.5, 0.5, 0.5)
    license: str = "Apache-2.0"

    @property
    def parameters(self):
        """Number of weights of the architecture at 224 x 224 pixels with 1,000 classes."""
        return VARIANTS[self.variant].parameters


_READ = {"image_size": int, "classes": int, "representation": "yes".__eq__, "crop": float, "top1": float}


@functools.cache
def _table():
    text = pathlib.Path(__file__).with_name("checkpoints.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(Checkpoint(**{name: _READ.get(name, str)(cell) for name, cell in row.items() if cell}) for row in rows)


def checkpoints(variant=None):
    """Returns the rows of the table of published checkpoints: all, or those of a variant such as "ViT-B/16".

    Raises:
        ValueError: if there is no variant of that name; the nearest names are offered.
    """
    if variant is not None and variant not in VARIANTS:
        get_variant(str(variant))
    return tuple(row for row in _table() if variant in (None, row.variant))


def find_checkpoint(weights, variant=None, image_size=224, include_top=True):
    """Returns the checkpoint that a name stands for.

    Args:
        weights: "imagenet" (the ImageNet-1k file of the variant with the best published accuracy at `image_size`; at
            another size where there is none), "imagenet21k" (the best ImageNet-21k file; with `include_top` one whose
            head is real), the name of a row, or that of an AugReg file, with or without ".npz".
        variant: the architecture's name; None takes a row's or a file's own.
        image_size: side of the images, in pixels.
        include_top: whether the head will be used.

    Raises:
        ValueError: if there is none; the nearest is named.
    """
    if weights in ("imagenet", "imagenet21k"):
        return _best(weights, variant, image_size, include_top)
    found = next((row for row in _table() if row.name == weights), None) or _augreg_file(str(weights))
    if found is None:
        names = ["imagenet", "imagenet21k", *(row.name for row in _table())]
        near = difflib.get_close_matches(str(weights), names, n=3, cutoff=0.4) or names[:3]
        raise ValueError(
            "Expected the name of a checkpoint, the path of a file, or an address that starts with https://, gs:// or "
            f"hf://. Received: weights={weights!r}. Nearest names: {', '.join(near)}; `keras-vit list` shows all."
        )
    if variant not in (None, found.variant):
        ours = ", ".join(row.name for row in checkpoints(variant)) or "none"
        raise ValueError(
            f"Expected a checkpoint of {variant} ({ours}). Received: weights={weights!r}, which is of {found.variant}."
        )
    return found


def _best(weights, variant, image_size, include_top):
    def fits(row):
        if weights == "imagenet":
            return row.classes == 1000
        return row.classes == 21843 and (row.head == "real" or not include_top)

    rows = [row for row in checkpoints(variant) if fits(row)]
    if variant is None or not rows:
        raise ValueError(_none_of(weights, variant, fits))
    rows = [row for row in rows if row.top1] or rows  # one whose accuracy nobody published is not the best
    at_size = [row for row in rows if row.image_size == image_size]
    # Of equals max takes the first: the table has the AugReg files, which transfer better, before the original ones.
    best = max(at_size or rows, key=lambda row: row.top1 or 0)
    if not at_size:
        remark = "its positions are resized" if best.source == "npz" else "a BiT takes any size"
        logger.info(
            "%s: %s was trained at %d pixels, not %s; %s", weights, best.name, best.image_size, image_size, remark
        )
    return best


def _none_of(weights, variant, fits):
    if variant not in VARIANTS:
        return (
            f"Expected a variant's name beside weights={weights!r}. Received: variant={variant!r}. An architecture of "
            "one's own takes the path or the address of a file."
        )
    others = checkpoints(variant)
    nearest = min({row.variant for row in _table() if fits(row)}, key=functools.partial(_distance, variant))
    zero = weights == "imagenet21k" and any(row.head == "zero" for row in others)
    lines = [
        f"There is no public {weights} file of {variant}{' with a real head' if zero else ''}. The nearest variant "
        f"that has one is {nearest}."
    ]
    if zero:
        lines.append("Its own was published with a head of zeros: pass include_top=False for its features.")
    if others:
        lines.append(f"Public files of {variant}: {', '.join(row.name for row in others)}.")
    return "\n".join(lines)


def _distance(variant, other):
    """Returns what `min` compares: the same kind and width first, then as many parameters, then the patch."""

    def describe(name):
        width, _, patch = name.partition("/")
        kind = "BiT" if name.startswith("BiT") else "+" in name
        return kind, width, math.log(VARIANTS[name].parameters), math.log(int(patch or 1))

    (kind, width, size, patch), (other_kind, other_width, other_size, other_patch) = describe(variant), describe(other)
    # A tenth: patches of 14, 16 and 32 pixels change the number of parameters by less.
    return kind != other_kind, width != other_width, round(abs(size - other_size), 1), abs(patch - other_patch), other


def _augreg_file(stem, **published):
    """Returns the checkpoint that the name of an AugReg file describes, or None if it is no such name."""
    stem = stem.removesuffix(".npz")
    match = _STEM.fullmatch(stem)
    if match is None or match["ds"] not in _PRE_TRAINED_ON or match["model"] not in _augreg_models():
        return None
    trained_on, classes = _PRE_TRAINED_ON[match["ds"]]
    if match["data"]:
        classes = _CLASSES.get(match["data"])
        trained_on = match["data"] if trained_on == match["data"] else f"{trained_on}+{match['data']}"
    if classes is None:
        return None
    image_size = int(match["resolution"] or 224)
    return Checkpoint(
        name=stem,
        variant=_augreg_models()[match["model"]],
        address=f"{AUGREG}{stem}.npz",
        source="npz",
        image_size=image_size,
        classes=classes,
        trained_on=trained_on,
        crop=0.9 if image_size == 224 else 1.0,
        **published,
    )


@functools.cache
def _augreg_models():
    """Returns {how an AugReg file's name begins: our variant}."""
    variants = {row.variant for row in _table() if row.address.startswith(AUGREG)}
    return {_augreg_name(variant).replace("+", "_").replace("/", "_"): variant for variant in variants}


def _augreg_name(variant):
    return variant.replace("ViT-", "")


def augreg(
    variant=None,
    data="imagenet2012",
    resolution=None,
    most_parameters=None,
    best=None,
    pretrained_on="i21k",
    index=None,
):
    """Returns the best of the AugReg files that fit, by their published index.

    The files are those of "How to train your ViT?" (arXiv:2106.10270): 759 models pre-trained with different data,
    augmentation and regularization, and 51,509 fine-tuned ones.

    Args:
        variant: "S/16" or "ViT-S/16"; None for any.
        data: what it was fine-tuned on: "imagenet2012", "cifar100", "oxford_iiit_pet", "resisc45" or "kitti"; None for
            the pre-trained file.
        resolution: side of the images of fine-tuning, in pixels, 224 or 384; None for any.
        most_parameters: the greatest number of parameters allowed.
        best: the accuracy that decides, "final_val" or "final_test", of fine-tuning where there is one. By default the
            test's, and for pre-trained files the validation's, by which the official code picks.
        pretrained_on: "i21k" (ImageNet-21k, 300 epochs), "i21k_30" (30 epochs) or "i1k" (ImageNet-1k, 300 epochs).
        index: path of index.csv; None downloads it.

    Raises:
        ValueError: if no file fits; the message lists what there is.
    """
    if most_parameters is not None:
        most_parameters = checked.number("most_parameters", most_parameters)
    if index is not None:
        index = checked.path("index", index)
    path = pathlib.Path(index or fetch(f"{AUGREG}index.csv"))
    measure = ("adapt_" if data else "") + (best or ("final_test" if data else "final_val"))
    file = "adapt_filename" if data else "filename"
    columns = ["name", "ds", "adapt_ds", "adapt_resolution", "params", measure, file]
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        missing = sorted(set(columns) - set(reader.fieldnames or ()))
        if missing:
            raise ValueError(f"Expected the index of the AugReg files, with columns {missing}. Received: index={path}")
        rows = [{column: row[column] for column in columns} for row in reader]
    rows = _where(rows, "variant", variant and _augreg_name(variant), "name")
    rows = _where(rows, "pretrained_on", pretrained_on, "ds")
    rows = _where(rows, "data", data, "adapt_ds")
    rows = _where(rows, "resolution", resolution if data else None, "adapt_resolution")
    if most_parameters is not None:
        smallest = min(_number(row["params"]) for row in rows)
        rows = [row for row in rows if _number(row["params"]) <= most_parameters]
        if not rows:
            raise ValueError(f"The smallest has {smallest:,.0f}. Received: most_parameters={most_parameters}")
    rows = [row for row in rows if not math.isnan(_number(row[measure]))]
    if not rows:
        raise ValueError(f"The index has no {measure} for these files. Received: best={best!r}")
    row = max(rows, key=lambda row: _number(row[measure]))
    measured = {}
    if data == "imagenet2012":
        measured = {"top1": round(100 * _number(row[measure]), 3), "published": f"augreg/index.csv, {measure}"}
    found = _augreg_file(row[file], **measured)
    if found is None:
        raise ValueError(f"{path} names an AugReg file that is not understood: {row[file]}")
    return found


def _where(rows, argument, value, column):
    """Returns the rows that have a value in a column; all if the value is None."""
    if value is None:
        return rows
    found = [row for row in rows if row[column] == str(value)]
    if not found:
        there = ", ".join(sorted({row[column] for row in rows}))
        raise ValueError(f"Expected {argument} to be one of: {there}. Received: {argument}={value!r}")
    return found


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return math.nan
