"""Published checkpoints: a row for each in checkpoints.csv, and the 52,268 AugReg files by name or by query.

To add a checkpoint, add a row. Sources: the file lists and READMEs of google-research/vision_transformer (vit_jax) and
google-research/big_transfer; timm's default_cfgs, which choose one AugReg file for each model and size, and its
results-imagenet.csv, which has their accuracy. The rows of families: timm 1.0.31, its pretrained_cfg and the number of
parameters of the model that it builds; the conversion script of transformers for DINOv3's names.
"""

import csv
import dataclasses
import difflib
import functools
import logging
import math
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from keras_vit import _arguments as checked
from keras_vit.models.config import VARIANTS, get_variant
from keras_vit.weights.download import fetch

logger = logging.getLogger("keras_vit")

AUGREG = "gs://vit_models/augreg/"

# {name of a data set in the AugReg files: (our name, classes)}
_PRE_TRAINED_ON = {"i1k": ("imagenet2012", 1000), "i21k": ("imagenet21k", 21843), "i21k_30": ("imagenet21k", 21843)}
_CLASSES = {"imagenet2012": 1000, "cifar100": 100, "oxford_iiit_pet": 37, "resisc45": 45, "kitti": 4}
_STEM = re.compile(
    r"(?P<model>\w+)-(?P<ds>i1k|i21k\w*)-\d+ep-[\w.-]+?(--(?P<data>\w+)-[\w.-]*res_(?P<resolution>\d+))?"
)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint: a weight file's address and everything that is needed to use it.

    Args:
        name: used as `weights=name`.
        variant: the architecture, such as "ViT-B/16"; None where the file shows it, as those of the families do.
        address: gs:// or https:// address of the file, or hf:// address of its repository.
        format: naming scheme of its arrays: "npz" (vit_jax), "bit" (big_transfer), "hf" (transformers), "timm" or
            "open_clip".
        image_size: side of the images of the last training, in pixels; of the original files where it has no training.
        classes: number of classes of its head; 0 without a head.
        trained_on: the data sets; "imagenet21k+imagenet2012" is pre-trained on the first, fine-tuned on the second.
        head: "real", "zero" where the publisher replaced the head with zeros, or "none".
        representation: whether it has the layer `pre_logits` before the head.
        interpolation: how an image is resized, from timm's configuration of the file. The files of a repository have
            their own configuration, which counts.
        crop: fraction of the resized image's side that is kept, from the middle; from the same configuration.
        top1: published top-1 accuracy on ImageNet-1k in percent, or None.
        published: where that accuracy was published, or None. Sources other than timm resize images differently, which
            changes the accuracy by some tenths of a point.
        mean, std: of pixels from 0 to 1, for each channel; not of a repository.
        license: of the publisher's project.
        family: of Vision Transformers, such as "DINOv3"; None for those of the official code and BiT.
        parameters: number of parameters; of a named architecture, at 224 x 224 pixels with 1,000 classes.

    Example:
        ```python
        checkpoint = keras_vit.checkpoints("ViT-B/16")[0]
        assert isinstance(checkpoint, keras_vit.Checkpoint)
        print(checkpoint.name, checkpoint.image_size, checkpoint.top1)
        ```
    """

    name: str
    variant: str | None
    address: str
    format: str
    image_size: int
    classes: int
    trained_on: str
    head: str = "real"
    representation: bool = False
    interpolation: str = "bicubic"
    crop: float = 0.9
    top1: float | None = None
    published: str | None = None
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    license: str = "Apache-2.0"
    family: str | None = None
    parameters: int | None = None

    def __post_init__(self) -> None:
        if self.variant:
            object.__setattr__(self, "parameters", VARIANTS[self.variant].parameters)


_READ: dict[str, Callable[[str], Any]] = {
    "image_size": int,
    "classes": int,
    "representation": "yes".__eq__,
    "crop": float,
    "top1": float,
    "parameters": int,
}


@functools.cache
def _table() -> tuple[Checkpoint, ...]:
    text = pathlib.Path(__file__).with_name("checkpoints.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    given = ({name: _READ.get(name, str)(cell) for name, cell in row.items() if cell} for row in rows)
    return tuple(Checkpoint(**{"variant": None, **row}) for row in given)


def checkpoints(variant: str | None = None) -> tuple[Checkpoint, ...]:
    """Returns the published checkpoints: all of them, or those of a variant or a family.

    Args:
        variant: name of an architecture, such as "ViT-B/16", or of a family, such as "DINOv3", in any case; None for
            all.

    Returns:
        `keras_vit.Checkpoint` rows, each of which can be passed as `weights=`.

    Raises:
        ValueError: if the variant is unknown; the message has the nearest names, and the families.

    Example:
        ```python
        rows = keras_vit.checkpoints("ViT-B/16")
        print([(row.name, row.image_size, row.top1) for row in rows])
        ```
    """
    same = (name for name in families() if name.casefold() == str(variant).casefold())
    variant = next(same, variant)
    if variant is not None and variant not in VARIANTS and variant not in families():
        try:
            get_variant(str(variant))
        except ValueError as error:
            raise ValueError(f"{error}. Families: {', '.join(families())}") from error
    return tuple(row for row in _table() if variant in (None, row.variant, row.family))


def families() -> tuple[str, ...]:
    """Returns the names of the families that have published checkpoints."""
    return tuple(dict.fromkeys(row.family for row in _table() if row.family))


def find_checkpoint(
    weights: str, variant: str | None = None, image_size: int = 224, include_top: bool = True
) -> Checkpoint:
    """Returns the published checkpoint with a name.

    Args:
        weights: "imagenet" (the variant's ImageNet-1k file with the best published accuracy at `image_size`, or at
            another size if there is none), "imagenet21k" (the best ImageNet-21k file; with `include_top`, one with a
            trained head), the name of a row, or the name of an AugReg file, with or without ".npz".
        variant: name of the architecture; None for that of the row or the file.
        image_size: side of the images, in pixels.
        include_top: whether the head will be used.

    Raises:
        ValueError: if there is no such checkpoint; the message has the nearest names.
    """
    if weights in ("imagenet", "imagenet21k"):
        return _best(weights, variant, image_size, include_top)
    checkpoint = next((row for row in _table() if row.name == weights), None) or _augreg_file(str(weights))
    if checkpoint is None:
        names = ["imagenet", "imagenet21k", *(row.name for row in _table())]
        near = difflib.get_close_matches(str(weights), names, n=3, cutoff=0.4) or names[:3]
        raise ValueError(
            "Expected the name of a checkpoint, the path of a file, or an address that starts with https://, gs:// or "
            f"hf://. Received: weights={weights!r}. Nearest names: {', '.join(near)}; `keras-vit list` shows all."
        )
    if checkpoint.variant and variant not in (None, checkpoint.variant):
        names = [row.name for row in checkpoints(variant)] or ["none"]
        raise ValueError(
            f"Expected a checkpoint of {variant} ({', '.join(names)}). Received: weights={weights!r}, a checkpoint of "
            f"{checkpoint.variant}."
        )
    return checkpoint


def _best(weights: str, variant: str | None, image_size: int, include_top: bool) -> Checkpoint:
    def fits(row: Checkpoint) -> bool:
        if weights == "imagenet":
            return row.classes == 1000
        return row.classes == 21843 and (row.head == "real" or not include_top)

    rows = [row for row in checkpoints(variant) if fits(row)]
    if variant is None or not rows:
        raise ValueError(_no_checkpoint(weights, variant, fits))
    rows = [row for row in rows if row.top1] or rows  # a file without a published accuracy is not the best
    at_size = [row for row in rows if row.image_size == image_size]
    # max returns the first of equals: the table has the AugReg files, which transfer better, before the original ones.
    best = max(at_size or rows, key=lambda row: row.top1 or 0)
    if not at_size:
        remark = "its positions are resized" if best.format == "npz" else "a BiT has no image size"
        logger.info(
            "%s: %s was trained at %d pixels, not %s; %s", weights, best.name, best.image_size, image_size, remark
        )
    return best


def _no_checkpoint(weights: str, variant: str | None, fits: Callable[[Checkpoint], bool]) -> str:
    """Returns the error for a variant without such a file, with the nearest variant that has one."""
    if variant not in VARIANTS:
        return (
            f"Expected the name of a variant with weights={weights!r}. Received: variant={variant!r}. For another "
            "architecture, pass the path or the address of a file."
        )
    others = checkpoints(variant)
    known = {row.variant for row in _table() if row.variant and fits(row)}
    nearest = min(known, key=functools.partial(_distance, variant))
    zero = weights == "imagenet21k" and any(row.head == "zero" for row in others)
    lines = [
        f"There is no public {weights} file of {variant}{' with a real head' if zero else ''}. The nearest variant "
        f"that has one is {nearest}."
    ]
    if zero:
        lines.append("Its file was published with a head of zeros: pass include_top=False for its features.")
    if others:
        lines.append(f"Public files of {variant}: {', '.join(row.name for row in others)}.")
    return "\n".join(lines)


def _distance(variant: str, other: str) -> tuple[Any, ...]:
    """Returns a sort key of the distance of two variants: kind and width first, then parameters, then patch size."""

    def describe(name: str) -> tuple[object, str, float, float]:
        width, _, patch = name.partition("/")
        kind = "BiT" if name.startswith("BiT") else "+" in name
        return kind, width, math.log(VARIANTS[name].parameters or 1), math.log(int(patch or 1))

    (kind, width, size, patch), (other_kind, other_width, other_size, other_patch) = describe(variant), describe(other)
    # Rounded to a tenth: patches of 14, 16 and 32 pixels change the number of parameters by less.
    return kind != other_kind, width != other_width, round(abs(size - other_size), 1), abs(patch - other_patch), other


def _augreg_file(stem: str, **published: Any) -> Checkpoint | None:
    """Returns the checkpoint that the name of an AugReg file describes, or None for another name."""
    stem = stem.removesuffix(".npz")
    match = _STEM.fullmatch(stem)
    if match is None or match["ds"] not in _PRE_TRAINED_ON or match["model"] not in _augreg_models():
        return None
    trained_on, classes = _PRE_TRAINED_ON[match["ds"]]
    if match["data"]:
        if match["data"] not in _CLASSES:
            return None
        classes = _CLASSES[match["data"]]
        trained_on = match["data"] if trained_on == match["data"] else f"{trained_on}+{match['data']}"
    image_size = int(match["resolution"] or 224)
    return Checkpoint(
        name=stem,
        variant=_augreg_models()[match["model"]],
        address=f"{AUGREG}{stem}.npz",
        format="npz",
        image_size=image_size,
        classes=classes,
        trained_on=trained_on,
        crop=0.9 if image_size == 224 else 1.0,
        **published,
    )


@functools.cache
def _augreg_models() -> dict[str, str]:
    """Returns {start of an AugReg file's name: our variant}."""
    variants = {row.variant for row in _table() if row.variant and row.address.startswith(AUGREG)}
    return {_augreg_name(variant).replace("+", "_").replace("/", "_"): variant for variant in variants}


def _augreg_name(variant: str) -> str:
    return variant.replace("ViT-", "")


def augreg(
    variant: str | None = None,
    data: str | None = "imagenet2012",
    resolution: int | None = None,
    most_parameters: float | None = None,
    best: str | None = None,
    pretrained_on: str = "i21k",
    index: str | os.PathLike[str] | None = None,
) -> Checkpoint:
    """Returns the AugReg checkpoint with the best accuracy among those that fit.

    The files are those of "How to train your ViT?": 759 models pre-trained with different data, augmentation and
    regularization, and 51,509 fine-tuned models.

    Args:
        variant: "S/16" or "ViT-S/16"; None for any.
        data: the data set of fine-tuning: "imagenet2012", "cifar100", "oxford_iiit_pet", "resisc45" or "kitti"; None
            for a file that is pre-trained only.
        resolution: side of the images of fine-tuning, 224 or 384 pixels; None for any.
        most_parameters: the largest number of parameters; None for any.
        best: the accuracy that is compared, "final_val" or "final_test". By default the test accuracy of fine-tuning;
            for a file that is pre-trained only, the validation accuracy, as in the official code.
        pretrained_on: "i21k" (ImageNet-21k, 300 epochs), "i21k_30" (30 epochs) or "i1k" (ImageNet-1k, 300 epochs).
        index: path of the published index.csv; None downloads it.

    Returns:
        A `keras_vit.Checkpoint`, which can be passed as `weights=`.

    Raises:
        ValueError: if no file fits; the message lists the values that there are.
        OSError: if the index cannot be downloaded.

    Example:
        ```python
        import pathlib

        # Two lines of the published index; without `index=`, it is downloaded.
        file = "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"
        pathlib.Path("index.csv").write_text(
            "name,ds,adapt_ds,adapt_resolution,params,final_test,adapt_final_test,filename,adapt_filename\\n"
            f"Ti/16,i21k,imagenet2012,224,5.7e6,,0.754,{file},{file}--imagenet2012-steps_20k-lr_0.03-res_224\\n"
        )
        checkpoint = keras_vit.augreg("Ti/16", resolution=224, index="index.csv")
        assert (checkpoint.variant, checkpoint.top1) == ("ViT-Ti/16", 75.4)
        ```

    Source: arXiv:2106.10270; the index is gs://vit_models/augreg/index.csv.
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
            raise ValueError(
                f"Expected index to be the index of the AugReg files, with columns {missing}. Received: index={path}"
            )
        rows = [{column: row[column] for column in columns} for row in reader]
    rows = _where(rows, "variant", variant and _augreg_name(variant), "name")
    rows = _where(rows, "pretrained_on", pretrained_on, "ds")
    rows = _where(rows, "data", data, "adapt_ds")
    rows = _where(rows, "resolution", resolution if data else None, "adapt_resolution")
    if most_parameters is not None:
        smallest = min(_number(row["params"]) for row in rows)
        rows = [row for row in rows if _number(row["params"]) <= most_parameters]
        if not rows:
            raise ValueError(
                f"Expected most_parameters of {smallest:,.0f} or more, the smallest model's. "
                f"Received: most_parameters={most_parameters}"
            )
    rows = [row for row in rows if not math.isnan(_number(row[measure]))]
    if not rows:
        raise ValueError(
            f"Expected best to be an accuracy in the index, which has no {measure} for these files. "
            f"Received: best={best!r}"
        )
    row = max(rows, key=lambda row: _number(row[measure]))
    measured: dict[str, Any] = {}
    if data == "imagenet2012":
        measured = {"top1": round(100 * _number(row[measure]), 3), "published": f"augreg/index.csv, {measure}"}
    checkpoint = _augreg_file(row[file], **measured)
    if checkpoint is None:
        raise ValueError(f"Expected index to name AugReg files. Received: index={path}, which names {row[file]}")
    return checkpoint


def _where(rows: Sequence[dict[str, str]], argument: str, value: object, column: str) -> list[dict[str, str]]:
    """Returns the rows with a value in a column; all rows if the value is None."""
    if value is None:
        return list(rows)
    matches = [row for row in rows if row[column] == str(value)]
    if not matches:
        known = ", ".join(sorted({row[column] for row in rows}))
        raise ValueError(f"Expected {argument} to be one of: {known}. Received: {argument}={value!r}")
    return matches


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
