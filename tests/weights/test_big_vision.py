"""big_vision's files, against a forward pass of its own in NumPy: from the description of its code, not from ours."""

import logging
import zipfile

import numpy as np
import pytest
from scipy import ndimage

import keras_vit

PATCH, WIDTH, LAYERS, HEADS, MLP_DIM, CLASSES = 5, 12, 2, 3, 19, 7
SIDE = 3 * PATCH
ATOL = 1e-5  # float32 against float64


def checkpoint(pooling, representation_size=None):
    """Returns {name: array} with big_vision's names, no weight at 0 or 1."""
    dense = {"kernel": (WIDTH, MLP_DIM), "bias": (MLP_DIM,)}
    shapes = {f"MlpBlock_0/Dense_0/{name}": shape for name, shape in dense.items()}
    shapes |= {
        f"MlpBlock_0/Dense_1/{name}": shape for name, shape in {"kernel": (MLP_DIM, WIDTH), "bias": (WIDTH,)}.items()
    }
    for part in ("query", "key", "value"):
        shapes[f"MultiHeadDotProductAttention_0/{part}/kernel"] = WIDTH, HEADS, WIDTH // HEADS
        shapes[f"MultiHeadDotProductAttention_0/{part}/bias"] = HEADS, WIDTH // HEADS
    shapes["MultiHeadDotProductAttention_0/out/kernel"] = HEADS, WIDTH // HEADS, WIDTH
    shapes["MultiHeadDotProductAttention_0/out/bias"] = (WIDTH,)
    norm = {"scale": (WIDTH,), "bias": (WIDTH,)}
    block = shapes | {f"LayerNorm_{i}/{name}": shape for i in (0, 1) for name, shape in norm.items()}
    result = {"embedding/kernel": (PATCH, PATCH, 3, WIDTH), "embedding/bias": (WIDTH,), "pos_embedding": (1, 9, WIDTH)}
    result |= {f"Transformer/encoderblock_{i}/{name}": shape for i in range(LAYERS) for name, shape in block.items()}
    result |= {f"Transformer/encoder_norm/{name}": shape for name, shape in norm.items()}
    if pooling == "token":
        result["cls"] = 1, 1, WIDTH
    if pooling == "map":
        result |= {f"MAPHead_0/{name}": shape for name, shape in shapes.items()} | {"MAPHead_0/probe": (1, 1, WIDTH)}
        result |= {f"MAPHead_0/LayerNorm_0/{name}": shape for name, shape in norm.items()}
    if representation_size:
        result |= {"pre_logits/kernel": (WIDTH, representation_size), "pre_logits/bias": (representation_size,)}
    result |= {"head/kernel": (representation_size or WIDTH, CLASSES), "head/bias": (CLASSES,)}
    rng = np.random.default_rng(0)
    return {name: rng.normal(name.endswith("scale"), 0.3, shape).astype(np.float32) for name, shape in result.items()}


def made_images(rows=SIDE, columns=SIDE):
    return np.random.default_rng(1).uniform(-1, 1, (2, rows, columns, 3)).astype(np.float32)


def forward(arrays, images):
    """Returns the logits in float64."""
    arrays = {name: array.astype(np.float64) for name, array in arrays.items()}

    def within(name):
        return {key.removeprefix(name): array for key, array in arrays.items() if key.startswith(name)}

    batch, rows, columns, _ = images.shape
    grid = rows // PATCH, columns // PATCH
    patches = images.reshape(batch, grid[0], PATCH, grid[1], PATCH, 3)
    x = np.einsum("brpcqi,pqio->brco", patches, arrays["embedding/kernel"]) + arrays["embedding/bias"]
    positions = arrays["pos_embedding"].reshape(3, 3, WIDTH)
    x = x + ndimage.zoom(positions, (grid[0] / 3, grid[1] / 3, 1), order=1)
    x = x.reshape(batch, -1, WIDTH)
    if "cls" in arrays:  # after the positions: the class token has none
        x = np.concatenate([np.tile(arrays["cls"], (batch, 1, 1)), x], axis=1)
    for i in range(LAYERS):
        block = within(f"Transformer/encoderblock_{i}/")
        y = norm(x, block, "LayerNorm_0/")
        x = x + attention(y, y, block)
        x = x + mlp(norm(x, block, "LayerNorm_1/"), block)
    x = norm(x, arrays, "Transformer/encoder_norm/")
    if "cls" in arrays:
        x = x[:, 0]
    elif "MAPHead_0/probe" in arrays:
        head = within("MAPHead_0/")
        x = attention(np.tile(head["probe"], (batch, 1, 1)), x, head)
        x = (x + mlp(norm(x, head, "LayerNorm_0/"), head))[:, 0]
    else:
        x = x.mean(axis=1)
    if "pre_logits/kernel" in arrays:
        x = np.tanh(x @ arrays["pre_logits/kernel"] + arrays["pre_logits/bias"])
    return x @ arrays["head/kernel"] + arrays["head/bias"]


def norm(x, weights, name):
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    return x * weights[f"{name}scale"] + weights[f"{name}bias"]


def attention(queries, tokens, weights):
    def heads(part, x):
        name = f"MultiHeadDotProductAttention_0/{part}"
        return np.einsum("btd,dhe->bhte", x, weights[f"{name}/kernel"]) + weights[f"{name}/bias"][:, None]

    q, k, v = heads("query", queries), heads("key", tokens), heads("value", tokens)
    scores = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(WIDTH // HEADS))
    gathered = scores / scores.sum(axis=-1, keepdims=True) @ v
    name = "MultiHeadDotProductAttention_0/out"
    return np.einsum("bhte,hed->btd", gathered, weights[f"{name}/kernel"]) + weights[f"{name}/bias"]


def mlp(x, weights):
    x = x @ weights["MlpBlock_0/Dense_0/kernel"] + weights["MlpBlock_0/Dense_0/bias"]
    x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x @ weights["MlpBlock_0/Dense_1/kernel"] + weights["MlpBlock_0/Dense_1/bias"]


def stacked(arrays):
    """Returns the arrays as a scanned model has them: one of all blocks, its first axis theirs."""
    names = {name for name in arrays if name.startswith("Transformer/encoderblock_")}
    result = {name: array for name, array in arrays.items() if name not in names}
    for name in (name for name in names if "encoderblock_0/" in name):
        blocks = [arrays[name.replace("encoderblock_0", f"encoderblock_{i}")] for i in range(LAYERS)]
        result[name.replace("encoderblock_0", "encoderblock")] = np.stack(blocks)
    return result


def prefixed(arrays, prefix):
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def logits(path, images=None, **arguments):
    model = keras_vit.load(path, classifier_activation=None, **arguments)
    return np.asarray(model(made_images() if images is None else images))


@pytest.mark.parametrize("form", [lambda arrays: arrays, stacked], ids=["numbered", "stacked"])
@pytest.mark.parametrize("pooling", ["token", "gap", "map"])
def test_every_pooling_in_both_forms(save, pooling, form):
    arrays = checkpoint(pooling)
    path = save(prefixed(form(arrays), "params/"))
    np.testing.assert_allclose(logits(path), forward(arrays, made_images()), rtol=0, atol=ATOL)


def test_the_numpy_pass_tells_the_poolings_apart():
    arrays = checkpoint("map")
    without = {name: array for name, array in arrays.items() if not name.startswith("MAPHead_0")}
    assert np.abs(forward(arrays, made_images()) - forward(without, made_images())).max() > 0.1
    moved = {**checkpoint("token"), "pos_embedding": np.roll(arrays["pos_embedding"], 1, axis=1)}
    assert np.abs(forward(checkpoint("token"), made_images()) - forward(moved, made_images())).max() > 0.01


@pytest.mark.parametrize("pooling", ["token", "map"])
def test_at_another_size(save, pooling):
    arrays, images = checkpoint(pooling), made_images(4 * PATCH, 6 * PATCH)
    result = logits(save(prefixed(arrays, "params/")), images, input_shape=images.shape[1:])
    np.testing.assert_allclose(result, forward(arrays, images), rtol=0, atol=ATOL)


def test_the_layer_that_the_head_reads(save):
    arrays = checkpoint("gap", representation_size=11)
    np.testing.assert_allclose(logits(save(arrays)), forward(arrays, made_images()), rtol=0, atol=ATOL)


def test_the_class_token_has_no_position(save):
    encoder = keras_vit.load(save(prefixed(checkpoint("token"), "params/"))).get_layer("encoder")
    positions = np.asarray(encoder.position_embedding)
    assert not positions[:, 0].any()
    np.testing.assert_array_equal(positions[:, 1:], checkpoint("token")["pos_embedding"])


def test_bfloat16_that_numpy_takes_for_two_bytes_of_nothing(save):
    """NumPy writes what it has no name for as void, and a bfloat16 is the upper half of a float32."""
    halves = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in checkpoint("map").items()}
    path = save({name: half.view("V2") for name, half in halves.items()})
    with zipfile.ZipFile(path) as file:
        assert b"'descr': '|V2'" in file.read("head/kernel.npy")
    arrays = {name: (half.astype(np.uint32) << 16).view(np.float32) for name, half in halves.items()}
    np.testing.assert_allclose(logits(path), forward(arrays, made_images()), rtol=0, atol=ATOL)


def test_of_two_towers_the_images_is_read(save, caplog):
    arrays = checkpoint("map")
    text = {"params/txt/Embed_0/embedding": np.ones((5, 4), np.float32), "params/t": np.ones(1, np.float32)}
    text["params/txt/Encoder_0/encoderblock_0/MlpBlock_0/Dense_0/kernel"] = np.ones((4, 4), np.float32)
    with caplog.at_level(logging.INFO, "keras_vit"):
        result = logits(save(prefixed(arrays, "params/img/") | text))
    np.testing.assert_allclose(result, forward(arrays, made_images()), rtol=0, atol=ATOL)
    assert [line for line in caplog.messages if "left out params/t, params/txt/Embed_0/embedding" in line]


def test_without_a_head_the_pooled_comes_out(save):
    arrays = checkpoint("map")
    features = {name: array for name, array in arrays.items() if not name.startswith("head/")}
    reference = forward({**arrays, "head/kernel": np.eye(WIDTH), "head/bias": np.zeros(WIDTH)}, made_images())
    np.testing.assert_allclose(logits(save(features)), reference, rtol=0, atol=ATOL)


def test_a_stacked_file_that_lacks_a_weight_names_it_once(save):
    arrays = stacked(checkpoint("gap"))
    del arrays["Transformer/encoderblock/LayerNorm_1/bias"]
    with pytest.raises(ValueError, match=r"missing: .*_\*/LayerNorm_1/bias \(12,\).*in 2 blocks") as error:
        keras_vit.load(save(arrays))
    assert len(str(error.value).splitlines()) == 2
