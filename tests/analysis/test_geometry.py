import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.analysis.geometry import ReceptiveField, grid_of, receptive_fields, require_layers, token_stride
from keras_vit.models.hooks import layers_of


def test_a_patch_of_a_plain_model(vit, make):
    assert grid_of(vit) == (3, 5)
    assert receptive_fields(vit) == [ReceptiveField("patches", 4, 4)]
    assert token_stride(make.nested(vit, "sequential")) == 4


def test_receptive_fields_by_hand(hybrid):
    """7, then 7 + 2 * 2 = 11 at stride 4; 11 + 2 * 4 = 19; then 19 + 2 * 4 = 27 at stride 8, and 27 + 2 * 8 = 43."""
    expected = [("stem", 4, 11), ("stage1", 4, 19), ("stage2", 8, 43), ("patches", 8, 43)]
    assert receptive_fields(hybrid) == [ReceptiveField(*row) for row in expected]
    assert grid_of(hybrid) == (8, 12)


def test_nothing_outside_a_receptive_field_changes_a_value(hybrid):
    """Without norms, which see all of the image: the reach of a changed pixel is that of the convolutions alone."""
    stem = keras_vit.build(keras_vit.ResNet((1, 1), (128, 256), 32), input_shape=(96, 96, 3), include_top=False)
    for layer in layers_of(stem, keras_vit.layers.GroupNorm):
        layer.call = lambda x: x
    one, other = np.zeros((2, 1, 96, 96, 3), np.float32)
    other[0, 48, 48] = 1
    last = [layer for layer in stem.layers if layer.name.startswith("stage2")][-1].output
    maps = keras.Model(stem.input, last)
    changed = np.argwhere(np.abs(np.asarray(maps(one) - maps(other))).max(axis=(0, 3)) > 0)
    field = receptive_fields(stem)[-1]
    reach = changed.max(axis=0) - changed.min(axis=0)
    assert (reach * field.stride < field.size).all()
    assert (reach * field.stride >= field.size - 2 * field.stride).all()


def test_what_cannot_be_looked_into(vit, make):
    with pytest.raises(ValueError, match="Received: 'flat' without"):
        receptive_fields(keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()], name="flat"))
    for wrong in (make.made_images(12, 24), make.made_images(12, 20)[0], make.made_images(12, 20, 0)):
        with pytest.raises(ValueError, match=r"\(12, 20, 3\). Received: images of shape"):
            require_layers(vit, wrong)
    require_layers(make.build("gap"), make.made_images(12, 20))
