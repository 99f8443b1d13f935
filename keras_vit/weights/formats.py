"""Recognizes the format of a weight file, and reads the configuration next to it."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_vit import _arguments as checked
from keras_vit.models.config import OFFICIAL_BIT, OFFICIAL_VIT, Numerics
from keras_vit.weights import open_clip
from keras_vit.weights.families import Family, family_of
from keras_vit.weights.json_file import (
    COUNT,
    FLAG,
    IMAGE_SHAPE,
    NUMBER,
    NUMBER_LIST,
    SIDES,
    TEXT,
    Kind,
    Kinds,
    read_json,
    refuse_other_types,
)
from keras_vit.weights.names import FORMATS, find_layers, format_column
from keras_vit.weights.readers import open_arrays
from keras_vit.weights.reshaping import ArrayShape

logger = logging.getLogger("keras_vit")

# The ports use the exact GELU and other epsilons; those of transformers are the defaults of its configurations.
_TRANSFORMERS = Numerics("erf", 1e-12, 1e-5, 1e-8, True)
_HF_1E6 = dataclasses.replace(_TRANSFORMERS, norm_epsilon=1e-6)
_TIMM = Numerics("erf", 1e-6, 1e-5, 1e-8, True)
NUMERICS = {
    "npz": OFFICIAL_VIT,
    "big_vision": OFFICIAL_VIT,
    "bit": OFFICIAL_BIT,
    "hf": _TRANSFORMERS,
    "hf_distilled": _TRANSFORMERS,
    "hf_dinov2": _HF_1E6,
    "hf_dinov2_swiglu": _HF_1E6,
    "hf_bit": _TRANSFORMERS,
    "hf_beit": _TRANSFORMERS,
    "hf_beit_shared": _TRANSFORMERS,
    **dict.fromkeys(("hf_dinov3", "hf_dinov3_gated", "hf_tower", "open_clip"), _HF_1E6),
    "hf_siglip_text": dataclasses.replace(_HF_1E6, gelu="tanh"),
    "hf_clip_text": Numerics("quick", 1e-5),
    "open_clip_siglip_text": Numerics("erf", 1e-6),
    "open_clip_clip_text": Numerics("erf", 1e-5),
    "big_vision_text": OFFICIAL_VIT,
    **dict.fromkeys(("timm", "timm_bit", "timm_gamma", "timm_eva", "timm_eva_gated", "timm_eva_split"), _TIMM),
}
# How each project resizes positions when it reads its own files (see `keras_vit.layers.positions.INTERPOLATIONS`).
POSITION_RESIZE = {"npz": "corner", "big_vision": "corner", "hf": "torch"} | dict.fromkeys(
    ("timm", "open_clip"), "antialias"
)
# A file of transformers with this array has its positions resized with antialiasing: DINOv2 with registers alone.
ANTIALIASED = "embeddings.register_tokens"
# Likewise, linearly, where this array has two axes: SigLIP 2 NaFlex, whose images have any aspect ratio.
NAFLEX = "embeddings.patch_embedding.weight"

# Prefixes of every name: in a training state that holds more than the model, and in a classifier around the model.
STATES = ("opt/target/", "params/img/", "params/", "visual.trunk.", "visual.")
WRAPPERS = ("vit.", "deit.", "bit.", "dinov2.", "dinov2_with_registers.", "beit.", "ijepa.", "vision_model.", "model.")
OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"
# Used in training alone, and tables of integers that follow from the sizes.
UNUSED = ("mask_token", "position_ids", "relative_position_index", "rope_embed.periods", ".bias_mask")
# Other models beside it: CLIP's and SigLIP's text tower and scale, the decoder of MAE, heads of pre-training.
OTHERS = (
    *("text_model.", "text_projection", "logit_scale", "logit_bias"),
    *("decoder.", "decoder_", "lm_head.", "projectors.", "local_cls_norm."),
)

# The names that transformers and timm have for the two forms of the GELU.
ACTIVATIONS = {"gelu": "erf"} | dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_tanh"), "tanh")
ACTIVATIONS |= dict.fromkeys(("quick_gelu", "quickgelu"), "quick")
# The values of a configuration that our layers compute; another value is another architecture.
SUPPORTED_CONFIG: dict[str, dict[str, tuple[Any, ...]]] = {
    "open_clip": open_clip.SUPPORTED,
    **dict.fromkeys(
        ("hf", "hf_distilled", "hf_dinov2", "hf_dinov3", "hf_beit", "hf_beit_shared", "hf_tower"),
        {"hidden_act": tuple(ACTIVATIONS)},
    ),
    "hf_dinov3_gated": {"hidden_act": ("silu",)},
    "hf_bit": {
        "layer_type": ("preactivation",),
        "global_padding": (None,),
        "embedding_dynamic_padding": (False,),
        "num_groups": (32,),
        "output_stride": (32,),
        "hidden_act": ("relu",),
    },
}
SUPPORTED_BACKBONE: dict[str, tuple[Any, ...]] = {
    "layer_type": ("bottleneck",),
    "global_padding": ("SAME",),
    "num_groups": (32,),
    "output_stride": (32,),  # a smaller one dilates the convolutions
}
# The activations in the names of timm's architectures, as pattern.
TIMM_GELUS = {
    "clip_quickgelu": "quick_gelu",
    r"patch32_siglip|large_patch16_siglip(_gap)?_512|so400m_patch16_siglip|giantopt_patch16_siglip": "gelu_tanh",
}
SUPPORTED_ARGUMENTS: dict[str, dict[str, tuple[Any, ...]]] = {"timm": {"act_layer": (None, *ACTIVATIONS)}}
LEAST_0 = Kind("an integer of 0 or more", lambda value: value == 0 or checked.is_size(value))
# {file: its fields that are read}
FIELDS: dict[str, Kinds] = {
    "config.json": {
        "hidden_act": TEXT,
        "layer_norm_eps": NUMBER,
        "num_attention_heads": COUNT,
        "num_hidden_layers": COUNT,
        "num_register_tokens": LEAST_0,
        "image_size": SIDES,
        "hidden_size": COUNT,
        "intermediate_size": COUNT,
        "patch_size": SIDES,
        "num_channels": COUNT,
        "num_classes": LEAST_0,
        "num_features": COUNT,
        "projection_dim": COUNT,
        "rope_theta": NUMBER,
        "rope_parameters": {"rope_theta": NUMBER},
        "architecture": TEXT,
        "model_type": TEXT,
        "license": TEXT,
        "use_mean_pooling": FLAG,
        "backbone_config": {},
        "vision_config": {
            "hidden_act": TEXT,
            "layer_norm_eps": NUMBER,
            **dict.fromkeys(
                ("num_attention_heads", "num_hidden_layers", "hidden_size", "intermediate_size", "num_channels"), COUNT
            ),
            **dict.fromkeys(("image_size", "patch_size"), SIDES),
        },
        "eos_token_id": LEAST_0,
        "text_config": {
            "hidden_act": TEXT,
            "layer_norm_eps": NUMBER,
            "num_attention_heads": COUNT,
            "num_hidden_layers": COUNT,
            "eos_token_id": LEAST_0,
        },
        "model_args": {
            "num_heads": COUNT,
            "act_layer": TEXT,
            "depth": COUNT,
            "reg_tokens": LEAST_0,
            "embed_dim": COUNT,
            "img_size": SIDES,
            "patch_size": SIDES,
            "in_chans": COUNT,
        },
        "pretrained_cfg": {
            "input_size": IMAGE_SHAPE,
            "mean": NUMBER_LIST,
            "std": NUMBER_LIST,
            "interpolation": TEXT,
            "crop_pct": NUMBER,
            "crop_mode": TEXT,
            "tag": TEXT,
            "license": TEXT,
        },
    },
    open_clip.OPEN_CLIP_CONFIG: open_clip.FIELDS,
    "tokenizer_config.json": {
        "padding_side": TEXT,
        **dict.fromkeys(
            ("bos_token", "eos_token", "pad_token"),
            Kind(
                "a string, or an object with one as content",
                lambda value: isinstance(value.get("content") if isinstance(value, dict) else value, str),
            ),
        ),
    },
    "preprocessor_config.json": {
        "do_normalize": FLAG,
        "do_rescale": FLAG,
        "do_center_crop": FLAG,
        "image_mean": NUMBER_LIST,
        "image_std": NUMBER_LIST,
        "rescale_factor": NUMBER,
        "resample": Kind("an integer", lambda value: isinstance(value, int)),
        **dict.fromkeys(
            ("size", "crop_size"),
            Kind(
                "an integer or an object of integers, each 1 or more",
                lambda value: all(map(checked.is_size, value.values() if isinstance(value, dict) else [value])),
            ),
        ),
    },
}
# {project: {field of the architecture: its names in config.json, or in the `model_args` in it}}
STATED: dict[str, dict[str, tuple[str, ...]]] = {
    "hf": {
        "hidden_size": ("hidden_size",),
        "mlp_dim": ("intermediate_size",),
        "num_layers": ("num_hidden_layers",),
        "patch_size": ("patch_size",),
        "channels": ("num_channels",),
    },
    "timm": {
        "hidden_size": ("num_features", "embed_dim"),
        "num_layers": ("depth",),
        "patch_size": ("patch_size",),
        "channels": ("in_chans",),
        "classes": ("num_classes",),
    },
}
MOST_BLOCKS = 1000  # in a stacked array, whose first axis a file can claim to be of any length
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclasses.dataclass(eq=False)
class CheckpointFile:
    """An opened weight file whose names are those of its format's column in the name table.

    Args:
        path: the file.
        format: a key of `names.FORMATS`, or None for a file with our own weight paths.
        shapes: {name: shape}.
        numerics: the form of the GELU and the epsilons that the format's project uses.
        left_out: names of arrays that the file holds besides the model's, for the log.
        num_heads: attention heads, where a configuration has them.
        num_layers: transformer blocks, where a configuration has them.
        num_registers: register tokens, where a configuration has them.
        image_size: (height, width) of its images in pixels, where a configuration has it.
        pixels: fields of a `Pixels`; None where one is unknown.
        grid: (rows, columns) of its positions, where it is known; else they are assumed to be a square.
        resized_with: how its positions were resized before, where that is known.
        class_names: in the order of the head's outputs, where a configuration names them.
        stated: {its name in the configuration: (field of the architecture, value)} of sizes that the shapes show, too.
        family: the family of published checkpoints that it is of, where its shapes do not show all.
        config: the configuration; of a model with two towers, that of its vision tower is on the same level.
    """

    path: str | pathlib.Path
    format: str | None
    shapes: dict[str, ArrayShape]
    numerics: Numerics
    left_out: tuple[str, ...] = ()
    num_heads: int | None = None
    num_layers: int = 0
    num_registers: int = 0
    image_size: tuple[int, int] | None = None
    pixels: dict[str, Any] = dataclasses.field(default_factory=dict)
    grid: tuple[int, int] | None = None
    resized_with: str | None = None
    class_names: tuple[str, ...] | None = None
    stated: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)
    family: Family | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    _file: Any = None  # a `WeightFile`, or the weights of a model
    # {name: (name in the file, index of the block in a stacked array)}
    _rows: dict[str, tuple[str, int | None]] = dataclasses.field(default_factory=dict)

    def read(self, name: str, rows: tuple[int, int] | None = None) -> np.ndarray:
        """Returns an array, or the rows from the first to before the second, as float32."""
        in_file, block = self._rows.get(name, (name, None))
        return self._file.read(in_file, rows) if block is None else self._file.read(in_file, (block, block + 1))[0]

    @property
    def averages(self) -> bool:
        """Whether a configuration of timm says that the head reads the mean of the patch tokens."""
        return self.config.get("global_pool") == "avg"

    @property
    def is_keras_weights(self) -> bool:
        """Whether this is a .weights.h5 file with the names that Keras has."""
        return self.format is None and any(name.startswith("layers/") for name in self.shapes)

    @property
    def position_resize(self) -> str:
        """How the format's project resizes positions, a key of `keras_vit.layers.positions.INTERPOLATIONS`."""
        if len(self.shapes.get(NAFLEX, ())) == 2:
            return "half_pixel_antialias"
        return "antialias" if ANTIALIASED in self.shapes else POSITION_RESIZE.get(self.project or "", "corner")

    @property
    def patch_resize(self) -> str:
        """How the format's project resizes the patch embedding, likewise."""
        return "half_pixel" if self.project == "big_vision" else "antialias"

    @property
    def project(self) -> str | None:
        """The project whose format it is, a column of the name table; None for our own."""
        return FORMATS[self.format].column if self.format else None


@contextlib.contextmanager
def open_checkpoint_file(
    path: str | os.PathLike[str], config_path: str | os.PathLike[str] | None = None
) -> Iterator[CheckpointFile]:
    """Opens a weight file of any format, or a folder of the Hugging Face hub with one, in one file or several.

    Args:
        path: the file, the index of a file in parts, or the folder.
        config_path: its configuration; by default, the config.json in its folder.

    Yields:
        A `CheckpointFile`.

    Raises:
        ValueError: if the file is unreadable, its format is unknown, or its configuration is of another architecture.
    """
    path = weight_file(pathlib.Path(path))
    with open_arrays(path) as reader:
        rows, left_out = _without_prefixes(path, reader.shapes)
        shapes = {name: reader.shapes[key][0 if block is None else 1 :] for name, (key, block) in rows.items()}
        format = _recognize(path, shapes)
        has_config = format and path.suffix in (".safetensors", ".json")
        config = read_beside(path, "config.json", config_path) if has_config else {}
        config |= config.get("vision_config") or {}
        if has_config and any(name.startswith("visual.") for name in reader.shapes):
            config |= _of_open_clip(path, config)
        numerics, family = NUMERICS[format] if format else OFFICIAL_VIT, family_of(format, shapes)
        if family:
            numerics = dataclasses.replace(numerics, norm_epsilon=family.norm_epsilon, gelu=family.gelu)
        file = CheckpointFile(
            path, format, shapes, numerics, left_out, family=family, config=config, _file=reader, _rows=rows
        )
        _configure(file, path, config)
        yield file


def _of_open_clip(path: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the open_clip_config.json beside a file states of its image tower; {} where there is none."""
    stated = read_beside(path, open_clip.OPEN_CLIP_CONFIG)
    result = open_clip.image_config(stated) if stated else {}
    if "pretrained_cfg" in result:
        result["pretrained_cfg"] = (config.get("pretrained_cfg") or {}) | result["pretrained_cfg"]
    return stated | result


def weight_file(path: pathlib.Path) -> pathlib.Path:
    """Returns the weight file of a checkpoint: the path itself, or the one file or index in a folder.

    OpenCLIP's file counts where the folder has no other: repositories have the same weights twice.
    """
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.safetensors.index.json")) or sorted(path.glob("*.safetensors"))
    files = [file for file in files if file.name != OPEN_CLIP_WEIGHTS] or files
    if len(files) != 1:
        raise ValueError(
            f"Expected a weight file, or a folder with one .safetensors file, or one in parts and its index. "
            f"Received: path={path}, a folder with {checked.first_few(file.name for file in files) or 'none'}. "
            "Name the file."
        )
    return files[0]


def _without_prefixes(
    path: pathlib.Path, shapes: Mapping[str, ArrayShape]
) -> tuple[dict[str, tuple[str, int | None]], tuple[str, ...]]:
    """Returns {name: (name in the file, block or None)} without prefixes, and the names that are not the model's."""
    known = (prefix for prefix in STATES if any(name.startswith(prefix) for name in shapes))
    state = next(known, None) or _nested_prefix(shapes)
    # transformers' classifiers of the towers do not read SigLIP's attention pooling and CLIP's last norm.
    unread = ["vision_model.head."] + ["vision_model.post_layernorm."] * ("vision_model.pre_layrnorm.weight" in shapes)
    others = (*OTHERS, *unread) if "classifier.weight" in shapes else OTHERS
    left_out = tuple(
        name
        for name in shapes
        if not name.startswith("visual." if state == "visual.trunk." else state)  # a projection is beside the trunk
        or name.endswith(UNUSED)
        or name.removeprefix(state).startswith(others)
    )
    rows: dict[str, tuple[str, int | None]] = {}
    for in_file in shapes:
        if in_file in left_out:
            continue
        name = in_file.removeprefix(state)
        wrapper = next((wrapper for wrapper in WRAPPERS if name.startswith(wrapper)), "")
        # Some of BiT's files number all convolutions in one sequence.
        name = re.sub(r"(standardized_conv2d|group_norm)_\d+/", r"\1/", name.removeprefix(wrapper))
        for key, block in unstacked(path, in_file, name, shapes[in_file]):
            if key in rows:
                raise ValueError(
                    f"Expected one array a weight. Received: {path} with {checked.first_few((rows[key][0], in_file))}"
                )
            rows[key] = in_file, block
    return rows, left_out


def unstacked(
    path: str | os.PathLike[str], in_file: str, name: str, shape: ArrayShape
) -> Iterator[tuple[str, int | None]]:
    """Yields the names of the arrays in one array of a file, and their index along its first axis.

    Args:
        path: the file.
        in_file: name of the array in it.
        name: the same without prefixes. big_vision stacks those of all blocks, under "encoderblock".
        shape: of the array.

    Yields:
        (name, None) for an array that is not stacked.
    """
    if not (name.startswith(("Transformer/encoderblock/", "Encoder_0/encoderblock/")) and shape):
        yield name, None
    elif shape[0] > MOST_BLOCKS:
        raise ValueError(f"Expected at most {MOST_BLOCKS} blocks. Received: {path} with {shape[0]} in {in_file:.200}")
    else:
        yield from ((name.replace("encoderblock", f"encoderblock_{block}"), block) for block in range(shape[0]))


def _nested_prefix(names: Iterable[str]) -> str:
    """Returns the prefix that Keras adds to every name in a model that holds another model alone; "" elsewhere."""
    prefixes = {match and match[1] for match in (re.match("(layers/[^/]+/)layers/", name) for name in names)}
    return prefixes.pop() or "" if len(prefixes) == 1 else ""


def _recognize(path: pathlib.Path, names: Iterable[str]) -> str | None:
    """Returns the format that has the most of the names, or None for a file of Keras."""
    names = list(names)
    if any(name.startswith("layers/") for name in names):
        return None
    counts = {format: _count(format, names) for format in FORMATS}
    best = max(counts, key=lambda format: counts[format])
    if not counts[best]:
        raise ValueError(
            "Expected weights of a Vision Transformer or a BiT, from the official code, big_vision, Hugging Face, timm "
            f"or Keras. Received: {path} with {len(names)} arrays, {checked.first_few(sorted(names))}"
        )
    return best


def _count(format: str, names: Collection[str]) -> int:
    """Returns how many of the names a format has, in models whose layers any of these rows shows."""
    rows = ("block_{i:02d}/mlp/hidden", "block_{i:02d}/attention/out", "stage{s}_unit{u:02d}/conv2")
    layers = [layer for row in rows for layer in find_layers(format, row, names)]
    units: dict[int, int] = {}
    for layer in layers:
        if "s" in layer:
            units[layer["s"]] = max(units.get(layer["s"], 0), layer["u"] + 1)
    blocks = max((layer["i"] + 1 for layer in layers if "i" in layer), default=0)
    if not layers and not find_layers(format, "head/distillation", names):
        return 0
    stages = tuple(units.get(stage, 0) for stage in range(max(units, default=-1) + 1))
    cells = format_column(format, min(blocks, MOST_BLOCKS), stages).values()
    return len({name for cell in cells for name in cell.names} & {*names})


def read_beside(path: pathlib.Path, name: str, own: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Returns a JSON file in the folder of a weight file, or another file of this name; {} where there is none."""
    path = pathlib.Path(own) if own else path.with_name(name)
    if not path.exists():
        return {}
    config = read_json(path)
    refuse_other_types(path, config, FIELDS[name])
    return {field: value for field, value in config.items() if value is not None}


def _configure(file: CheckpointFile, path: pathlib.Path, config: dict[str, Any]) -> None:
    """Sets what the shapes do not show from a configuration; refuses one of another architecture."""
    wrong = [
        f"{name}={settings[name]!r:.80}, expected {' or '.join(map(repr, known))}"
        for settings, expected in (
            (config, SUPPORTED_CONFIG.get(file.format or "", {})),
            (config.get("backbone_config") or {}, SUPPORTED_BACKBONE),
            (config.get("model_args") or {}, SUPPORTED_ARGUMENTS.get(file.format or "", {})),
        )
        for name, known in expected.items()
        if name in settings and settings[name] not in known
    ]
    if file.format == "timm" and config.get("global_pool") == "token" and "cls_token" not in file.shapes:
        wrong.append("global_pool='token', and cls_token is missing")
    if wrong:
        separator, name = "\n  ", open_clip.OPEN_CLIP_CONFIG if file.project == "open_clip" else "config.json"
        raise ValueError(f"{path.with_name(name)} is of another architecture:\n  {checked.first_few(wrong, separator)}")
    given = config | (config.get("model_args") or {})
    for field, names in STATED.get(file.project or "", {}).items():
        file.stated |= {name: (field, value) for name in names if (value := _one_size(given.get(name)))}
    if file.project == "hf" and isinstance(labels := config.get("id2label"), dict) and labels:
        file.stated["id2label"] = "classes", len(labels)
    if file.project == "timm":
        _configure_timm(file, config.get("model_args") or {}, config.get("pretrained_cfg") or {})
        file.class_names = _timm_class_names(config)
    elif file.project in ("hf", "open_clip"):
        _configure_hf(file, path, config)


def _configure_timm(file: CheckpointFile, arguments: dict[str, Any], pretrained: dict[str, Any]) -> None:
    if file.format != "timm_bit":
        file.num_heads = arguments.get("num_heads")
        file.num_layers = arguments.get("depth") or 0
        file.num_registers = arguments.get("reg_tokens") or 0
        file.image_size = _sides(arguments.get("img_size")) or _sides((pretrained.get("input_size") or [None])[1:])
        named = next(
            (gelu for part, gelu in TIMM_GELUS.items() if re.search(part, file.config.get("architecture", ""))), ""
        )
        gelu = ACTIVATIONS.get(arguments.get("act_layer") or named, file.numerics.gelu)
        file.numerics = dataclasses.replace(file.numerics, gelu=gelu)
    squash = pretrained.get("crop_mode") == "squash"
    file.pixels = {
        "mean": pretrained.get("mean"),
        "std": pretrained.get("std"),
        "interpolation": pretrained.get("interpolation"),
        "crop": None if squash and pretrained.get("crop_pct") == 1 else pretrained.get("crop_pct"),
        "keep_aspect": not squash,
    }


def _configure_hf(file: CheckpointFile, path: pathlib.Path, config: dict[str, Any]) -> None:
    file.class_names = _hf_class_names(config)
    if file.format != "hf_bit":
        file.num_heads = config.get("num_attention_heads")
        file.num_layers = config.get("num_hidden_layers") or 0
        file.num_registers = config.get("num_register_tokens") or 0
        file.image_size = _sides(config.get("image_size"))
        file.numerics = dataclasses.replace(
            file.numerics,
            gelu=ACTIVATIONS.get(config.get("hidden_act") or "", file.numerics.gelu),
            norm_epsilon=config.get("layer_norm_eps", file.numerics.norm_epsilon),
        )
        if not config:
            logger.info(
                "%s has no %s: read with its project's defaults: layer_norm_eps %g, %s GELU",
                path,
                "config.json" if file.project == "hf" else open_clip.OPEN_CLIP_CONFIG,
                file.numerics.norm_epsilon,
                {"erf": "exact"}.get(file.numerics.gelu, file.numerics.gelu),
            )
    if file.project == "open_clip":
        file.pixels = open_clip.image_pixels(config)
        return
    processor = read_beside(path, "preprocessor_config.json")
    sides = processor.get("size")
    size, crop = (_side(processor.get(name)) for name in ("size", "crop_size"))
    mean, std = (
        (processor.get("image_mean"), processor.get("image_std"))
        if processor.get("do_normalize", True)
        else ((0.0,) * 3, (1.0,) * 3)
    )
    # The mean and std of transformers are those of pixels times this factor; ours are those of pixels over 255.
    factor = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    if mean and std and abs(factor - 1) > 1e-6:
        mean, std = ([value / factor for value in values] for values in (mean, std))
    file.pixels = {
        "mean": mean,
        "std": std,
        "interpolation": RESAMPLE.get(processor.get("resample", -1)),
        "crop": min(crop / size, 1.0) if processor.get("do_center_crop") and size and crop else None,
        "keep_aspect": isinstance(sides, dict) and "shortest_edge" in sides,
    }


def default_class_names(count: int) -> tuple[str, ...]:
    """Returns the default names that transformers has for `count` classes."""
    return tuple(f"LABEL_{i}" for i in range(count))


def _hf_class_names(config: dict[str, Any]) -> tuple[str, ...] | None:
    """Returns the class names in transformers' config.json, or None where it has its default names."""
    labels = config.get("id2label")
    if not isinstance(labels, dict) or not labels:
        return None
    try:
        name_of = {int(number): name for number, name in labels.items()}
    except ValueError:
        return None
    if sorted(name_of) != list(range(len(name_of))) or not all(isinstance(name, str) for name in name_of.values()):
        return None
    names = tuple(name_of[i] for i in range(len(name_of)))
    return None if names == default_class_names(len(names)) else names


def _timm_class_names(config: dict[str, Any]) -> tuple[str, ...] | None:
    """Returns the class names in timm's config.json, or None without any."""
    names = config.get("label_names") or (config.get("pretrained_cfg") or {}).get("label_names")
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list and names else None


def _sides(size: Any) -> tuple[int, int] | None:
    """Returns (height, width) of one number or two, or None of anything else."""
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    return (sides[0], sides[1]) if len(sides) == 2 and all(isinstance(side, int) for side in sides) else None


def _one_size(size: Any) -> int | None:
    """Returns one number, or the number that stands in (height, width) twice; None for anything else."""
    sides = _sides(size)
    return sides[0] if sides and sides[0] == sides[1] else None


def _side(size: Any) -> Any:
    if isinstance(size, dict):
        return size.get("shortest_edge") or size.get("height")
    return size
