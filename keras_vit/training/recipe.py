"""Recipe: the settings of a training run."""

import dataclasses
import math
import os
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal

from keras_vit import _arguments as checked
from keras_vit.data.groups import GROUPS_EXPECTED, is_group_pattern
from keras_vit.models.config import ResNet, Variant
from keras_vit.training.settings import choices_of, has_type, parse_settings, type_description


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a training run: the data, the model, the optimization, the augmentation and the exports.

    Args:
        data: data set, as in `keras_vit.data.sources.open_source`: "digits", "fashion_mnist", "synthetic", a folder of
            class folders or a .zip of one, a .csv, "hf:NAME", or a name of TensorFlow Datasets. The weights of a .csv
            count in training alone, not in the validation or the test accuracy.
        variant: name of an architecture, such as "ViT-S/16", or a `Variant` or `ResNet`.
        image_size: height and width of the model's input, pixels: one number for both, or two, such as (96, 160) or
            image_size=96,160 on the command line.
        channels: channels of the images. 1 is grey, 3 RGB, 4 RGBA; any other number is that of the bands in .tif and
            .npy files. The first kernel of a checkpoint in `weights` is adapted to it.
        data_dir: folder of the prepared data; None is the data library's default.
        train_split: training split, a name or a slice such as "train[:98%]"; None is the data set's own.
        validation_split: validation split, likewise.
        test_split: test split, likewise.
        validation: fraction of the training images to validate on, where the data has no validation split.
        test: fraction of all images to test on, where the data has no test split.
        on_bad_image: "error" stops at an image that cannot be decoded, "skip" leaves it out.
        class_depth: depth of the class folders in a folder or .zip: 1 for data/class, 2 for data/region/class. None is
            1, and an error if 2 or more is as likely.
        groups: regular expression for the names in a folder or .zip: its first parentheses match the group of an image,
            as `(.+)_[0-9]+` does for the frames of a video. It has to match the whole path inside the class folder,
            without the ending. Images of one group lie in one split. A .csv has the column group instead.
        corrections: .csv file with other labels for some images, as `keras-vit check --labels` writes it: the columns
            path, label and keep, where "no" leaves an image out. The data itself stays unchanged.
        split_seed: seed of the drawn splits, and of the images of "synthetic". Another `seed` leaves the splits as they
            are.
        weights: checkpoint to fine-tune, as in `keras_vit.build`; None is a random initialization.
        missing_weights: the default checkpoint that could not be fetched, where the training began with random weights
            for that reason; None otherwise. The verdict on the run says so.
        head: head at the start of the training: "new", as `keras_vit.build` makes it; or "probe", a linear classifier
            or regression that is fitted on the features of the training images, of 10,000 at most; or "kept", the
            checkpoint's own, whose classes have the names of those of the images, as of a classifier from words.
        pooling: pooling of the tokens before the head, as in `keras_vit.build`; None is the variant's own.
        objective: "classes" (one class an image), "labels" (any number of labels an image, a sigmoid for each),
            "numbers" (the columns `target`), "masked-patches" (masked patch prediction: the mean colours of corrupted
            patches) or "mae" (masked autoencoder: the pixels of hidden patches). None is "classes", or "numbers" with
            `target`, and an error if labels in a .csv are joined by |. The last two pre-train a model without a head
            on images alone, for another run's `weights`; such a run has neither a test accuracy nor exports.
        target: columns of a .csv file with the numbers to learn, such as ("age", "height"). The model learns them with
            a mean of 0 and a standard deviation of 1, and returns them in their own units.
        corrupted: mask ratio of the pre-training objectives, the fraction of the patches that is corrupted or hidden;
            None is the paper's, 0.5 for "masked-patches" and 0.75 for "mae".
        decoder_layers: number of blocks of the "mae" decoder.
        decoder_size: hidden size of the "mae" decoder; None is half of the encoder's.
        representation_size: units of a dense layer with tanh before the head; None is no such layer.
        gelu: "tanh" (approximate) or "erf" (exact) GELU; None is the checkpoint's own, or "tanh".
        dropout: dropout rate after each dense layer and after the position embedding.
        stochastic_depth: rate of stochastic depth (DropPath) in the last block; it grows linearly from 0 in the first.
        head_bias: initial bias of the head; below 0 for a sigmoid loss that starts low.
        freeze_to: name of the last frozen layer, such as "block_05"; the layers before it are frozen, too. "norm"
            trains the head alone: a linear probe.
        lora: rank of LoRA, the low-rank adaptation of each block's query and value kernels; 0 is no LoRA. All other
            weights but the head's are frozen; the matrices are merged into the kernels at the end.
        epochs: passes over the training images.
        steps: training steps; replaces `epochs`.
        steps_per_epoch: steps between two rows of the log, each with a validation; None is a pass over the images, or a
            twentieth of `steps` if that is more.
        batch_size: images a step, over all devices.
        full_batches: whether every batch is full, with images of the next pass where a pass ends; otherwise the last
            batch of a pass is smaller.
        sampling: order of the training images: "shuffled", each once in a pass; or "balanced", each class equally
            often, so that the images of rare classes come more often than others.
        accumulation: gradient accumulation steps: parts of a batch that are computed one after the other, to save
            memory.
        optimizer: "adamw"; "muon", which learns faster from scratch; or "sgd", with momentum as in optax (the velocity
            is not scaled by the learning rate).
        momentum: momentum of "sgd".
        momentum_dtype: dtype of the velocity of "sgd", "float32" or "bfloat16".
        learning_rate: peak learning rate, at the end of the warm-up.
        schedule: learning rate decay after the warm-up: "cosine" to 0, "linear" to 1e-5, "constant", or "steps", a
            factor of 0.1 at each of `milestones`.
        milestones: steps at which the schedule "steps" decays.
        warmup_epochs: epochs of linear warm-up of the learning rate.
        warmup_steps: steps of linear warm-up; replaces `warmup_epochs`.
        weight_decay: decoupled weight decay of the kernels.
        layer_decay: layer-wise learning rate decay, the factor from each block to the one below it; 1 is no decay.
        clip_norm: largest global norm of the gradients; 0 does not clip.
        ema: decay of the exponential moving average of the weights, such as 0.9999, bounded by (1 + t) / (10 + t) after
            t steps. The averaged weights are validated and kept at the end. 0 is no average.
        loss: "softmax" or "sigmoid" cross-entropy of classes; "sigmoid" of labels; "mse" (squared error), "mae"
            (absolute error) or "huber" (squared up to a standard deviation, then absolute) of numbers. None is the
            first of these.
        label_smoothing: fraction of each label that is spread over all classes.
        class_weights: "equal"; "balanced", each class has the same weight in the loss, however many images it has; or a
            weight for each class, such as "dark:2,light:1". Of labels, images with a label and images without it have
            the same weight if "balanced", an image at most 100. It has no effect on numbers.
        reject: share of the images of the classes, such as 0.05, that the model may reject as none of these; it then
            rejects images of no class, too. Its threshold is chosen on the validation images. 0 rejects none.
        early_stopping: patience in epochs: the run ends when this number of epochs, and `early_stopping_steps` steps,
            have passed without a better validation accuracy. Better means by more than its standard error. 0 never
            stops early.
        early_stopping_steps: patience in steps.
        keep: weights at the end of the run, the "last" or the "best" by validation accuracy.
        max_loss: largest loss of a batch; the run stops with an error above it.
        precision: dtype policy, "float32", "mixed_bfloat16" or "mixed_float16".
        patch_sizes: patch sizes in pixels, divisors of `image_size`, of which each training step draws one at random
            (FlexiViT). The model keeps its own, at which it is validated, tested and exported. Needs `dropout` and
            `stochastic_depth` of 0. () is the model's own alone.
        remat: whether blocks are rematerialized (gradient checkpointing) to save memory; needs `dropout` and
            `stochastic_depth` of 0.
        jit_compile: whether XLA compiles the step; JAX always does, PyTorch never.
        strategy: distribution strategy: "auto", "one" device, "mirrored" on all devices of this machine, "multiworker"
            or "tpu"; on PyTorch, torchrun starts a process for each device.
        crop: crop of the training images: "resize" scales the whole image, "inception" crops a random area and aspect
            ratio, "random" crops a square at random from an image resized to `crop_from`.
        crop_from: height and width before a "random" crop, pixels, as `image_size`; None is about 8/7 of `image_size`.
        flip: whether to flip half of the images horizontally.
        rotate: largest rotation to either side, degrees.
        shift: largest translation to either side, fraction of the image's side.
        zoom: largest zoom in or out, fraction of the size.
        shear: largest shear to either side, fraction of the image's side.
        randaugment: (layers, magnitude) of RandAugment, such as (2, 15); None is no RandAugment. Its colour saturation
            is for `channels=3` alone; the other operations change each channel alike.
        mixup: alpha of mixup, both parameters of its Beta distribution; 0 is no mixup.
        cutmix: alpha of CutMix; 0 is no CutMix. With both, each batch draws one of the two.
        keras_cv: names of KerasCV layers that augment the images further, of `channels=3`.
        evaluation: resize and crop of the validation and test images: "official", "big_vision" or "timm".
        teacher: model whose outputs this one learns beside the labels (distillation): the folder of a run, a .keras
            file, or a checkpoint as in `keras_vit.load`. It reads the same augmented images, at its own size.
        distill: what is learned of the teacher: "logits", its probabilities at `temperature`; "hard", its class;
            "features", the input of its head; or "logits+features".
        temperature: of the softmax of both with "logits"; more shows more of the teacher's less likely classes.
        distill_weight: weight of the teacher in the loss; the labels have 1 minus this weight.
        unlabelled: folder of further training images without labels, which are learned from the teacher alone.
        seed: seed of the initialization, the shuffling and the augmentation.
        keep_checkpoints: number of the newest training checkpoints to keep, besides the best.
        checkpoint_seconds: least time between two training checkpoints, more where they are slow to write; 0 saves one
            after every step.
        tensorboard: whether to write TensorBoard logs.
        exports: files to export, names out of `keras_vit.export.targets.TARGETS`.
        license: license of the trained model, for the model card and the metadata of its files; the card also names the
            license of the checkpoint in `weights`.

    Raises:
        TypeError: if fields have another type; all of them in one message.
        ValueError: if fields are out of range, or contradict each other; all of them in one message.

    Example:
        ```python
        import dataclasses

        recipe = keras_vit.training.Recipe(data="digits", variant="ViT-Ti/16", image_size=32, epochs=3)
        longer = dataclasses.replace(recipe, epochs=60, mixup=0.2)
        assert longer.epochs == 60 and longer.data == recipe.data
        ```
    """

    data: str
    variant: str | Variant | ResNet
    image_size: int | tuple[int, int]
    channels: int = 3
    data_dir: str | None = None
    train_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    validation: float = 0.1
    test: float = 0.2
    on_bad_image: Literal["error", "skip"] = "error"
    class_depth: int | None = None
    groups: str | None = None
    corrections: str | None = None
    split_seed: int = 0
    weights: str | None = None
    missing_weights: str | None = None
    head: Literal["new", "probe", "kept"] = "new"
    pooling: str | None = None
    objective: Literal["classes", "labels", "numbers", "masked-patches", "mae"] | None = None
    target: tuple[str, ...] = ()
    corrupted: float | None = None
    decoder_layers: int = 8
    decoder_size: int | None = None
    representation_size: int | None = None
    gelu: Literal["tanh", "erf"] | None = None
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    head_bias: float = 0.0
    freeze_to: str | None = None
    lora: int = 0
    epochs: int = 10
    steps: int | None = None
    steps_per_epoch: int | None = None
    batch_size: int = 64
    full_batches: bool = True
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    accumulation: int = 1
    optimizer: Literal["adamw", "muon", "sgd"] = "adamw"
    momentum: float = 0.9
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "linear", "constant", "steps"] = "cosine"
    milestones: tuple[int, ...] = ()
    warmup_epochs: int = 1
    warmup_steps: int | None = None
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    clip_norm: float = 1.0
    ema: float = 0.0
    loss: Literal["softmax", "sigmoid", "mse", "mae", "huber"] | None = None
    label_smoothing: float = 0.1
    class_weights: str = "equal"
    reject: float = 0.0
    early_stopping: int = 0
    early_stopping_steps: int = 500
    keep: Literal["last", "best"] = "last"
    max_loss: float = 1e4
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    patch_sizes: tuple[int, ...] = ()
    remat: bool = False
    jit_compile: bool = False
    strategy: Literal["auto", "one", "mirrored", "multiworker", "tpu"] = "auto"
    crop: Literal["resize", "inception", "random"] = "resize"
    crop_from: int | tuple[int, int] | None = None
    flip: bool = False
    rotate: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    randaugment: tuple[int, int] | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    keras_cv: tuple[str, ...] = ()
    evaluation: Literal["official", "big_vision", "timm"] = "official"
    teacher: str | None = None
    distill: Literal["logits", "hard", "features", "logits+features"] = "logits"
    temperature: float = 2.0
    distill_weight: float = 0.5
    unlabelled: str | None = None
    seed: int = 0
    keep_checkpoints: int = 3
    checkpoint_seconds: float = 30.0
    tensorboard: bool = True
    exports: tuple[str, ...] = ("savedmodel", "tflite-float32", "tflite-int8")
    license: str | None = None

    def __post_init__(self) -> None:
        for name in FIELDS:
            value = checked.plain(getattr(self, name))
            object.__setattr__(self, name, os.fspath(value) if isinstance(value, os.PathLike) else value)
        for name in ("image_size", "crop_from"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1]:
                object.__setattr__(self, name, value[0])
        if self.target and self.objective is None:
            object.__setattr__(self, "objective", "numbers")
        wrong = [
            f"  {name}={getattr(self, name)!r:.80}, expected {type_description(annotation)}"
            for name, annotation in FIELDS.items()
            if not has_type(getattr(self, name), annotation)
        ]
        if wrong:
            raise TypeError("Expected fields of a recipe of other types. Received:\n" + _first(wrong))
        wrong = [
            f"  {name}={getattr(self, name)!r:.80}, expected {expected}"
            for names, expected, holds in RANGES
            for name in names
            if getattr(self, name) is not None and not holds(getattr(self, name))
        ]
        wrong += [f"  {expected}" for expected, holds in CONSTRAINTS if not wrong and not holds(self)]
        if wrong:
            raise ValueError("Expected fields of a recipe that fit each other. Received:\n" + _first(wrong))

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width) of the model's input, pixels."""
        return sides_of(self.image_size)


def sides_of(size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width) of a size that is one number for both, or two."""
    return size if isinstance(size, tuple) else (size, size)


def _is_size(value: int | tuple[int, ...]) -> bool:
    return isinstance(value, int) and value >= 1 or isinstance(value, tuple) and len(value) == 2 and min(value) >= 1


def _first(lines: list[str]) -> str:
    """Returns the first ten lines of a message, and how many more there are."""
    more = [f"  and {len(lines) - 10} more"] if len(lines) > 10 else []
    return "\n".join(lines[:10] + more)


FIELDS: dict[str, Any] = typing.get_type_hints(Recipe)


def _choice_ranges() -> Iterable[tuple[tuple[str, ...], str, Callable[[Any], bool]]]:
    """Yields a row of `RANGES` for each field whose annotation lists its choices."""
    for name, annotation in FIELDS.items():
        if choices := choices_of(annotation):
            yield (name,), f"one of {', '.join(map(repr, choices))}", choices.__contains__


# (fields, their range in words, function of a value that returns whether it is in the range)
RANGES: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (
        ("epochs", "steps", "steps_per_epoch", "batch_size", "accumulation", "keep_checkpoints", "channels"),
        "1 or more",
        lambda value: value >= 1,
    ),
    (("image_size", "crop_from"), "one number of 1 or more, or HEIGHT,WIDTH", _is_size),
    (("representation_size", "decoder_layers", "decoder_size", "class_depth"), "1 or more", lambda value: value >= 1),
    (("reject",), "0 to 0.5", lambda value: 0 <= value <= 0.5),
    (("corrupted",), "more than 0 and less than 1", lambda value: 0 < value < 1),
    (("distill_weight",), "0 to 1", lambda value: 0 <= value <= 1),
    (("learning_rate", "max_loss", "temperature"), "more than 0", lambda value: 0 < value < math.inf),
    (("layer_decay",), "more than 0, at most 1", lambda value: 0 < value <= 1),
    (
        (
            "warmup_epochs",
            "warmup_steps",
            "weight_decay",
            "clip_norm",
            "rotate",
            "shift",
            "zoom",
            "shear",
            "seed",
            "split_seed",
        )
        + ("lora", "mixup", "cutmix", "early_stopping", "early_stopping_steps", "checkpoint_seconds"),
        "0 or more",
        lambda value: 0 <= value < math.inf,
    ),
    (
        ("dropout", "stochastic_depth", "label_smoothing", "validation", "test", "momentum", "ema"),
        "0 or more and less than 1",
        lambda value: 0 <= value < 1,
    ),
    (
        ("class_weights",),
        "'equal', 'balanced' or a weight for each class, as dark:2,light:1",
        lambda value: value in ("equal", "balanced") or ":" in value,
    ),
    (("head_bias",), "a finite number", math.isfinite),
    (("groups",), GROUPS_EXPECTED, is_group_pattern),
    (
        ("target",),
        "different names of columns",
        lambda value: len({*value}) == len(value) and all(name.strip() == name != "" for name in value),
    ),
    (
        ("patch_sizes",),
        "different sizes, 1 or more",
        lambda value: len({*value}) == len(value) and min(value, default=1) >= 1,
    ),
    (("milestones",), "growing steps", lambda value: list(value) == sorted({*value}) and min(value, default=1) > 0),
    (
        ("randaugment",),
        "(layers, magnitude), 1 or more layers and a magnitude of 0 to 30",
        lambda value: len(value) == 2 and value[0] >= 1 and 0 <= value[1] <= 30,
    ),
    *_choice_ranges(),
)
RANGE_OF = {name: text for names, text, _ in RANGES for name in names}
# {objective of a model with a head: its losses, the default first}
LOSSES: dict[str | None, tuple[str, ...]] = {
    **dict.fromkeys((None, "classes"), ("softmax", "sigmoid")),
    "labels": ("sigmoid",),
    "numbers": ("mse", "mae", "huber"),
}
# (constraint between fields, function of a recipe that returns whether it holds)
CONSTRAINTS: tuple[tuple[str, Callable[[Recipe], bool]], ...] = (
    (
        "batch_size a multiple of accumulation",
        lambda recipe: recipe.batch_size % recipe.accumulation == 0,
    ),
    ("milestones with schedule='steps', and only then", lambda r: bool(r.milestones) == (r.schedule == "steps")),
    (
        "crop_from with crop='random' alone, at least image_size",
        lambda recipe: (
            recipe.crop_from is None
            or recipe.crop == "random"
            and all(side >= kept for side, kept in zip(sides_of(recipe.crop_from), recipe.size, strict=True))
        ),
    ),
    (
        "dropout and stochastic_depth of 0 with remat=True and with patch_sizes",
        lambda recipe: not ((recipe.remat or recipe.patch_sizes) and (recipe.dropout or recipe.stochastic_depth)),
    ),
    (
        "patch_sizes that divide image_size, without objective='mae' and 'masked-patches'",
        lambda recipe: (
            not recipe.patch_sizes
            or recipe.objective in (None, *LOSSES)
            and not any(side % size for side in recipe.size for size in recipe.patch_sizes)
        ),
    ),
    (
        "head='probe' and 'kept' without representation_size, objective='mae' and 'masked-patches'",
        lambda recipe: recipe.head == "new" or recipe.objective in (None, *LOSSES) and not recipe.representation_size,
    ),
    (
        "weights and objective='classes' with head='kept', without head_bias",
        lambda recipe: (
            recipe.head != "kept"
            or recipe.weights is not None
            and recipe.objective in (None, "classes")
            and not recipe.head_bias
        ),
    ),
    ("missing_weights without weights", lambda recipe: not (recipe.missing_weights and recipe.weights)),
    ("keras_cv with channels=3", lambda recipe: recipe.channels == 3 or not recipe.keras_cv),
    (
        "channels of 4 or fewer with objective='masked-patches'",
        lambda recipe: recipe.channels <= 4 or recipe.objective != "masked-patches",
    ),
    (
        "teacher for classes, with the softmax loss",
        lambda r: r.teacher is None or r.objective in (None, "classes") and r.loss in (None, "softmax"),
    ),
    (
        "unlabelled with a teacher's logits or classes, sampling='shuffled' and class_weights='equal'",
        lambda recipe: (
            recipe.unlabelled is None
            or recipe.teacher is not None
            and recipe.distill != "features"
            and (recipe.sampling, recipe.class_weights) == ("shuffled", "equal")
        ),
    ),
    ("lora or freeze_to, not both", lambda recipe: not (recipe.lora and recipe.freeze_to)),
    (
        "sampling='balanced' for classes, not for labels and numbers, with full_batches=True and without class_weights",
        lambda recipe: (
            recipe.sampling == "shuffled"
            or recipe.objective in (None, "classes")
            and recipe.full_batches
            and recipe.class_weights != "balanced"
        ),
    ),
    (
        "class_weights by name for classes, not for labels and numbers; class_weights='balanced' weighs labels",
        lambda recipe: ":" not in recipe.class_weights or recipe.objective not in ("labels", "numbers"),
    ),
    (
        "reject for classes, not for labels and numbers",
        lambda recipe: not recipe.reject or recipe.objective in (None, "classes"),
    ),
    (
        "target, names of columns, with objective='numbers', and only then",
        lambda recipe: bool(recipe.target) == (recipe.objective == "numbers"),
    ),
    (
        "loss of the objective: softmax or sigmoid of classes, sigmoid of labels, mse, mae or huber of numbers",
        lambda recipe: recipe.loss in (None, *LOSSES.get(recipe.objective, ("softmax", "sigmoid"))),
    ),
    (
        "lora, representation_size and head_bias without objective='mae' and 'masked-patches'",
        lambda recipe: (
            recipe.objective in LOSSES or not (recipe.lora or recipe.representation_size or recipe.head_bias)
        ),
    ),
)


# Fields that may change when a run resumes: they do not change what the model learns.
MAY_CHANGE_ON_RESUME = ("strategy", "keep_checkpoints", "checkpoint_seconds", "tensorboard", "data_dir", "exports")


def change(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Returns a recipe with fields replaced by "field=value" texts, as on the command line.

    Args:
        recipe: the recipe.
        settings: texts such as "learning_rate=3e-4".

    Returns:
        A new recipe.

    Raises:
        ValueError: if texts are not settings of a recipe, or values are out of range.

    Example:
        ```python
        from keras_vit.training import Recipe, change

        recipe = Recipe(data="digits", variant="ViT-Ti/16", image_size=32)
        assert change(recipe, ["learning_rate=3e-4", "flip=true"]).learning_rate == 3e-4
        ```
    """
    return dataclasses.replace(recipe, **parse_settings(settings, FIELDS, RANGE_OF))
