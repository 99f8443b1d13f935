"""What holds for any arrays and any small architecture: what is written is read, to the bit."""

import dataclasses
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import save_file

from keras_vit.models.config import Numerics, Variant
from keras_vit.weights.architecture import Architecture, detect_architecture
from keras_vit.weights.formats import open_checkpoint_file
from keras_vit.weights.load import read_weights
from keras_vit.weights.names import format_column
from keras_vit.weights.readers import open_arrays
from keras_vit.weights.save import find_unsupported, write_checkpoint

FEW = settings(max_examples=30, deadline=None, derandomize=True, database=None)

NAMES = st.lists(
    st.from_regex(r"[a-z]{1,6}(/[a-z]{1,6})?_[0-9]{1,3}", fullmatch=True), min_size=1, max_size=5, unique=True
)
TYPES = st.sampled_from(["<f2", "<f4", "<f8", "i1", "u1", "<i2", "<i4", "<u4", "<i8"])


@st.composite
def plain_arrays(draw):
    """Draws {name: array of finite numbers that float32 can hold}."""
    result = {}
    for name in draw(NAMES):
        dtype = np.dtype(draw(TYPES))
        shape = draw(arrays_of.array_shapes(min_dims=0, max_dims=4, max_side=5))
        numbers = {"min_value": -(2.0**15), "max_value": 2.0**15, "width": min(32, 8 * dtype.itemsize)}
        elements = st.floats(**numbers) if dtype.kind == "f" else None
        result[name] = draw(arrays_of.arrays(dtype, shape, elements=elements))
    return result


def write_h5(arrays, path):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


WRITERS = {
    ".npz": lambda arrays, path: np.savez(path, **arrays),
    ".safetensors": save_file,
    ".h5": write_h5,
}


@pytest.mark.parametrize("ending", WRITERS)
@FEW
@given(arrays=plain_arrays(), data=st.data())
def test_any_plain_arrays_are_read_as_they_were_written(ending, arrays, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"arrays{ending}"
        WRITERS[ending](arrays, path)
        with open_arrays(path) as file:
            assert file.shapes == {name: array.shape for name, array in arrays.items()}
            for name, array in arrays.items():
                found = file.read(name)
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, array.astype(np.float32))
                if array.ndim:
                    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(array))] * 2)))
                    np.testing.assert_array_equal(file.read(name, (start, stop)), found[start:stop])


@st.composite
def small_models(draw):
    """Draws (architecture, epsilons and GELU, format) of a transformer that the format can hold."""
    heads = draw(st.integers(1, 3))
    size = draw(st.integers(1, 4))
    options = {
        "pooling": draw(st.sampled_from(["token", "gap"])),
        "layer_scale": draw(st.sampled_from([None, 1e-5])),
        "register_tokens": draw(st.sampled_from([0, 0, 2])),
    }
    if options["pooling"] == "gap":
        options["register_tokens"] = 0
    row = Variant(size, 4 * heads, draw(st.integers(1, 3)), heads, draw(st.integers(1, 9)), **options)
    classes = draw(st.one_of(st.none(), st.integers(1, 5)))
    representation = draw(st.sampled_from([None, None, 3])) if classes else None
    side = size * draw(st.integers(2, 4))
    model = Architecture(row, None, draw(st.sampled_from([1, 3])), classes, representation, (side, side))
    format = draw(st.sampled_from(["npz", "hf", "timm"]))
    numerics = Numerics(draw(st.sampled_from(["erf", "tanh"])), draw(st.sampled_from([1e-6, 1e-12])))
    return model, numerics, format


def shapes_of(model):
    """Returns {our path: shape} of a plain transformer, written down a second time."""
    row, (height, width) = model.variant, model.image_size
    h, patches = row.hidden_size, height * width // row.patch_size**2
    token = row.pooling == "token"
    dense = {
        **{f"attention/{name}": (h, h) for name in ("query", "key", "value", "out")},
        "mlp/hidden": (h, row.mlp_dim),
        "mlp/out": (row.mlp_dim, h),
    }
    layers = {"encoder/projection": (row.patch_size**2 * model.channels, h)}
    norms, result = ["norm"], {"encoder/position_embedding": (1, patches + token, h)}
    for i in range(row.num_layers):
        layers |= {f"block_{i:02d}/{name}": shape for name, shape in dense.items()}
        norms += [f"block_{i:02d}/attention_norm", f"block_{i:02d}/mlp_norm"]
        if row.layer_scale is not None:
            result |= {f"block_{i:02d}/{name}_scale/gamma": (h,) for name in ("attention", "mlp")}
    if token:
        result["encoder/class_token"] = 1, 1, h
    if row.register_tokens:
        result["encoder/register_tokens"] = 1, row.register_tokens, h
    if model.representation_size:
        layers["pre_logits"] = h, model.representation_size
    if model.classes:
        layers["head"] = model.representation_size or h, model.classes
    for name, shape in layers.items():
        result |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
    return result | {f"{name}/{end}": (h,) for name in norms for end in ("gamma", "beta")}


@settings(FEW, max_examples=60)
@given(drawn=small_models())
def test_any_small_model_comes_back_from_every_format_that_holds_it(drawn):
    model, numerics, format = drawn
    shapes = shapes_of(model)
    assume(not find_unsupported(format, shapes, model))
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    if format == "timm" and model.variant.register_tokens:
        arrays["encoder/position_embedding"][:, :1] = 0  # these files have no position for the class token
    pixels = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "crop": None, "keep_aspect": False}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("model.npz" if format == "npz" else "model")
        write_checkpoint(path, format, arrays, model, numerics, pixels)
        with open_checkpoint_file(path) as file:
            found = detect_architecture(file, model.variant.num_heads)
            grid = model.variant.grid(*model.image_size)
            weights = dict(read_weights(file, shapes, found.variant, grid=grid))
    assert dataclasses.replace(found, name=None) == model
    assert weights.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)


@pytest.mark.parametrize("format", ["npz", "hf", "timm"])
def test_no_two_weights_have_one_name(format):
    cells = format_column(format, 12)
    names = [(cell.name, cell.part) for path, cell in cells.items() if not path.startswith("projection/")]
    assert len(set(names)) == len(names)
