"""What TensorFlow's graph optimizer makes of our layers on a CPU with oneDNN, and that the numbers stay."""

import keras
import numpy as np
import pytest

from keras_vit.layers import MLP


def run_optimized(layer, x):
    """Returns what TensorFlow computes for a layer in a graph, and the fused operations of the optimized graph."""
    tf = pytest.importorskip("tensorflow")
    weights = layer.get_weights()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        inputs = [tf.compat.v1.placeholder(array.dtype, array.shape) for array in (x, *weights)]
        output, _ = layer.stateless_call(inputs[1:], [], inputs[0])
        options, metadata = tf.compat.v1.RunOptions(output_partition_graphs=True), tf.compat.v1.RunMetadata()
        result = session.run(output, dict(zip(inputs, (x, *weights))), options, metadata)
    nodes = [node for graph in metadata.partition_graphs for node in graph.node]
    return result, {name.decode() for node in nodes for name in node.attr["fused_ops"].list.s}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs of TensorFlow")
def test_both_gelus_are_fused_with_the_product_before_them():
    fused, x = {}, np.random.default_rng(0).normal(size=(2, 5, 64)).astype(np.float32)
    for gelu in ("erf", "tanh"):
        layer = MLP(96, gelu=gelu)
        layer.build((None, 5, 64))
        result, fused[gelu] = run_optimized(layer, x)
        np.testing.assert_allclose(result, layer(x), atol=1e-5)
    # On a CPU without oneDNN, neither is.
    assert ("GeluApproximate" in fused["tanh"]) == ("GeluExact" in fused["erf"])
