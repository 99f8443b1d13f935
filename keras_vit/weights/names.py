"""The one name table: a row per weight of ours, a column per source of files.

A cell is a name, or a name and a `Layout` where the same numbers lie in another shape there. A name without a layout
means equal shape. "{i}" is the number of the block; ours has two digits, so that sorted is in order.
"""

from typing import NamedTuple


class Layout(NamedTuple):
    """Describes an array of a file by the shape of ours.

    Args:
        shape: from our shape and the variant, the shape in the file.
        to_ours: from the file's array and our shape, our array.
    """

    shape: callable
    to_ours: callable


def _reshape(array, shape):
    return array.reshape(shape)


def _conv_kernel(ours, variant):
    values, width = ours
    p = variant.patch_size
    return p, p, values // p**2, width


def _heads(width, variant):
    return variant.num_heads, width // variant.num_heads


CONV = Layout(_conv_kernel, _reshape)
TO_HEADS = Layout(lambda ours, variant: (ours[0], *_heads(ours[1], variant)), _reshape)
FROM_HEADS = Layout(lambda ours, variant: (*_heads(ours[0], variant), ours[1]), _reshape)
HEADS_BIAS = Layout(lambda ours, variant: _heads(ours[0], variant), _reshape)

_BLOCK = "Transformer/encoderblock_{i}/"
_ATTENTION = _BLOCK + "MultiHeadDotProductAttention_1/"

#                                   ours: {source: cell}
NAMES = {
    "encoder/class_token": {"npz": "cls"},
    "encoder/position_embedding": {"npz": "Transformer/posembed_input/pos_embedding"},
    "encoder/projection/kernel": {"npz": ("embedding/kernel", CONV)},
    "encoder/projection/bias": {"npz": "embedding/bias"},
    "block_{i:02d}/attention_norm/gamma": {"npz": _BLOCK + "LayerNorm_0/scale"},
    "block_{i:02d}/attention_norm/beta": {"npz": _BLOCK + "LayerNorm_0/bias"},
    "block_{i:02d}/attention/query/kernel": {"npz": (_ATTENTION + "query/kernel", TO_HEADS)},
    "block_{i:02d}/attention/query/bias": {"npz": (_ATTENTION + "query/bias", HEADS_BIAS)},
    "block_{i:02d}/attention/key/kernel": {"npz": (_ATTENTION + "key/kernel", TO_HEADS)},
    "block_{i:02d}/attention/key/bias": {"npz": (_ATTENTION + "key/bias", HEADS_BIAS)},
    "block_{i:02d}/attention/value/kernel": {"npz": (_ATTENTION + "value/kernel", TO_HEADS)},
    "block_{i:02d}/attention/value/bias": {"npz": (_ATTENTION + "value/bias", HEADS_BIAS)},
    "block_{i:02d}/attention/out/kernel": {"npz": (_ATTENTION + "out/kernel", FROM_HEADS)},
    "block_{i:02d}/attention/out/bias": {"npz": _ATTENTION + "out/bias"},
    # The official numbers run over all modules of a block: norm 0, attention 1, norm 2, MLP 3.
    "block_{i:02d}/mlp_norm/gamma": {"npz": _BLOCK + "LayerNorm_2/scale"},
    "block_{i:02d}/mlp_norm/beta": {"npz": _BLOCK + "LayerNorm_2/bias"},
    "block_{i:02d}/mlp/hidden/kernel": {"npz": _BLOCK + "MlpBlock_3/Dense_0/kernel"},
    "block_{i:02d}/mlp/hidden/bias": {"npz": _BLOCK + "MlpBlock_3/Dense_0/bias"},
    "block_{i:02d}/mlp/out/kernel": {"npz": _BLOCK + "MlpBlock_3/Dense_1/kernel"},
    "block_{i:02d}/mlp/out/bias": {"npz": _BLOCK + "MlpBlock_3/Dense_1/bias"},
    "norm/gamma": {"npz": "Transformer/encoder_norm/scale"},
    "norm/beta": {"npz": "Transformer/encoder_norm/bias"},
    "pre_logits/kernel": {"npz": "pre_logits/kernel"},
    "pre_logits/bias": {"npz": "pre_logits/bias"},
    "head/kernel": {"npz": "head/kernel"},
    "head/bias": {"npz": "head/bias"},
}


def source_cells(source, num_layers):
    """Returns {our path: (name in the file, Layout or None)} for a source and a number of blocks."""
    cells = {}
    for ours, columns in NAMES.items():
        if source not in columns:
            continue
        cell = columns[source]
        name, layout = (cell, None) if isinstance(cell, str) else cell
        for i in range(num_layers) if "{i" in ours else (0,):
            cells[ours.format(i=i)] = name.format(i=i), layout
    return cells
