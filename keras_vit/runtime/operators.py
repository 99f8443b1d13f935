"""Counts the operators of a TFLite file, and names those that delegates do not support."""

from __future__ import annotations

import collections
import math

from keras_vit import _compat
from keras_vit.runtime.lint import DELEGATES, Delegate, lint_operators, read_operators

_schema = _compat.tflite_schema()

_TYPES = {code: name for name, code in vars(_schema.TensorType).items() if isinstance(code, int)}
_BYTES = {"FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "INT16": 2, "UINT8": 1, "INT8": 1, "INT4": 1, "BOOL": 1}  # others: 8

# TFLite's kernels count bytes in 32 bits.
_MAX_BYTES = 2**31
_MAX_PARTS = 1_000_000  # tensors of a file, which may be the same ones again and again


def refuse_huge(file: bytes) -> None:
    """Raises a ValueError for a TFLite file that states a tensor of 2 GiB or more, which would be reserved.

    Args:
        file: its bytes. Other exceptions may be raised where they are not a TFLite file.
    """
    model = _schema.Model.GetRootAsModel(file, 0)
    graphs = (model.Subgraphs(i) for i in range(model.SubgraphsLength()))
    tensors = (graph.Tensors(i) for graph in graphs for i in range(graph.TensorsLength()))
    for count, tensor in enumerate(tensors):
        shape = tensor.ShapeAsNumpy().tolist() if tensor.ShapeLength() else []
        size = math.prod(shape) * _BYTES.get(_TYPES.get(tensor.Type(), ""), 8)
        if min(shape, default=0) < 0 or size >= _MAX_BYTES or count >= _MAX_PARTS:
            raise ValueError(f"it has a tensor of shape {str(shape):.80}")


def count_operators(file: bytes) -> tuple[dict[str, int], dict[Delegate, list[str]]]:
    """Returns {operator: count} of a TFLite file, and {delegate: what it does not support}, see `lint`.

    Args:
        file: its bytes.
    """
    operators = read_operators(file, with_constants=True)
    counts = collections.Counter(operator.name for operator in operators)
    found = {delegate: set[str]() for delegate in DELEGATES}
    for finding in lint_operators([one for one in operators if not one.restores_constant]):
        if not finding.listed:
            found[finding.delegate].add(f"{finding.operator.partition(' ')[2]}: {finding.problem}")
    return dict(sorted(counts.items())), {delegate: sorted(texts) for delegate, texts in found.items()}
