"""A run's settings."""

import dataclasses
import math
import os
import typing

from keras_vit import _arguments as checked
from keras_vit.models.config import ResNet, Variant
from keras_vit.training.settings import fits, read_settings, setting_words


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Describes a training run: what is trained, on what, how, and what is made of it.

    Args:
        data: what `keras_vit.data.sources.open_source` takes: "digits", "fashion_mnist", "synthetic", a folder of class
            folders or a .zip of one, a .csv, "hf:NAME", or a name of TensorFlow Datasets. The weights of a .csv count
            in training alone, not for the validation or the test accuracy.
        variant: name of an architecture, such as "ViT-S/16", or a `Variant` or `ResNet`.
        image_size: side of the images that enter the model, pixels.
        data_dir: where prepared data lies; None is the library's own place.
        train_split: name or slice, such as "train[:98%]", where the data has splits by name; None is its own.
        validation_split: the same for the curves.
        test_split: the same for the final score.
        validation: part of the training images kept aside for the curves, where the data has no such split.
        test: part of all images kept aside for the final score, where the data has no such split.
        on_bad_image: "error", or "skip" to go on without images that cannot be read.
        class_depth: how many folders down the class folders of a folder or .zip lie: 1 for data/class, 2 for
            data/region/class; None is 1, but refused where 2 or more are as likely.
        weights: checkpoint to start from, as in `keras_vit.build`; None to start from nothing.
        pooling: what the head reads; None is the variant's own.
        objective: what is learned: "classes"; or, from the images alone, "masked-patches" (the mean colours of
            corrupted patches) or "mae" (the pixels of hidden ones). These leave a model without a head, for another
            run's `weights`, and neither a test accuracy nor exports.
        corrupted: part of the patches that is taken from the transformer; None is the paper's, 0.5 of "masked-patches"
            and 0.75 of "mae".
        decoder_layers: blocks of the decoder that paints hidden patches; of "mae" alone.
        decoder_size: width of its tokens; None is half of the transformer's.
        representation_size: width of a hidden layer with tanh before the head; None for none.
        gelu: "tanh" or "erf"; None is the checkpoint's own, or "tanh".
        dropout: rate after each dense layer and after the positions.
        stochastic_depth: rate of dropped branches in the last block.
        head_bias: first value of the head's bias; below 0 where the sigmoid loss is to start low.
        freeze_to: name of a layer, such as "block_05"; it and all before it are not trained. "norm" leaves the head
            alone: a linear probe.
        lora: rank of the low-rank matrices that are trained in place of the attention's kernels; 0 for none. Biases
            and all else but the head stand still; merged into the kernels at the end.
        epochs: passes over the training images.
        steps: length of the run in steps; takes the place of `epochs`.
        steps_per_epoch: steps between two lines of the log, each with a validation; None is a pass over the images,
            or a twentieth of a run whose length is in steps, if that is more.
        batch_size: images a step, on all devices together.
        full_batches: whether a batch may reach into the next pass; if not, the last batch of a pass is smaller.
        accumulation: parts that a batch is worked on in, one after the other, to save memory.
        optimizer: "adamw"; "muon", which learns more in a step where all is trained anew; or "sgd" with momentum as in
            optax (the learning rate outside the velocity).
        momentum: of "sgd".
        momentum_dtype: of "sgd": "float32" or "bfloat16".
        learning_rate: at the end of the warm-up.
        schedule: how it goes down from there: "cosine" to 0, "linear" to 1e-5, "constant", or "steps": a tenth at each
            of `milestones`.
        milestones: steps of the schedule "steps".
        warmup_epochs: epochs of linear growth at the start.
        warmup_steps: the same in steps; takes the place of `warmup_epochs`.
        weight_decay: decoupled, on kernels alone.
        layer_decay: factor from each block to the one below it, on the learning rate; 1 for none.
        clip_norm: bound on the global norm of the gradients; 0 for none.
        ema: part of the running mean of the weights that is kept at each step, such as 0.9999; at most
            (1 + t) / (10 + t) after t steps, so that the mean of a short run does not stay at its start. The mean is
            what is validated and kept in the end. 0 for none.
        loss: "softmax" or "sigmoid" cross-entropy.
        label_smoothing: part of each label spread over all classes.
        class_weights: "equal", or "balanced": each class weighs the same in the loss, however many images it has.
        early_stopping: epochs without a better validation accuracy after which the run ends, if so many steps have
            passed as well (`early_stopping_steps`). Better is what exceeds the last better one by more than the
            standard error of an accuracy on that many images. 0 never ends early.
        early_stopping_steps: steps without a better validation accuracy that a run takes in any case.
        keep: weights that the run ends with: its "last", or its "best", of the highest validation accuracy.
        max_loss: loss of a batch above which the run is stopped as exploding.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
        remat: whether the blocks' inner values are computed again on the way back, to save memory; without dropout.
        jit_compile: whether the step is compiled by XLA; always so on JAX.
        strategy: "auto", "one" device, "mirrored" on all devices of this machine, "multiworker" or "tpu".
        crop: what of a training image is taken: "resize" all of it, "inception" a random area, "random" a square of
            nearly all.
        crop_from: side that an image is brought to before a "random" crop, pixels; None is an eighth or so more than
            `image_size`.
        flip: whether half of the images are mirrored left to right.
        rotate: largest angle to either side, degrees.
        shift: largest shift to either side, part of the image's side.
        zoom: largest change of size either way, part of the size.
        shear: largest shear to either side, part of the image's side.
        randaugment: (layers, magnitude) of RandAugment, such as (2, 15); None for none.
        mixup: both parameters of the Beta distribution of mixup; 0 for none.
        cutmix: the same for CutMix; with both, a coin decides for each batch.
        keras_cv: names of KerasCV layers that change the images, too.
        evaluation: how images are brought to size where nothing is random: "official", "big_vision" or "timm".
        seed: of the split, the first weights, the order and the augmentation.
        keep_checkpoints: states of the unfinished run that are kept, beside the best.
        checkpoint_seconds: least time between two of them, more where they take long to write; 0 keeps every step.
        tensorboard: whether there are logs for TensorBoard.
        exports: files to make of the trained model, names out of `keras_vit.export.targets.TARGETS`.
        license: of the trained model, for its card and inside its files; that of the checkpoint it began with stands
            in the card where there is one.

    Raises:
        TypeError: if fields have another type; all of them in one message.
        ValueError: if fields are out of their range, or do not go together; all of them in one message.
    """

    data: str
    variant: str | Variant | ResNet
    image_size: int
    data_dir: str | None = None
    train_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    validation: float = 0.1
    test: float = 0.2
    on_bad_image: str = "error"
    class_depth: int | None = None
    weights: str | None = None
    pooling: str | None = None
    objective: str = "classes"
    corrupted: float | None = None
    decoder_layers: int = 8
    decoder_size: int | None = None
    representation_size: int | None = None
    gelu: str | None = None
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
    accumulation: int = 1
    optimizer: str = "adamw"
    momentum: float = 0.9
    momentum_dtype: str = "float32"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    warmup_epochs: int = 1
    warmup_steps: int | None = None
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    clip_norm: float = 1.0
    ema: float = 0.0
    loss: str = "softmax"
    label_smoothing: float = 0.1
    class_weights: str = "equal"
    early_stopping: int = 0
    early_stopping_steps: int = 500
    keep: str = "last"
    max_loss: float = 1e4
    precision: str = "float32"
    remat: bool = False
    jit_compile: bool = False
    strategy: str = "auto"
    crop: str = "resize"
    crop_from: int | None = None
    flip: bool = False
    rotate: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    randaugment: tuple[int, ...] | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    keras_cv: tuple[str, ...] = ()
    evaluation: str = "official"
    seed: int = 0
    keep_checkpoints: int = 3
    checkpoint_seconds: float = 30.0
    tensorboard: bool = True
    exports: tuple[str, ...] = ("savedmodel", "tflite-float32", "tflite-int8")
    license: str | None = None

    def __post_init__(self):
        for name in FIELDS:
            value = checked.plain(getattr(self, name))
            object.__setattr__(self, name, os.fspath(value) if isinstance(value, os.PathLike) else value)
        wrong = [
            f"  {name}={getattr(self, name)!r}, expected {setting_words(kind)}"
            for name, kind in FIELDS.items()
            if not fits(getattr(self, name), kind)
        ]
        if wrong:
            raise TypeError("Fields of the recipe have the wrong type. Received:\n" + "\n".join(wrong))
        wrong = [
            f"  {name}={getattr(self, name)!r}, expected {expected}"
            for names, expected, holds in RANGES
            for name in names
            if getattr(self, name) is not None and not holds(getattr(self, name))
        ]
        wrong += [f"  {expected}" for expected, holds in TOGETHER if not wrong and not holds(self)]
        if wrong:
            raise ValueError("Fields of the recipe are out of their range. Received:\n" + "\n".join(wrong))


FIELDS = typing.get_type_hints(Recipe)


def _one_of(*names):
    quoted = ", ".join(repr(name) for name in names)
    return f"one of {quoted}", lambda value: value in names


RANGES = (
    (
        ("image_size", "epochs", "steps", "steps_per_epoch", "batch_size", "accumulation", "keep_checkpoints"),
        "1 or more",
        lambda value: value >= 1,
    ),
    (("representation_size", "decoder_layers", "decoder_size", "class_depth"), "1 or more", lambda value: value >= 1),
    (("corrupted",), "more than 0 and less than 1", lambda value: 0 < value < 1),
    (("learning_rate", "max_loss"), "more than 0", lambda value: 0 < value < math.inf),
    (("layer_decay",), "more than 0, at most 1", lambda value: 0 < value <= 1),
    (
        ("warmup_epochs", "warmup_steps", "weight_decay", "clip_norm", "rotate", "shift", "zoom", "shear", "seed")
        + ("lora", "mixup", "cutmix", "early_stopping", "early_stopping_steps", "checkpoint_seconds"),
        "0 or more",
        lambda value: 0 <= value < math.inf,
    ),
    (
        ("dropout", "stochastic_depth", "label_smoothing", "validation", "test", "momentum", "ema"),
        "0 or more and less than 1",
        lambda value: 0 <= value < 1,
    ),
    (("head_bias",), "a finite number", math.isfinite),
    (("milestones",), "growing steps", lambda value: list(value) == sorted({*value}) and min(value, default=1) > 0),
    (
        ("randaugment",),
        "(layers, magnitude), 1 or more layers and a magnitude of 0 to 30",
        lambda value: len(value) == 2 and value[0] >= 1 and 0 <= value[1] <= 30,
    ),
    (("on_bad_image",), *_one_of("error", "skip")),
    (("gelu",), *_one_of("tanh", "erf")),
    (("objective",), *_one_of("classes", "masked-patches", "mae")),
    (("optimizer",), *_one_of("adamw", "muon", "sgd")),
    (("momentum_dtype",), *_one_of("float32", "bfloat16")),
    (("schedule",), *_one_of("cosine", "linear", "constant", "steps")),
    (("loss",), *_one_of("softmax", "sigmoid")),
    (("keep",), *_one_of("last", "best")),
    (("class_weights",), *_one_of("equal", "balanced")),
    (("precision",), *_one_of("float32", "mixed_bfloat16", "mixed_float16")),
    (("strategy",), *_one_of("auto", "one", "mirrored", "multiworker", "tpu")),
    (("crop",), *_one_of("resize", "inception", "random")),
    (("evaluation",), *_one_of("official", "big_vision", "timm")),
)
TOGETHER = (
    (
        "batch_size a multiple of accumulation",
        lambda recipe: recipe.batch_size % recipe.accumulation == 0,
    ),
    ("milestones with schedule='steps', and only then", lambda r: bool(r.milestones) == (r.schedule == "steps")),
    (
        "crop_from with crop='random' alone, at least image_size",
        lambda recipe: recipe.crop_from is None or recipe.crop == "random" and recipe.crop_from >= recipe.image_size,
    ),
    (
        "dropout and stochastic_depth of 0 with remat=True",
        lambda recipe: not (recipe.remat and (recipe.dropout or recipe.stochastic_depth)),
    ),
    ("lora or freeze_to, not both", lambda recipe: not (recipe.lora and recipe.freeze_to)),
    (
        "lora, representation_size and head_bias with objective='classes' alone",
        lambda recipe: (
            recipe.objective == "classes" or not (recipe.lora or recipe.representation_size or recipe.head_bias)
        ),
    ),
)

# What may differ between a run and its going on: where and how it is worked on and noted, and which files are made of
# the trained model; not what is learned.
CIRCUMSTANCES = ("strategy", "keep_checkpoints", "checkpoint_seconds", "tensorboard", "data_dir", "exports")


def change(recipe, settings):
    """Returns the recipe with fields changed by "field=value" texts.

    Raises:
        ValueError: if texts cannot be read as settings, or values are out of their range.
    """
    return dataclasses.replace(recipe, **read_settings(settings, FIELDS))
