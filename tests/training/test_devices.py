"""The same run on one device and on several, each in its own process: TensorFlow's devices cannot change later."""

import concurrent.futures
import functools
import importlib.util
import json
import pathlib
import socket

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit.models.config import Variant
from keras_vit.training import devices as module
from keras_vit.training.devices import Devices, devices_of

SCRIPT = pathlib.Path(__file__).with_name("one_run.py")
OPTIMIZERS = ("sgd", "adamw", "muon")
# {name: (environment, strategy, number of processes, description of the devices)}
RUNS = {
    "tensorflow-one": ({}, "one", 1, "one device"),
    "tensorflow-mirrored": ({}, "mirrored", 1, "2 replicas, MirroredStrategy"),
    "tensorflow-multiworker": ({}, "multiworker", 2, "2 replicas, CollectiveAllReduceStrategy"),
    "jax-auto": (
        {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        "auto",
        1,
        "4 devices, DataParallel",
    ),
    "torch-one": ({"KERAS_BACKEND": "torch"}, "one", 1, "one device"),
    "torch-auto": ({"KERAS_BACKEND": "torch"}, "auto", 2, "2 processes, DistributedDataParallel"),
}
needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes a checkpoint that all runs start from: backends draw other first weights from one seed."""
    folder = tmp_path_factory.mktemp("devices")
    variant = Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12)
    model = keras_vit.build(variant, input_shape=(12, 12, 3), classes=3)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    keras_vit.save_checkpoint(model, folder / "start.npz")
    return folder


@pytest.fixture(scope="module")
def run(folder, run_warm):
    """Returns a function that makes a run with each of the optimizers, once, and returns {optimizer: its arrays}."""

    @functools.cache
    def run(name, optimizers):
        environment, strategy, processes, description = RUNS[name]
        addresses = [f"127.0.0.1:{port}" for port in free_ports(processes)]

        def process(index):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            host, port = addresses[0].split(":")
            torchrun = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": 2, "MASTER_ADDR": host, "MASTER_PORT": port}
            more = {"TF_CONFIG": json.dumps(task), **{name: str(value) for name, value in torchrun.items()}}
            return run_warm(SCRIPT, folder, strategy, *optimizers, **environment, **(more if processes > 1 else {}))

        with concurrent.futures.ThreadPoolExecutor(processes) as pool:
            said = list(pool.map(process, range(processes)))
        assert [one["description"] for one in said] == [description] * processes
        assert [one["chief"] for one in said] == [index == 0 for index in range(processes)]
        return {optimizer: dict(np.load(folder / f"{name}-{optimizer}.npz")) for optimizer in optimizers}

    return run


def assert_same(one, many):
    assert one.keys() == many.keys()
    timed = {"log/seconds", "log/images_per_second"}
    for key in one.keys() - timed:
        np.testing.assert_allclose(many[key], one[key], rtol=0, atol=1e-5, err_msg=key)
    assert one["log/gradient_norm"].min() > 0.01  # the clip is active
    assert len(one["log/loss"]) == 3 and len(set(one["log/loss"])) == 3


@pytest.mark.soak
def test_two_devices_train_like_one(run):
    one, two = (run(name, ("adamw",))["adamw"] for name in ("tensorflow-one", "tensorflow-mirrored"))
    assert_same(one, two)


@pytest.mark.soak
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs_torch if name.startswith("torch") else ())
        for name in RUNS
        if name != "tensorflow-one"
    ],
)
def test_many_devices_train_like_one(run, name, optimizer):
    assert_same(run("tensorflow-one", OPTIMIZERS)[optimizer], run(name, OPTIMIZERS)[optimizer])


def test_no_strategy_is_one_device(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("TPU_NAME", raising=False)
    assert devices_of("one") == Devices() == devices_of("auto")


@pytest.mark.parametrize("strategy", ["mirrored", "multiworker"])
def test_a_compiled_step_on_many_devices_is_refused(strategy):
    with pytest.raises(ValueError, match=f"jit_compile=False with strategy={strategy}"):
        devices_of(strategy, jit_compile=True)


@needs_torch
@pytest.mark.parametrize(
    "strategy, message",
    [("tpu", "TensorFlow or JAX"), ("mirrored", "WORLD_SIZE.*torchrun"), ("multiworker", "WORLD_SIZE")],
)
def test_torch_needs_torchrun_for_many_devices(monkeypatch, strategy, message):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match=message):
        devices_of(strategy)


def test_a_parameter_server_is_refused(monkeypatch):
    cluster = {"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ValueError, match="parameter servers .* which Keras 3 has no coordinator for"):
        devices_of("auto")


def test_workers_need_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="environment variable TF_CONFIG"):
        devices_of("multiworker")


def test_without_a_tpu_the_reason_is_given(monkeypatch):
    class Resolver:
        def __init__(self, tpu):
            raise ValueError(f"no TPU named {tpu!r}")

    monkeypatch.setenv("TPU_NAME", "far-away")
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", Resolver)
    with pytest.raises(ValueError, match="no TPU .no TPU named 'far-away'.*tensorflow-tpu"):
        devices_of("auto")


def test_a_tpu_is_connected_to_before_its_strategy_is_made(monkeypatch):
    """On a stand-in: no TPU was at hand."""
    calls = []

    class Strategy:
        num_replicas_in_sync, scope = 8, staticmethod(lambda: "scope")

        def __init__(self, resolver):
            calls.append(("strategy", resolver))

    monkeypatch.setenv("TPU_NAME", "near")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", lambda tpu: f"resolver of {tpu}")
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda at: calls.append(("connect", at)))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda at: calls.append(("initialize", at)))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", Strategy)
    devices = devices_of("auto")
    assert calls == [(name, "resolver of near") for name in ("connect", "initialize", "strategy")]
    assert devices.replicas == 8 and devices.chief and devices.scope() == "scope"


def test_each_worker_takes_its_parts():
    class Context:
        num_replicas_in_sync, num_input_pipelines, input_pipeline_id = 6, 3, 1

    assert module._parts(Context) == (2, 4, 6)
    assert keras.backend.backend() == "tensorflow"
