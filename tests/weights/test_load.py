"""A checkpoint loads whole, into the right places, or nothing happens and the message says all that is wrong."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.weights import open as checkpoint


@pytest.fixture
def variant(oracle):
    return keras_vit.Variant(*oracle.SIZES)


@pytest.fixture
def build(variant):
    def build(weights=None, variant=variant, **arguments):
        classes = 10 if arguments.get("include_top", True) else None
        arguments = {"input_shape": (32, 32, 3), "classes": classes, "classifier_activation": None, **arguments}
        return keras_vit.build(variant, weights=weights, **arguments)

    return build


def values(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


@pytest.mark.parametrize(
    "arguments", [{}, {"representation_size": 20}, {"pooling": "gap"}, {"include_top": False, "pooling": "token"}]
)
def test_every_number_of_the_file_arrives_once(oracle, save, build, arguments):
    arrays, start = {}, 0
    for name, shape in oracle.shapes(**arguments).items():
        size = int(np.prod(shape))
        arrays[name] = np.arange(start, start + size, dtype=np.float32).reshape(shape)
        start += size
    loaded = values(build(save(arrays), **arguments))
    assert sum(array.size for array in loaded.values()) == start
    np.testing.assert_array_equal(
        np.sort(np.concatenate([array.ravel() for array in loaded.values()])), np.arange(start, dtype=np.float32)
    )


def test_every_array_arrives_in_its_place(oracle, save, build):
    arrays = oracle.checkpoint(representation_size=20)
    result = values(build(save(arrays), representation_size=20))
    width, p = oracle.HIDDEN_SIZE, oracle.PATCH_SIZE

    # A patch is flattened row by row, pixel by pixel, its colours together.
    kernel = result.pop("encoder/projection/kernel")
    for row, column, channel in ((0, 0, 0), (0, 1, 2), (5, 3, 1), (p - 1, p - 1, 2)):
        place = (row * p + column) * 3 + channel
        np.testing.assert_array_equal(kernel[place], arrays["embedding/kernel"][row, column, channel])
    # Heads lie one after another.
    for i in range(oracle.NUM_LAYERS):
        ours, theirs = f"block_{i:02d}/attention", f"Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            by_head = np.concatenate([arrays[f"{theirs}/{part}/kernel"][:, head] for head in range(4)], axis=-1)
            np.testing.assert_array_equal(result.pop(f"{ours}/{part}/kernel"), by_head)
            np.testing.assert_array_equal(result.pop(f"{ours}/{part}/bias"), arrays[f"{theirs}/{part}/bias"].ravel())
        by_head = np.concatenate([arrays[f"{theirs}/out/kernel"][head] for head in range(4)])
        np.testing.assert_array_equal(result.pop(f"{ours}/out/kernel"), by_head)
        np.testing.assert_array_equal(result.pop(f"{ours}/out/bias"), arrays[f"{theirs}/out/bias"])
    # The others as they are.
    expected = {
        "encoder/class_token": arrays["cls"],
        "encoder/position_embedding": arrays["Transformer/posembed_input/pos_embedding"],
        "encoder/projection/bias": arrays["embedding/bias"],
        "norm/gamma": arrays["Transformer/encoder_norm/scale"],
        "norm/beta": arrays["Transformer/encoder_norm/bias"],
        **{
            f"{layer}/{name}": arrays[f"{layer}/{name}"]
            for layer in ("pre_logits", "head")
            for name in ("kernel", "bias")
        },
    }
    for i in range(oracle.NUM_LAYERS):
        block = f"Transformer/encoderblock_{i}"
        for norm, theirs in (("attention_norm", "LayerNorm_0"), ("mlp_norm", "LayerNorm_2")):
            expected[f"block_{i:02d}/{norm}/gamma"] = arrays[f"{block}/{theirs}/scale"]
            expected[f"block_{i:02d}/{norm}/beta"] = arrays[f"{block}/{theirs}/bias"]
        for dense, theirs in (("hidden", "Dense_0"), ("out", "Dense_1")):
            for name in ("kernel", "bias"):
                expected[f"block_{i:02d}/mlp/{dense}/{name}"] = arrays[f"{block}/MlpBlock_3/{theirs}/{name}"]
    assert kernel.shape == (p * p * 3, width)
    assert_equal(result, expected)


def test_missing_unused_and_misfitting_arrays_stand_in_one_message_by_name(oracle, save, build):
    arrays = oracle.checkpoint()
    del arrays["cls"], arrays["Transformer/encoderblock_2/MlpBlock_3/Dense_1/bias"]
    arrays["Transformer/encoder_norm/scale"] = np.ones(31, np.float32)
    arrays["embedding/bias"] = np.ones((1, 32), np.float32)  # as many numbers, but another shape
    arrays["extra/kernel"] = np.ones((2, 3), np.float32)
    arrays["Transformer/encoderblock_3/LayerNorm_0/bias"] = np.ones(32, np.float32)
    with pytest.raises(ValueError) as error:
        build(save(arrays))
    lines = str(error.value).splitlines()
    assert "checkpoint.npz" in lines[0]
    assert sorted(lines[1:]) == [
        "  misfit:  Transformer/encoder_norm/scale (31,), expected (32,) for norm/gamma",
        "  misfit:  embedding/bias (1, 32), expected (32,) for encoder/projection/bias",
        "  missing: Transformer/encoderblock_2/MlpBlock_3/Dense_1/bias (32,), for block_02/mlp/out/bias",
        "  missing: cls (1, 1, 32), for encoder/class_token",
        "  unused:  Transformer/encoderblock_3/LayerNorm_0/bias (32,)",
        "  unused:  extra/kernel (2, 3)",
    ]


@pytest.mark.parametrize("fault", ["missing", "unused", "misfit", "nan"])
def test_a_load_that_fails_leaves_the_model_as_it_was(oracle, save, build, fault):
    model = build()
    before = values(model)
    arrays = oracle.checkpoint()
    if fault == "missing":
        del arrays["head/bias"]
    elif fault == "unused":
        arrays["extra"] = np.ones(1, np.float32)
    elif fault == "misfit":
        arrays["head/bias"] = arrays["head/bias"][:-1]
    else:
        arrays["head/bias"][-1] = np.nan  # found only when the array is read
    with pytest.raises(ValueError, match="head/bias|extra"):
        keras_vit.load_weights(model, save(arrays))
    assert_equal(values(model), before)


def test_the_head_is_kept_where_the_classes_match(oracle, save, build):
    arrays = oracle.checkpoint()
    np.testing.assert_array_equal(values(build(save(arrays)))["head/kernel"], arrays["head/kernel"])


def test_another_number_of_classes_raises_and_says_what_to_do(oracle, save, build):
    with pytest.raises(ValueError, match="misfit:  head/kernel(?s:.*)head of 10 classes: pass new_head=True"):
        build(save(oracle.checkpoint()), classes=7)


@pytest.mark.parametrize("classes", [7, 10])
def test_a_new_head_starts_at_zero_below_the_loaded_rest(oracle, save, build, classes):
    arrays = oracle.checkpoint()
    result = values(build(save(arrays), classes=classes, new_head=True))
    assert not result["head/kernel"].any()
    assert not result["head/bias"].any()
    assert result["head/kernel"].shape == (32, classes)
    np.testing.assert_array_equal(result["encoder/class_token"], arrays["cls"])


def test_a_new_head_on_a_file_without_one(oracle, save, build):
    result = values(build(save(oracle.checkpoint(include_top=False)), new_head=True))
    assert not result["head/kernel"].any()
    with pytest.raises(ValueError, match="has no head: pass new_head=True"):
        build(save(oracle.checkpoint(include_top=False)))


def test_a_new_head_excuses_no_other_fault(oracle, save, build):
    arrays = oracle.checkpoint()
    del arrays["cls"]
    with pytest.raises(ValueError, match="missing: cls"):
        build(save(arrays), new_head=True)


@pytest.mark.parametrize("pooling", [None, "token"])
@pytest.mark.parametrize("file", [{}, {"representation_size": 20}, {"include_top": False}])
def test_without_a_top_what_only_the_head_reads_is_left_out(oracle, save, build, pooling, file):
    result = values(build(save(oracle.checkpoint(**file)), include_top=False, pooling=pooling))
    assert not [path for path in result if path.startswith(("head", "pre_logits"))]
    np.testing.assert_array_equal(result["norm/beta"], oracle.checkpoint()["Transformer/encoder_norm/bias"])


def test_without_a_top_but_with_the_representation_layer(oracle, save, build):
    arrays = oracle.checkpoint(representation_size=20)
    result = values(build(save(arrays), include_top=False, pooling="token", representation_size=20))
    np.testing.assert_array_equal(result["pre_logits/kernel"], arrays["pre_logits/kernel"])
    assert not [path for path in result if path.startswith("head")]


def test_a_representation_layer_comes_with_the_head_that_reads_it(oracle, save, build):
    arrays = oracle.checkpoint(representation_size=32)
    np.testing.assert_array_equal(values(build(save(arrays)))["pre_logits/kernel"], arrays["pre_logits/kernel"])
    assert "pre_logits/kernel" not in values(build(save(arrays), new_head=True))


def test_a_representation_layer_that_the_file_lacks(oracle, save, build):
    with pytest.raises(ValueError, match=r"missing: pre_logits/kernel \(32, 32\)"):
        build(save(oracle.checkpoint()), representation_size=32)
    assert "pre_logits/kernel" in values(build(save(oracle.checkpoint()), representation_size=32, new_head=True))


def test_attention_pooling_is_in_no_npz_file(oracle, save, build):
    with pytest.raises(ValueError, match="missing: pooling/probe"):
        build(save(oracle.checkpoint(pooling="gap")), pooling="map")


def test_a_representation_layer_that_the_model_lacks_raises_and_says_what_to_do(oracle, save, build):
    with pytest.raises(ValueError, match="unused:  pre_logits/bias(?s:.*)pass representation_size=32"):
        keras_vit.load_weights(build(), save(oracle.checkpoint(representation_size=32)))


@pytest.mark.parametrize("pooling", ["gap", "token"])
def test_the_pooling_is_the_files_where_the_caller_says_none(oracle, save, pooling):
    for row in (keras_vit.Variant(*oracle.SIZES), keras_vit.Variant(*oracle.SIZES, pooling="gap")):
        model = keras_vit.build(row, weights=save(oracle.checkpoint(pooling=pooling)), input_shape=(32, 32, 3))
        assert ("encoder/class_token" in values(model)) == (pooling == "token")


def test_files_of_another_pooling_raise(oracle, save, build):
    with pytest.raises(ValueError, match=r"missing: cls") as error:
        build(save(oracle.checkpoint(pooling="gap")), pooling="token")
    assert r"pos_embedding (1, 16, 32), expected (1, 17, 32)" in str(error.value)
    with pytest.raises(ValueError, match="unused:  cls") as error:
        build(save(oracle.checkpoint()), pooling="gap")
    assert r"pos_embedding (1, 17, 32), expected (1, 16, 32)" in str(error.value)


def test_a_file_of_another_head_count_raises_though_the_width_is_the_same(oracle, save, build):
    with pytest.raises(ValueError, match=r"query/kernel \(32, 4, 8\), expected \(32, 2, 16\)"):
        build(save(oracle.checkpoint()), variant=keras_vit.Variant(8, 32, 3, 2, 48))


def test_a_file_of_another_patch_size_raises_also_where_the_flat_sizes_are_the_same(oracle, save, build):
    arrays = oracle.checkpoint()
    arrays["embedding/kernel"] = np.ones((16, 16, 3, 32), np.float32)  # 16 * 16 * 3 = 8 * 8 * 12
    with pytest.raises(ValueError, match=r"embedding/kernel \(16, 16, 3, 32\), expected \(8, 8, 3, 32\)"):
        keras_vit.load_weights(build(input_shape=(32, 32, 12)), save(arrays), channels="repeat")


@pytest.mark.parametrize("pooling", ["token", "gap"])
def test_positions_are_resized_to_another_grid_and_the_class_tokens_is_kept(oracle, save, build, pooling):
    arrays = oracle.checkpoint(rows=16, columns=16, pooling=pooling)
    table = arrays["Transformer/posembed_input/pos_embedding"]
    result = values(build(save(arrays), input_shape=(24, 40, 3), pooling=pooling))["encoder/position_embedding"]
    own = int(pooling == "token")
    np.testing.assert_array_equal(result[:, :own], table[:, :own])
    grid, corners = result[0, own:].reshape(3, 5, 32), table[0, own:].reshape(2, 2, 32)
    np.testing.assert_allclose(grid[::2, ::4], corners, atol=1e-7)
    np.testing.assert_allclose(grid[1, 2], corners.mean(axis=(0, 1)), atol=1e-7)


def test_positions_of_the_same_number_stay_as_they_are(oracle, save, build):
    arrays = oracle.checkpoint()
    result = values(build(save(arrays), input_shape=(64, 16, 3)))["encoder/position_embedding"]
    np.testing.assert_array_equal(result, arrays["Transformer/posembed_input/pos_embedding"])


def test_positions_of_no_square_that_do_not_fit_raise(oracle, save, build):
    with pytest.raises(ValueError, match=r"pos_embedding \(1, 19, 32\), expected \(1, 17, 32\)"):
        build(save(oracle.checkpoint(rows=48, columns=24)))


def test_load_weights_into_a_model_that_is_trained_on(oracle, save, build):
    model = build()
    arrays = oracle.checkpoint()
    keras_vit.load_weights(keras.Sequential([keras.Input((32, 32, 3)), model]), save(arrays))
    assert_equal(values(model), values(build(save(arrays))))
    keras_vit.load_weights(model, save(oracle.checkpoint(classes=7)), new_head=True)
    np.testing.assert_array_equal(values(model)["head/kernel"], arrays["head/kernel"])


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_keras_own_files_through_weights(oracle, save, build, tmp_path, ending):
    """At the same size, at another one, and with another head."""
    model = build(save(oracle.checkpoint()), gelu="erf")
    path = tmp_path / f"model{ending}"
    (model.save if ending == ".keras" else model.save_weights)(path)
    assert_equal(values(build(path)), values(model))
    larger = values(build(path, input_shape=(48, 40, 3)))
    assert_equal(larger, values(keras_vit.resize(model, (48, 40))))
    new = values(build(path, classes=7, new_head=True))
    assert new["head/kernel"].shape == (32, 7) and not new["head/kernel"].any()
    np.testing.assert_array_equal(new["norm/gamma"], values(model)["norm/gamma"])
    with pytest.raises(ValueError, match="misfit"):
        build(path, classes=7)


def test_load_gives_a_model_that_keras_saved_as_it_is(oracle, save, build, tmp_path):
    model = build(save(oracle.checkpoint()), gelu="erf", stochastic_depth=0.25)
    model.save(tmp_path / "model.keras")
    loaded = keras_vit.load(tmp_path / "model.keras")
    assert loaded.get_layer("block_02").skips[0].rate == 0.25
    assert_equal(values(loaded), values(model))


def test_keras_weights_alone_tell_no_architecture(oracle, build, tmp_path):
    build().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="the architecture can be detected"):
        keras_vit.load(tmp_path / "model.weights.h5")


@pytest.mark.parametrize("arguments", [{"position_resize": "cubic"}, {"channels": "mean"}])
def test_unknown_ways_are_refused_before_the_file_is_read(oracle, save, build, arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"Expected {name} to be None or one of .*{name}='{value}'"):
        build(save(oracle.checkpoint()), **arguments)


@pytest.fixture
def published(oracle, save, monkeypatch):
    """Puts a tiny row and its checkpoints, a 21k one with a head of zeros, in place of the published ones."""
    row = keras_vit.Variant(*oracle.SIZES)
    asked = []

    def find(weights, variant, image_size, include_top):
        asked.append((weights, variant, image_size, include_top))
        return keras_vit.Checkpoint(
            "tiny", "ViT-B/16", "gs://nowhere/tiny.npz", "npz", 32, 10, "imagenet2012", "real", False, "bicubic", 0.875
        )

    monkeypatch.setattr(checkpoint, "find_checkpoint", find)
    monkeypatch.setattr(checkpoint, "fetch", lambda address: save(oracle.checkpoint()))
    return row, asked


def test_a_published_name_is_looked_up_for_what_is_built(published):
    row, asked = published
    model = keras_vit.build(row, weights="tiny", classes=10)
    assert model.input_shape == (None, 32, 32, 3)  # the checkpoint's own
    assert (model.pixels.interpolation, model.pixels.crop, model.pixels.antialias) == ("bicubic", 0.875, True)
    keras_vit.build(row, weights="tiny", input_shape=(48, 40, 3), classes=7, new_head=True)
    keras_vit.build(row, weights="tiny", include_top=False)
    assert asked == [("tiny", None, 224, True), ("tiny", None, 48, False), ("tiny", None, 224, False)]


def test_the_best_file_is_taken_at_224_pixels_where_the_caller_says_none(published):
    row, asked = published
    model = keras_vit.build(row, weights="imagenet", classes=10)
    assert model.input_shape == (None, 224, 224, 3)
    assert model.get_layer("encoder").position_resize == "corner"
    assert asked == [("imagenet", None, 224, True)]


def test_a_row_of_the_table_is_taken_as_its_name(published):
    row, asked = published
    item = checkpoint.find_checkpoint("tiny", None, 224, True)
    assert keras_vit.load(item).output_shape == (None, 10)
    assert len(asked) == 1
