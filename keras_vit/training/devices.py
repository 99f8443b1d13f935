"""Devices: distribution strategies for one device, several GPUs, several machines or a TPU."""

import atexit
import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_vit import _compat

logger = logging.getLogger("keras_vit")


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that share a run; one device by default.

    Args:
        strategy: "one", "mirrored", "multiworker" or "tpu".
        description: description for logs.
        replicas: number of parts that a batch is split into, one a device.
        chief: whether this process writes the files.
        scope: returns the context to build and train the model in.
        distribute: function of (function of `parts`, as in `training_batches`, that returns a dataset) that returns the
            data set to pass to `fit`.
        agree: function of an int that returns whether all processes have the same.

    Example:
        ```python
        devices = keras_vit.training.Devices()
        assert devices.replicas == 1 and devices.chief
        ```
    """

    strategy: str = "one"
    description: str = "one device"
    replicas: int = 1
    chief: bool = True
    scope: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    distribute: Callable[[Callable[[tuple[int, int, int]], Any]], Any] = lambda dataset_of: dataset_of((0, 1, 1))
    agree: Callable[[int], bool] = lambda number: True


def devices_of(strategy: str = "auto", jit_compile: bool = False) -> Devices:
    """Returns the devices of a distribution strategy.

    On TensorFlow: "mirrored" is MirroredStrategy on all GPUs, or on all logical CPU devices where there is no GPU;
    "multiworker" is MultiWorkerMirroredStrategy as TF_CONFIG says; "tpu" is TPUStrategy on the TPU that TPU_NAME names,
    or the local one. On JAX, all of these are `keras.distribution.DataParallel` over JAX's devices, those of all
    processes with "multiworker". "auto" is "multiworker" with TF_CONFIG set, "tpu" with TPU_NAME, "mirrored" with
    several GPUs, and "one" otherwise. On PyTorch, "mirrored" and "multiworker" are DistributedDataParallel over the
    processes that torchrun has started, one a device; "auto" is "one" outside of torchrun.

    Call it before TensorFlow computes anything: MultiWorkerMirroredStrategy requires it.

    Args:
        strategy: "auto", "one", "mirrored", "multiworker" or "tpu".
        jit_compile: whether the step will be compiled by XLA, which excludes several devices on TensorFlow.

    Returns:
        The devices.

    Raises:
        ValueError: if the devices do not exist, or the strategy does not support the settings.

    Example:
        ```python
        devices = keras_vit.training.devices_of("one")
        assert devices.description == "one device"
        ```
    """
    if keras.backend.backend() in _BACKENDS:
        with contextlib.suppress(RuntimeError):  # TensorFlow has a GPU already
            tf.config.set_visible_devices([], "GPU")  # it reads the images alone, and would take the GPU's memory
        return _BACKENDS[keras.backend.backend()](strategy)
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}")
    if "ps" in cluster.get("cluster", {}):
        raise ValueError(
            "Expected a cluster of workers alone. Received: TF_CONFIG with parameter servers ('ps'), which Keras 3 has "
            "no coordinator for. Remove the ps tasks, and use strategy=multiworker."
        )
    if strategy == "auto":
        known = {
            "multiworker": cluster,
            "tpu": os.environ.get("TPU_NAME"),
            "mirrored": len(tf.config.list_physical_devices("GPU")) > 1,
        }
        strategy = next((name for name, exists in known.items() if exists), "one")
    if jit_compile and strategy in ("mirrored", "multiworker"):
        raise ValueError(
            f"Expected jit_compile=False with strategy={strategy}. Received: True. TensorFlow cannot place a compiled "
            "step's variables on several devices: set jit_compile=False or strategy=one, or use the JAX backend."
        )
    if strategy == "one":
        return Devices()
    if strategy == "multiworker" and not cluster:
        raise ValueError(
            "Expected the environment variable TF_CONFIG with strategy=multiworker, such as "
            '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}. '
            "Received: none."
        )
    factories: dict[str, Callable[[], Any]] = {
        "mirrored": _mirrored,
        "multiworker": tf.distribute.MultiWorkerMirroredStrategy,
        "tpu": _tpu,
    }
    made = factories[strategy]()
    task = cluster.get("task", {})
    return Devices(
        strategy,
        description=f"{made.num_replicas_in_sync} replicas, {type(made).__name__}",
        replicas=made.num_replicas_in_sync,
        chief=strategy != "multiworker" or task.get("type") == "chief" or _is_first(cluster, task),
        scope=made.scope,
        distribute=lambda dataset_of: made.distribute_datasets_from_function(
            lambda context: dataset_of(_parts(context))
        ),
        agree=lambda number: _agree(made, number),
    )


def _agree(strategy: Any, number: int) -> bool:
    summed = strategy.reduce("SUM", strategy.run(lambda: tf.constant(number, tf.int64)), axis=None)
    return int(summed) == number * strategy.num_replicas_in_sync


def _is_first(cluster: dict[str, Any], task: dict[str, Any]) -> bool:
    return "chief" not in cluster["cluster"] and task.get("index") == 0


def _parts(context: Any) -> tuple[int, int, int]:
    """Returns the parts of a batch for a worker's replicas, (start, stop, number of parts)."""
    here = context.num_replicas_in_sync // context.num_input_pipelines
    start = context.input_pipeline_id * here
    return start, start + here, context.num_replicas_in_sync


def _mirrored() -> Any:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _tpu() -> Any:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=os.environ.get("TPU_NAME", ""))
        _compat.connect_tpu(resolver)
    except (ValueError, tf.errors.OpError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"Expected a TPU with strategy=tpu, its name in TPU_NAME. Received: no TPU ({reason}). "
            "Install the package tensorflow-tpu on a TPU machine."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _on_jax(strategy: str) -> Devices:
    import jax

    if strategy == "multiworker":
        keras.distribution.initialize()  # reads KERAS_DISTRIBUTION_JOB_ADDRESSES and others
    if strategy == "tpu" and jax.default_backend() != "tpu":
        raise ValueError(f"Expected a TPU with strategy=tpu. Received: JAX on {jax.default_backend()}.")
    count = jax.device_count()
    if strategy == "one" or (strategy == "auto" and count == 1):
        return Devices()
    layout = keras.distribution.DataParallel(auto_shard_dataset=False)
    process, processes = jax.process_index(), jax.process_count()
    return Devices(
        strategy,
        description=f"{count} devices, DataParallel",
        replicas=count,
        chief=process == 0,
        scope=layout.scope,
        distribute=lambda dataset_of: dataset_of((process, process + 1, processes)),
    )


def _on_torch(strategy: str) -> Devices:
    import torch
    from torch import distributed

    from keras_vit.training.step_torch import batches_on_torch

    started = "WORLD_SIZE" in os.environ  # by torchrun
    if strategy == "tpu":
        raise ValueError("Expected strategy=tpu on TensorFlow or JAX. Received: the PyTorch backend.")
    if strategy in ("mirrored", "multiworker") and not started:
        raise ValueError(
            f"Expected processes that torchrun has started with strategy={strategy} on PyTorch. Received: one without "
            "the environment variable WORLD_SIZE. Start again with "
            "`torchrun --nproc-per-node=gpu -m keras_vit fit RECIPE`."
        )
    process, processes = 0, 1
    if strategy != "one" and started:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        if not distributed.is_initialized():
            distributed.init_process_group()
            atexit.register(distributed.destroy_process_group)
        process, processes = distributed.get_rank(), distributed.get_world_size()
    elif (count := torch.cuda.device_count()) > 1:
        logger.info("uses one GPU of %d; `torchrun --nproc-per-node=gpu -m keras_vit fit RECIPE` uses all", count)

    def agree(number: int) -> bool:
        numbers = [None] * processes
        distributed.all_gather_object(numbers, number)
        return len(set(numbers)) == 1

    many = processes > 1
    return Devices(
        strategy if many else "one",
        description=f"{processes} processes, DistributedDataParallel" if many else "one device",
        replicas=processes,
        chief=process == 0,
        distribute=lambda dataset_of: batches_on_torch(dataset_of((process, process + 1, processes))),
        agree=agree if many else lambda number: True,
    )


_BACKENDS = {"jax": _on_jax, "torch": _on_torch}
