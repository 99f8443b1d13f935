"""Recognizes whose dialect a weight file speaks, and what it says about the model beside its numbers."""

import contextlib
import dataclasses
import json
import logging
import pathlib
import re

from keras_vit.models.config import OFFICIAL_BIT, OFFICIAL_VIT, Numerics
from keras_vit.weights.names import SOURCES, found_places
from keras_vit.weights.readers import open_arrays

logger = logging.getLogger("keras_vit")

# The ports compute with the exact GELU and with epsilons of their own; transformers' are its configurations' defaults.
_TRANSFORMERS = Numerics("erf", 1e-12, 1e-5, 1e-8, True)
_DINOV2 = dataclasses.replace(_TRANSFORMERS, norm_epsilon=1e-6)
_TIMM = Numerics("erf", 1e-6, 1e-5, 1e-8, True)
NUMERICS = {
    "npz": OFFICIAL_VIT,
    "big_vision": OFFICIAL_VIT,
    "bit": OFFICIAL_BIT,
    "hf": _TRANSFORMERS,
    "hf_distilled": _TRANSFORMERS,
    "hf_dinov2": _DINOV2,
    "hf_dinov2_swiglu": _DINOV2,
    "hf_bit": _TRANSFORMERS,
    "timm": _TIMM,
    "timm_bit": _TIMM,
}
# How each project resizes positions when it reads a file of its own (see `position.MODES`).
POSITION_RESIZE = {"npz": "corner", "big_vision": "corner", "hf": "torch", "timm": "antialias"}
# transformers smooths those of DINOv2 with registers, and of no other model.
SMOOTHED = "embeddings.register_tokens"

# What stands in front of every name: of a training state with more in it, and of the model inside a classifier.
STATES = ("opt/target/", "params/img/", "params/")
WRAPPERS = ("vit.", "deit.", "bit.", "dinov2.", "dinov2_with_registers.")
# Read by training alone.
NEVER_READ = ("mask_token",)

# transformers' names, and timm's.
ACTIVATIONS = {"gelu": "erf"} | dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_tanh"), "tanh")
# What our layers compute; another value in a configuration is another architecture.
CONFIGURED = {
    **dict.fromkeys(("hf", "hf_distilled", "hf_dinov2"), {"hidden_act": tuple(ACTIVATIONS)}),
    "hf_bit": {
        "layer_type": ("preactivation",),
        "global_padding": (None,),
        "embedding_dynamic_padding": (False,),
        "num_groups": (32,),
        "output_stride": (32,),
        "hidden_act": ("relu",),
    },
}
BACKBONE_CONFIGURED = {
    "layer_type": ("bottleneck",),
    "global_padding": ("SAME",),
    "num_groups": (32,),
    "output_stride": (32,),  # below, it would dilate
}
ARGUMENTS = {"timm": {"act_layer": (None, *ACTIVATIONS)}}
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


@dataclasses.dataclass(eq=False)
class SourceFile:
    """A weight file under the names that its source's column of the name table has.

    Args:
        path: the file.
        source: a key of `names.SOURCES`, or None for a file with our own weight paths.
        shapes: {name: shape}.
        left_out: what the file holds beside the model, for the log.
        numerics: how the source computes what shapes do not tell.
        num_heads: attention heads, where a configuration says so.
        image_size: (rows, columns) of its images, where a configuration says so.
        pixels: fields of a `Pixels`, None where they are not known.
        grid: (rows, columns) of its positions, where it is known; else they are taken to be a square.
        resized: how its positions were resized before, where that is known.
        class_names: in the order of the head's outputs, where a configuration names them.
    """

    path: pathlib.Path
    source: str | None
    shapes: dict
    numerics: Numerics
    left_out: tuple = ()
    num_heads: int | None = None
    image_size: tuple[int, int] | None = None
    pixels: dict = dataclasses.field(default_factory=dict)
    grid: tuple[int, int] | None = None
    resized: str | None = None
    class_names: tuple[str, ...] | None = None
    _file: object = None
    _rows: dict = dataclasses.field(default_factory=dict)  # {name: (name in the file, block in a stacked array)}

    def read(self, name, rows=None):
        """Returns an array, or its rows from the first to before the second, as float32."""
        theirs, block = self._rows.get(name, (name, None))
        return self._file.read(theirs, rows) if block is None else self._file.read(theirs, (block, block + 1))[0]

    @property
    def is_keras_weights(self):
        """Whether the names are Keras' own, of a .weights.h5 file."""
        return self.source is None and any(name.startswith("layers/") for name in self.shapes)

    @property
    def position_resize(self):
        """How the file's project resizes positions, a key of `position.MODES`."""
        return "antialias" if SMOOTHED in self.shapes else POSITION_RESIZE.get(self.project, "corner")

    @property
    def project(self):
        """Whose files these are, a column of the name table; None for our own."""
        return SOURCES[self.source][1] if self.source else None


@contextlib.contextmanager
def open_weights(path):
    """Opens a weight file of any source, or a folder with one, whole or in parts, as the Hugging Face hub has them.

    Yields:
        A `SourceFile`.

    Raises:
        ValueError: if the file is unreadable, of no known source, or its configuration is of another architecture.
    """
    path = _weight_file(pathlib.Path(path))
    with open_arrays(path) as file:
        rows, left_out = _canonical(file.shapes)
        shapes = {name: file.shapes[theirs][0 if block is None else 1 :] for name, (theirs, block) in rows.items()}
        source = _recognize(path, shapes)
        beside = source and path.suffix in (".safetensors", ".json")
        config = _read_json(path.with_name("config.json")) if beside else {}
        found = SourceFile(path, source, shapes, NUMERICS.get(source, OFFICIAL_VIT), left_out, _file=file, _rows=rows)
        _configure(found, config)
        yield found


def _weight_file(path):
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.safetensors.index.json")) or sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        raise ValueError(
            f"Expected a weight file, or a folder with one .safetensors file, or one in parts and its index. "
            f"Received: {path}, with {[file.name for file in files]}"
        )
    return files[0]


def _canonical(shapes):
    """Returns {name: (name in the file, block or None)} without prefixes, and the names that are not the model's."""
    state = next((prefix for prefix in STATES if any(name.startswith(prefix) for name in shapes)), _tower(shapes))
    left_out = tuple(name for name in shapes if not name.startswith(state) or name.endswith(NEVER_READ))
    rows = {}
    for theirs in shapes:
        if theirs in left_out:
            continue
        name = theirs.removeprefix(state)
        wrapper = next((wrapper for wrapper in WRAPPERS if name.startswith(wrapper)), "")
        # Some of BiT's files number their convolutions throughout.
        name = re.sub(r"(standardized_conv2d|group_norm)_\d+/", r"\1/", name.removeprefix(wrapper))
        stacked = name.startswith("Transformer/encoderblock/") and shapes[theirs]
        for block in range(shapes[theirs][0]) if stacked else (None,):
            one = name if block is None else name.replace("encoderblock", f"encoderblock_{block}")
            if one in rows:
                raise ValueError(f"Expected one array a weight. Received: {rows[one][0]} and {theirs}, both {one}")
            rows[one] = theirs, block
    return rows, left_out


def _tower(names):
    """Returns what Keras puts in front of every name where a model is all that another holds; "" elsewhere."""
    found = {match and match[1] for match in (re.match("(layers/[^/]+/)layers/", name) for name in names)}
    return found.pop() or "" if len(found) == 1 else ""


def _recognize(path, names):
    """Returns the source that has the most of the names."""
    if any(name.startswith("layers/") for name in names):
        return None  # Keras' own
    deep = ("block_{i:02d}/mlp/hidden", "block_{i:02d}/attention/out", "stage{s}_unit{u:02d}/conv2")
    found = {
        source: sum(len(found_places(source, row, names)) for row in (*deep, "head/distillation")) for source in SOURCES
    }
    best = max(found, key=found.get)
    if not found[best]:
        raise ValueError(
            "Expected weights of a Vision Transformer or a BiT, from the official code, big_vision, Hugging Face, timm "
            f"or Keras. Received: {path} with {len(names)} arrays, {', '.join(sorted(names)[:5])}, ..."
        )
    return best


def _read_json(path):
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _configure(file, config):
    """Takes from a configuration what shapes do not tell."""
    wrong = [
        f"  {name}={settings[name]!r}, expected {' or '.join(map(repr, known))}"
        for settings, expected in (
            (config, CONFIGURED.get(file.source, {})),
            (config.get("backbone_config") or {}, BACKBONE_CONFIGURED),
            (config.get("model_args") or {}, ARGUMENTS.get(file.source, {})),
        )
        for name, known in expected.items()
        if name in settings and settings[name] not in known
    ]
    if file.source == "timm" and config.get("global_pool") == "avg" and {"cls_token", "head.weight"} <= {*file.shapes}:
        wrong.append("  global_pool='avg', expected 'token' with a class token and a head")
    if wrong:
        raise ValueError(f"{file.path.with_name('config.json')} is of another architecture:\n" + "\n".join(wrong))
    if file.project == "timm":
        _configure_timm(file, config.get("model_args") or {}, config.get("pretrained_cfg") or {})
        file.class_names = _timm_class_names(config)
    elif file.project == "hf":
        _configure_hf(file, config)


def _configure_timm(file, arguments, facts):
    if file.source == "timm":
        file.num_heads = arguments.get("num_heads")
        file.image_size = _sides((facts.get("input_size") or [None])[1:])
        file.numerics = dataclasses.replace(file.numerics, gelu=ACTIVATIONS.get(arguments.get("act_layer"), "erf"))
    squash = facts.get("crop_mode") == "squash"
    file.pixels = {
        "mean": facts.get("mean"),
        "std": facts.get("std"),
        "interpolation": facts.get("interpolation"),
        "crop": None if squash and facts.get("crop_pct") == 1 else facts.get("crop_pct"),
        "keep_aspect": not squash,
    }


def _configure_hf(file, config):
    file.class_names = _hf_class_names(config)
    if file.source != "hf_bit":
        file.num_heads = config.get("num_attention_heads")
        file.image_size = _sides(config.get("image_size"))
        file.numerics = dataclasses.replace(
            file.numerics,
            gelu=ACTIVATIONS.get(config.get("hidden_act"), "erf"),
            norm_epsilon=config.get("layer_norm_eps", file.numerics.norm_epsilon),
        )
        if not config:
            logger.info(
                "%s: no config.json beside it; taken as transformers' defaults: layer_norm_eps %g, exact GELU, "
                "heads of width 64",
                file.path,
                file.numerics.norm_epsilon,
            )
    processor = _read_json(file.path.with_name("preprocessor_config.json"))
    size, crop = (_side(processor.get(name)) for name in ("size", "crop_size"))
    mean, std = (
        (processor.get("image_mean"), processor.get("image_std"))
        if processor.get("do_normalize", True)
        else ((0.0,) * 3, (1.0,) * 3)
    )
    # Mean and std are of pixels times this factor, ours of pixels in parts of 255.
    factor = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    if mean and std and abs(factor - 1) > 1e-6:
        mean, std = ([value / factor for value in values] for values in (mean, std))
    file.pixels = {
        "mean": mean,
        "std": std,
        "interpolation": RESAMPLE.get(processor.get("resample")),
        "crop": min(crop / size, 1.0) if processor.get("do_center_crop") and size and crop else None,
        "keep_aspect": "shortest_edge" in (processor.get("size") or ()),
    }


def stand_ins(count):
    """Returns the names that transformers gives to classes without names."""
    return tuple(f"LABEL_{i}" for i in range(count))


def _hf_class_names(config):
    """Returns the names of classes in transformers' config.json, or None where they are its own stand-ins."""
    labels = config.get("id2label")
    if not isinstance(labels, dict) or not labels:
        return None
    try:
        names = {int(number): name for number, name in labels.items()}
    except ValueError:
        return None
    if sorted(names) != list(range(len(names))) or not all(isinstance(name, str) for name in names.values()):
        return None
    names = tuple(names[i] for i in range(len(names)))
    return None if names == stand_ins(len(names)) else names


def _timm_class_names(config):
    """Returns the names of classes in timm's config.json, or None where it has none."""
    names = config.get("label_names") or (config.get("pretrained_cfg") or {}).get("label_names")
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list and names else None


def _sides(size):
    """Returns (rows, columns) of one number or two, or None of anything else."""
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    return sides if len(sides) == 2 and all(isinstance(side, int) for side in sides) else None


def _side(size):
    if isinstance(size, dict):
        return size.get("shortest_edge") or size.get("height")
    return size
