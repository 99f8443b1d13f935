"""Reference numbers for seven tiny Vision Transformers: the weights and pictures from a seed, the outputs from a file.

The outputs in oracle.npz are those of the official implementation (vit_jax of google-research/vision_transformer, in
Flax at the highest matmul precision), with its own GELU (tanh); "logits_gelu_erf" are the same weights with the exact
GELU. Positions that were resized are SciPy's, as in the official checkpoint.py and, for a grid that is no square,
vit-keras. No weight is left at 0 or 1, so that one that is dropped or swapped shows.

Run as a script, prints the differences of every case on the backend that KERAS_BACKEND names.
"""

import hashlib
import json
import os
import pathlib
import sys
import tempfile

import numpy as np

SEED = 20240607

# Absolute, in float32. Correct implementations differ by up to 5e-6 here, from the order of their sums; the smallest
# mistake that was tried, the other form of GELU, moves the logits by 2.4e-4 and more.
LOGITS_ATOL, FEATURES_ATOL = 1e-4, 2e-4

PATCH_SIZE, HIDDEN_SIZE, NUM_LAYERS, NUM_HEADS, MLP_DIM = SIZES = 8, 32, 3, 4, 48

# case: (rows, columns), arguments of keras_vit.build, (rows, columns) that the checkpoint was made for
CASES = {
    "token_32": ((32, 32), {"classes": 10}, (32, 32)),
    "token_48x24": ((48, 24), {"classes": 10}, (48, 24)),
    "token_32_at_64x40": ((64, 40), {"classes": 10}, (32, 32)),
    "rep_32": ((32, 32), {"classes": 10, "representation_size": 20}, (32, 32)),
    "headless_32": ((32, 32), {"include_top": False, "pooling": "token"}, (32, 32)),
    "gap_32": ((32, 32), {"classes": 10, "pooling": "gap"}, (32, 32)),
    "unpooled_32": ((32, 32), {"classes": 10, "pooling": "none"}, (32, 32)),
}


def _noise(key):
    seed = hashlib.sha256(f"{key}|{SEED}".encode()).digest()[:8]
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))


def tensor(key, shape):
    """Returns the weight of a name: noise around 0, or around 1 for the scale of a norm."""
    parent, leaf = f"/{key}".split("/")[-2:]
    offset, scale = {"scale": (1, 0.1), "bias": (0, 0.02), "cls": (0, 0.02), "pos_embedding": (0, 0.02)}.get(
        leaf, (0, np.prod(shape[: 1 if parent in ("query", "key", "value") else -1]) ** -0.5)
    )
    noise = _noise(key).standard_normal(shape, dtype=np.float32)
    return noise * np.float32(scale) + np.float32(offset)


def pictures(rows, columns):
    """Returns noise, and a picture of shapes without any symmetry, (2, rows, columns, 3) from -1 to 1."""
    noise = _noise(f"image:{rows}x{columns}:0").random((rows, columns, 3), dtype=np.float32)
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    v, u = (y + 0.5) / rows, (x + 0.5) / columns
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
    found = {
        "embedding/kernel": (p, p, channels, width),
        "embedding/bias": (width,),
        "Transformer/posembed_input/pos_embedding": (1, patches + (pooling == "token"), width),
        "Transformer/encoder_norm/scale": (width,),
        "Transformer/encoder_norm/bias": (width,),
    }
    if pooling == "token":
        found["cls"] = (1, 1, width)
    for i in range(NUM_LAYERS):
        block = f"Transformer/encoderblock_{i}"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            found |= {f"{block}/{norm}/scale": (width,), f"{block}/{norm}/bias": (width,)}
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            found[f"{attention}/{part}/kernel"] = (width, heads, head_dim)
            found[f"{attention}/{part}/bias"] = (heads, head_dim)
        found |= {f"{attention}/out/kernel": (heads, head_dim, width), f"{attention}/out/bias": (width,)}
        for dense, sizes in (("Dense_0", (width, MLP_DIM)), ("Dense_1", (MLP_DIM, width))):
            found |= {f"{block}/MlpBlock_3/{dense}/kernel": sizes, f"{block}/MlpBlock_3/{dense}/bias": sizes[1:]}
    if representation_size:
        found |= {"pre_logits/kernel": (width, representation_size), "pre_logits/bias": (representation_size,)}
    if include_top:
        found |= {"head/kernel": (representation_size or width, classes), "head/bias": (classes,)}
    return found


def checkpoint(**kwargs):
    """Returns {name: array} of a checkpoint; for the arguments see `shapes`."""
    return {name: tensor(name, shape) for name, shape in shapes(**kwargs).items()}


def numbers(prefix):
    """Returns the stored arrays whose name begins with a case, {tensor: array}."""
    with np.load(pathlib.Path(__file__).with_suffix(".npz")) as file:
        return {key.removeprefix(f"{prefix}/"): file[key] for key in file.files if key.startswith(f"{prefix}/")}


def outputs(case, gelu, path):
    """Builds the model of a case, loads its checkpoint (written to `path`) and returns {tensor: array}."""
    import keras

    import keras_vit

    (rows, columns), arguments, (file_rows, file_columns) = CASES[case]
    np.savez(path, **checkpoint(rows=file_rows, columns=file_columns, **arguments))
    model = keras_vit.build(
        keras_vit.Variant(*SIZES),
        weights=path,
        input_shape=(rows, columns, 3),
        classifier_activation=None,
        gelu=gelu,
        **arguments,
    )
    layer = model.get_layer
    embeddings = layer("encoder").projection(layer("patches").output)
    first, last, norm = (layer(name).output for name in ("block_00", f"block_{NUM_LAYERS - 1:02d}", "norm"))
    names = [layer.name for layer in model.layers]
    tensors = {
        "embedding_first": embeddings[:, 0],
        "embedding_last": embeddings[:, -1],
        "block0_token0": first[:, 0],
        "block0_token1": first[:, 1],
        "last_block_token0": last[:, 0],
        "encoder_norm_last_token": norm[:, -1],
        "pooled": layer("pooling").output if "pooling" in names else keras.ops.mean(norm, axis=1),
        "logits": model.output,
    }
    if "pre_logits" in names:
        tensors["pre_logits"] = layer("pre_logits").output
    values = keras.Model(model.input, list(tensors.values()))(pictures(rows, columns))
    return {name: keras.ops.convert_to_numpy(value) for name, value in zip(tensors, values)}


def differences(case, path):
    """Returns {tensor: largest absolute difference from the reference} of a case."""
    found, reference = outputs(case, "tanh", path), numbers(case)
    if "logits_gelu_erf" in reference:
        found["logits_gelu_erf"] = outputs(case, "erf", path)["logits"]
    different = {name: found[name].shape for name in reference if found[name].shape != reference[name].shape}
    if different:
        raise ValueError(f"{case}: other shapes than the reference's: {different}")
    return {name: float(np.abs(found[name] - array).max()) for name, array in reference.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = {case: differences(case, os.path.join(folder, "checkpoint.npz")) for case in CASES}
    import keras

    imported = [name for name in ("tensorflow", "jax") if name in sys.modules]
    print(json.dumps({"backend": keras.backend.backend(), "imported": imported, "differences": found}))
