import numpy as np
import pytest

import keras_vit
from keras_vit.weights.names import NAMES, source_cells

REPRESENTATION = {"pre_logits/kernel", "pre_logits/bias"}


def test_the_numbers_of_arrays_of_the_official_files():
    """16 a block, and 8 around them: positions, class token, embedding, last norm and head; 2 more of pre-training."""
    cells = source_cells("npz", 12)
    assert len(cells) == 202
    assert len(set(cells) - REPRESENTATION) == 200
    assert len(source_cells("npz", 24)) - len(cells) == 12 * 16


@pytest.mark.parametrize("num_layers", [1, 12, 48])
def test_no_two_rows_share_a_name(num_layers):
    cells = source_cells("npz", num_layers)
    assert len({name for name, _ in cells.values()}) == len(cells)


def test_a_row_has_a_name_of_ours_and_known_sources():
    for ours, columns in NAMES.items():
        assert set(columns) == {"npz"}, ours
        assert ours == ours.strip("/")


def test_the_rows_are_the_weights_of_a_model_and_all_are_used():
    model = keras_vit.ViT_Ti16(input_shape=(16, 16, 3), classes=2, representation_size=192)
    paths = [weight.path for weight in model.weights]
    assert len(paths) == len(set(paths)) == 202
    assert set(paths) == set(source_cells("npz", 12))


def test_the_names_in_the_file_are_the_official_ones(oracle):
    names = {name for name, _ in source_cells("npz", oracle.NUM_LAYERS).values()}
    assert names == set(oracle.shapes(representation_size=20))


def test_the_layouts_give_back_what_was_put_in_and_know_its_shape(oracle):
    variant = keras_vit.Variant(*oracle.SIZES)
    arguments = {"input_shape": (32, 32, 3), "classes": 10, "representation_size": 20}
    model = keras_vit.build(variant, **arguments)
    official = oracle.shapes(representation_size=20)
    cells = source_cells("npz", oracle.NUM_LAYERS)
    for weight in model.weights:
        name, layout = cells[weight.path]
        shape = tuple(weight.shape)
        theirs = layout.shape(shape, variant) if layout else shape
        assert theirs == official[name], name
        if layout:
            array = np.arange(np.prod(theirs), dtype=np.float32).reshape(theirs)
            ours = layout.to_ours(array, shape)
            assert ours.shape == shape
            np.testing.assert_array_equal(ours.reshape(theirs), array)


def test_sorted_is_in_order_also_beyond_ten_blocks():
    blocks = [name.split("/")[0] for name in sorted(source_cells("npz", 48)) if name.startswith("block_")]
    assert list(dict.fromkeys(blocks)) == [f"block_{i:02d}" for i in range(48)]
