"""What a run is worked on by: one device, all of a machine, many machines, or a TPU."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_vit import _compat


@dataclasses.dataclass(frozen=True)
class Devices:
    """Describes the devices that share a run.

    Args:
        strategy: "one", "mirrored", "multiworker" or "tpu".
        words: what they are, for a person.
        replicas: how many parts each batch is cut into.
        chief: whether this process is the one that writes files.
        scope: makes the context that the model is built and trained in.
        distribute: takes a function from `parts` (as of `training_batches`) to a dataset, and returns what `fit` takes.
        agree: whether a whole number is the same in all processes.
    """

    strategy: str = "one"
    words: str = "one device"
    replicas: int = 1
    chief: bool = True
    scope: Callable = contextlib.nullcontext
    distribute: Callable = lambda dataset_of: dataset_of((0, 1, 1))
    agree: Callable = lambda number: True


def devices_of(strategy="auto", jit_compile=False):
    """Returns the devices of a recipe's `strategy`.

    On TensorFlow: "mirrored" is MirroredStrategy on all GPUs, or on all logical CPU devices where there is no GPU;
    "multiworker" is MultiWorkerMirroredStrategy as TF_CONFIG says; "tpu" is TPUStrategy on the TPU that TPU_NAME names,
    or the local one. On JAX, all of these are `keras.distribution.DataParallel` over JAX's devices, those of all
    processes with "multiworker". "auto" takes what TF_CONFIG or TPU_NAME speak of, else all GPUs.

    "multiworker" has to come before anything that TensorFlow computes.

    Raises:
        ValueError: if there is no such device, or it cannot work as asked.
    """
    if keras.backend.backend() == "jax":
        return _on_jax(strategy)
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}")
    if "ps" in cluster.get("cluster", {}):
        raise ValueError(
            "Expected a cluster of workers alone. Received: TF_CONFIG with parameter servers ('ps'), which Keras 3 has "
            "no coordinator for. Take the ps tasks out, and use strategy=multiworker."
        )
    if strategy == "auto":
        known = {
            "multiworker": cluster,
            "tpu": os.environ.get("TPU_NAME"),
            "mirrored": len(tf.config.list_physical_devices("GPU")) > 1,
        }
        strategy = next((name for name, there in known.items() if there), "one")
    if jit_compile and strategy in ("mirrored", "multiworker"):
        raise ValueError(
            f"Expected jit_compile=False with strategy={strategy}. Received: True. TensorFlow cannot place a compiled "
            "step's variables on several devices; take jit_compile=False, strategy=one, or the JAX backend."
        )
    if strategy == "one":
        return Devices()
    if strategy == "multiworker" and not cluster:
        raise ValueError(
            "Expected the environment variable TF_CONFIG with strategy=multiworker, such as "
            '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}. '
            "Received: none."
        )
    made = {"mirrored": _mirrored, "multiworker": tf.distribute.MultiWorkerMirroredStrategy, "tpu": _tpu}[strategy]()
    task = cluster.get("task", {})
    return Devices(
        strategy,
        words=f"{made.num_replicas_in_sync} replicas, {type(made).__name__}",
        replicas=made.num_replicas_in_sync,
        chief=strategy != "multiworker" or task.get("type") == "chief" or _is_first(cluster, task),
        scope=made.scope,
        distribute=lambda dataset_of: made.distribute_datasets_from_function(
            lambda context: dataset_of(_parts(context))
        ),
        agree=lambda number: _agree(made, number),
    )


def _agree(strategy, number):
    summed = strategy.reduce("SUM", strategy.run(lambda: tf.constant(number, tf.int64)), axis=None)
    return int(summed) == number * strategy.num_replicas_in_sync


def _is_first(cluster, task):
    return "chief" not in cluster["cluster"] and task.get("index") == 0


def _parts(context):
    """Returns the parts of a batch that a worker's replicas take, (start, stop, of)."""
    here = context.num_replicas_in_sync // context.num_input_pipelines
    start = context.input_pipeline_id * here
    return start, start + here, context.num_replicas_in_sync


def _mirrored():
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _tpu():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=os.environ.get("TPU_NAME", ""))
        _compat.connect_tpu(resolver)
    except (ValueError, tf.errors.OpError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"Expected a TPU with strategy=tpu, its name in TPU_NAME. Received: none that answers ({reason}). "
            "The package tensorflow-tpu is needed on a TPU machine."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _on_jax(strategy):
    import jax

    if strategy == "multiworker":
        keras.distribution.initialize()  # from KERAS_DISTRIBUTION_JOB_ADDRESSES and its like
    if strategy == "tpu" and jax.default_backend() != "tpu":
        raise ValueError(f"Expected a TPU with strategy=tpu. Received: JAX on {jax.default_backend()}.")
    count = jax.device_count()
    if strategy == "one" or (strategy == "auto" and count == 1):
        return Devices()
    layout = keras.distribution.DataParallel(auto_shard_dataset=False)
    process, processes = jax.process_index(), jax.process_count()
    return Devices(
        strategy,
        words=f"{count} devices, DataParallel",
        replicas=count,
        chief=process == 0,
        scope=layout.scope,
        distribute=lambda dataset_of: dataset_of((process, process + 1, processes)),
    )
