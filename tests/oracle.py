"""Reference numbers for 29 tiny models: weights and images from a seed, outputs and gradients from a file.

What is in oracle.npz:
    CASE/TENSOR     outputs and tensors on the way, of two images; of wide ones the first 32 numbers
    files/CASE      names and shapes of the checkpoint's arrays, in the file's order
    configs/CASE    the config.json beside it
    gradients/CASE  of each array, in that order: the norm of its gradient and the gradient's first four numbers
    losses/CASE     before each of ten steps of SGD
    generator/...   first numbers that the generator below draws

Plain and hybrid cases are the official implementation's (vit_jax, in Flax at the highest matmul precision) with its own
GELU (tanh); "logits_gelu_erf" are the same weights with the exact GELU. The others are what the files' own projects
compute: BiT's PyTorch code, transformers 4.57 and timm 1.0. Positions that were resized are SciPy's, as in the official
checkpoint.py and, for a grid that is no square, vit-keras; DINOv2's are transformers' and timm's own. The gradients are
JAX's and the steps optax's. No weight is left at 0 or 1, so that one that is dropped or swapped shows.

Run as a script, prints the differences of every case on the backend that KERAS_BACKEND names.
"""

import hashlib
import json
import math
import pathlib
import sys
import tempfile
from typing import NamedTuple

import numpy as np

from keras_vit.models.config import ResNet, Variant

SEED = 20240607

# Absolute, in float32. Correct implementations differ by up to 7e-6 here, from the order of their sums; the smallest
# mistake that was tried, the other form of GELU, moves the logits by 2.4e-4 and more.
LOGITS_ATOL, FEATURES_ATOL = 1e-4, 2e-4

PATCH_SIZE, HIDDEN_SIZE, NUM_LAYERS, NUM_HEADS, MLP_DIM = SIZES = 8, 32, 3, 4, 48


class Case(NamedTuple):
    """A row of `CASES`: what the model is, and what its checkpoint does not tell.

    Args:
        row: the architecture.
        size: (rows, columns) of the images.
        load: arguments of `keras_vit.load`.
        build: arguments of `keras_vit.build`, which says in full what `load` finds out.
        file: the case that the checkpoint is of; None for its own.
        light: what the images are multiplied by; little light shows the epsilons of the norms.
    """

    row: Variant | ResNet = Variant(*SIZES)
    size: tuple[int, int] = (32, 32)
    load: dict = {}
    build: dict = {"classes": 10}
    file: str | None = None
    light: float = 1.0


def _hybrid(patch_size, *units_and_widths):
    return Variant(patch_size, *SIZES[1:], stem=ResNet(*units_and_widths))


def _dinov2(**options):
    return Variant(*SIZES, layer_scale=1e-5, **options)


_HYBRID = _hybrid(1, (1, 1, 1), (256, 512, 1024))
_BIT = ResNet((1, 1, 1, 1), (256, 512, 1024, 2048))
_DISTILLED = Variant(*SIZES, pooling="token+distillation", distillation_token=True)
_HEADLESS = {"include_top": False, "pooling": "token"}
_AT_24x48 = {"size": (24, 48), "load": {"input_shape": (24, 48, 3)}}  # the files have 5 x 5 patches
_AT_64 = {"size": (64, 64), "load": {"input_shape": (64, 64, 3)}}

CASES = {
    "token_32": Case(),
    "token_48x24": Case(size=(48, 24), load={"input_shape": (48, 24, 3)}),
    "token_32_at_64x40": Case(size=(64, 40), load={"input_shape": (64, 40, 3)}, file="token_32"),
    "rep_32": Case(build={"classes": 10, "representation_size": 20}),
    "headless_32": Case(build={"include_top": False, "pooling": "token"}),
    "gap_32": Case(Variant(*SIZES, pooling="gap"), build={"classes": 10, "pooling": "gap"}),
    "unpooled_32": Case(
        Variant(*SIZES, pooling="none"), load={"pooling": "none"}, build={"classes": 10, "pooling": "none"}
    ),
    "hybrid_111_64": Case(_HYBRID, (64, 64)),
    "hybrid_111_64_faint": Case(_HYBRID, (64, 64), file="hybrid_111_64", light=0.003),
    "hybrid_stem_64": Case(_hybrid(4, (), ()), (64, 64)),
    "bit_1111x1_64": Case(_BIT, **_AT_64),
    "bit_1111x1_64_faint": Case(_BIT, **_AT_64, file="bit_1111x1_64", light=0.003),
    "hf_vit_32": Case(),
    "hf_vit_pooler_32": Case(
        load={"representation_size": 32}, build={"include_top": False, "pooling": "token", "representation_size": 32}
    ),
    "hf_deit_32": Case(Variant(*SIZES, distillation_token=True)),
    "hf_vit_hybrid_64": Case(_hybrid(1, (1, 1, 1), (128, 128, 256)), (64, 64)),
    "hf_bit_64": Case(ResNet((1, 1, 1, 1), (128, 128, 256, 256)), **_AT_64),
    "timm_vit_32": Case(load={"num_heads": 4}),
    "hf_dinov2_32": Case(_dinov2(), build=_HEADLESS),
    "hf_dinov2_24x48": Case(_dinov2(pooling="token+gap"), **_AT_24x48),
    "hf_dinov2_swiglu_32": Case(_dinov2(pooling="token+gap", swiglu=True)),
    "hf_dinov2_registers_24x48": Case(_dinov2(register_tokens=3), **_AT_24x48, build=_HEADLESS),
    "hf_dinov2_registers_swiglu_32": Case(_dinov2(pooling="token+gap", register_tokens=3, swiglu=True)),
    "hf_deit_teacher_32": Case(_DISTILLED),
    "timm_dinov2_32": Case(_dinov2(), load={"num_heads": 4}, build=_HEADLESS),
    "timm_dinov2_reg4_24x48": Case(_dinov2(register_tokens=4), (24, 48), {"num_heads": 4, "input_shape": (24, 48, 3)}),
    "timm_dinov2_giant_32": Case(_dinov2(register_tokens=4, swiglu=True), load={"num_heads": 4}, build=_HEADLESS),
    "timm_deit_distilled_32": Case(_DISTILLED, load={"num_heads": 4}),
    "timm_deit3_32": Case(_dinov2(), load={"num_heads": 4}),
}
LABELS = 3, 7

TABLES = {"cls", "pos_embedding", "pos_embed", "cls_token", "distillation_token", "position_embeddings"}
STANDARDIZED = {"standardized_conv2d", "conv_root", "conv1", "conv2", "conv3", "conv_proj"}


def _noise(key):
    seed = hashlib.sha256(f"{key}|{SEED}".encode()).digest()[:8]
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))


def _spread_and_mean(key, shape):
    """Returns both for a weight; kernels that are standardized have a mean, so that forgetting it shows."""
    parts = f"/{key}".replace(".", "/").split("/")
    parent, leaf = parts[-2:]
    if leaf in TABLES | {"bias", "beta"}:
        return 0.02, 0
    if leaf in ("scale", "gamma") or (leaf == "weight" and len(shape) == 1):
        return 0.1, 1
    if leaf == "weight":  # PyTorch's
        inputs, standardized = shape[1:], len(shape) == 4 and not {"proj", "projection", "head"} & set(parts)
    else:
        by_head = len(shape) == 3 and parent in ("query", "key", "value")
        inputs, standardized = shape[: 1 if by_head else -1], parent in STANDARDIZED
    spread = 1 / math.sqrt(math.prod(inputs))
    return spread, 0.5 * spread if standardized else 0


def tensor(key, shape):
    """Returns the weight of a name: noise around 0, or around 1 for the scale of a norm."""
    spread, mean = _spread_and_mean(key, shape)
    return _noise(key).standard_normal(shape, dtype=np.float32) * np.float32(spread) + np.float32(mean)


def made_images(height, width):
    """Returns noise, and an image of shapes without any symmetry, (2, height, width, 3) from -1 to 1."""
    noise = _noise(f"image:{height}x{width}:0").random((height, width, 3), dtype=np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    v, u = (y + 0.5) / height, (x + 0.5) / width
    drawn = np.stack([2 * u - 1, 1 - 2 * v, 3 * (u - 0.5) * (v - 0.5) + (u - 0.5) ** 2], -1)
    drawn[(u - 0.30) ** 2 + (v - 0.35) ** 2 < 0.04] = 0.9, -0.6, 0.2
    drawn[(u > 0.55) & (u < 0.9) & (v > 0.15) & (v < 0.4)] = -0.8, 0.3, 0.7
    drawn[(v > 0.6) & (v < 0.95) & (u > 0.1) & (u < 0.1 + (v - 0.6))] = 0.1, 0.8, -0.9
    drawn[(u > 0.6) & (v > 0.6) & ((x // 8 + y // 8) % 2 == 0)] *= -1
    return np.stack([noise * np.float32(2) - np.float32(1), drawn.astype(np.float32)])


def shapes(rows=32, columns=32, channels=3, pooling="token", classes=10, representation_size=None, include_top=True):
    """Returns {name: shape} of a checkpoint as the official code writes it."""
    width, heads, p = HIDDEN_SIZE, NUM_HEADS, PATCH_SIZE
    patches, head_dim = (rows // p) * (columns // p), width // heads
    result = {
        "embedding/kernel": (p, p, channels, width),
        "embedding/bias": (width,),
        "Transformer/posembed_input/pos_embedding": (1, patches + (pooling == "token"), width),
        "Transformer/encoder_norm/scale": (width,),
        "Transformer/encoder_norm/bias": (width,),
    }
    if pooling == "token":
        result["cls"] = (1, 1, width)
    for i in range(NUM_LAYERS):
        block = f"Transformer/encoderblock_{i}"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            result |= {f"{block}/{norm}/scale": (width,), f"{block}/{norm}/bias": (width,)}
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            result[f"{attention}/{part}/kernel"] = (width, heads, head_dim)
            result[f"{attention}/{part}/bias"] = (heads, head_dim)
        result |= {f"{attention}/out/kernel": (heads, head_dim, width), f"{attention}/out/bias": (width,)}
        for dense, sizes in (("Dense_0", (width, MLP_DIM)), ("Dense_1", (MLP_DIM, width))):
            result |= {f"{block}/MlpBlock_3/{dense}/kernel": sizes, f"{block}/MlpBlock_3/{dense}/bias": sizes[1:]}
    if representation_size:
        result |= {"pre_logits/kernel": (width, representation_size), "pre_logits/bias": (representation_size,)}
    if include_top:
        result |= {"head/kernel": (representation_size or width, classes), "head/bias": (classes,)}
    return result


def checkpoint(**kwargs):
    """Returns {name: array} of a checkpoint; for the arguments see `shapes`."""
    return {name: tensor(name, shape) for name, shape in shapes(**kwargs).items()}


def numbers(prefix):
    """Returns the stored arrays whose name begins with a case or another word, {rest of the name: array}."""
    with np.load(pathlib.Path(__file__).with_suffix(".npz")) as file:
        return {key.removeprefix(f"{prefix}/"): file[key] for key in file.files if key.startswith(f"{prefix}/")}


def parse(line):
    """Returns the name and the shape of a line as of "files/CASE"."""
    name, *shape = str(line).split()
    return name, tuple(map(int, shape))


def file_shapes(case):
    """Returns {name: shape} of the checkpoint of a case, in the file's order."""
    return dict(map(parse, numbers("files")[CASES[case].file or case]))


def arrays(case):
    """Returns {name: array} of the checkpoint of a case."""
    return {name: tensor(name, shape) for name, shape in file_shapes(case).items()}


def write(case, folder):
    """Writes the checkpoint of a case, with its config.json where it has one, and returns its path."""
    from safetensors.numpy import save_file

    case = CASES[case].file or case
    folder = pathlib.Path(folder, case)
    folder.mkdir(exist_ok=True)
    if not case.startswith(("hf_", "timm_")):
        np.savez(folder / "checkpoint.npz", **arrays(case))
        return folder / "checkpoint.npz"
    save_file(arrays(case), folder / "model.safetensors")
    if case in (configs := numbers("configs")):
        (folder / "config.json").write_text(str(configs[case]))
    return folder / "model.safetensors"


def middle(model):
    """Returns {tensor: Keras tensor} of what the references know of a model, its output as "logits"."""
    import keras

    layers = {layer.name: layer for layer in model.layers}
    result = {"logits": model.output}
    for name in ("stem", "stem_pool", *(name for name in layers if "_unit" in name)):
        if name in layers:
            corners = layers[name].output[:, 0, 0], layers[name].output[:, -1, -1]
            stage = name.split("_unit")[0]  # its last unit stays
            result |= {f"{stage}_first": corners[0], f"{stage}_last": corners[1]}
    if "encoder" in layers:
        blocks = [layers[name] for name in layers if name.startswith("block_")]
        embedding = layers["encoder"].projection(layers["patches"].output)
        result |= {"embedding_first": embedding[:, 0], "embedding_last": embedding[:, -1]}
        for name, layer in (("encoder", layers["encoder"]), ("block0", blocks[0]), ("encoder_norm", layers["norm"])):
            result |= {f"{name}_token{i}": layer.output[:, i] for i in (0, 1)}
        result["last_block_token0"] = blocks[-1].output[:, 0]
        result["encoder_norm_last_token"] = layers["norm"].output[:, -1]
        result["pooled"] = keras.ops.mean(layers["norm"].output, axis=1)
    own = (("pooled", "pooling"), ("pre_logits", "pre_logits"))
    return result | {name: layers[layer].output for name, layer in own if layer in layers}


def load(case, path):
    """Loads the checkpoint of a case and returns {tensor: array}."""
    import keras

    import keras_vit
    from keras_vit.analysis.attention import attention_maps

    model = keras_vit.load(path, classifier_activation=None, **CASES[case].load)
    reference = numbers(case)
    wanted = {name: one for name, one in middle(model).items() if name in reference}
    result = keras.Model(model.input, wanted)(images(case))
    if "attentions" in reference:
        result["attentions"] = np.stack(list(attention_maps(model, images(case))))
    return {name: keras.ops.convert_to_numpy(array) for name, array in result.items()}


def build(case, path):
    """Builds the model of a case from its checkpoint, with the exact GELU where the reference knows it.

    Returns:
        {"logits": array} or {"logits_gelu_erf": array}.
    """
    import keras

    import keras_vit

    about = CASES[case]
    name, gelu = ("logits_gelu_erf", "erf") if "logits_gelu_erf" in numbers(case) else ("logits", None)
    arguments = {"input_shape": (*about.size, 3), "classifier_activation": None, "gelu": gelu, **about.build}
    model = keras_vit.build(about.row, weights=path, **arguments)
    return {name: keras.ops.convert_to_numpy(model(images(case)))}


def images(case):
    return made_images(*CASES[case].size) * np.float32(CASES[case].light)


def differences(case, found):
    """Returns {tensor: largest difference from the reference} of some tensors of a case.

    It is absolute, and where the numbers of a tensor on the way go beyond 1, relative to the largest: nothing
    normalizes the maps of a BiT.
    """
    reference, different = numbers(case), {}
    for name, array in found.items():
        expected, inside = reference[name], not name.startswith("logits")
        if inside:
            array = array[..., : expected.shape[-1]]
        if array.shape != expected.shape:
            raise ValueError(f"{case}: {name} is {array.shape}, the reference {expected.shape}")
        different[name] = float(np.abs(array - expected).max() / (max(1, np.abs(expected).max()) if inside else 1))
    return different


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = {case: differences(case, load(case, write(case, folder))) for case in sys.argv[1:] or CASES}
    import keras

    imported = [name for name in ("tensorflow", "jax") if name in sys.modules]
    print(json.dumps({"backend": keras.backend.backend(), "imported": imported, "differences": found}))
