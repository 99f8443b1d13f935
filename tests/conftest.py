import collections
import gc
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

os.environ.setdefault("KERAS_VIT_OFFLINE", "1")  # no test downloads a checkpoint, even the default one of `fit`

LONGEST_FIRST = ("training", "commands", "recipes", "clients", "export", "weights", "data")


def pytest_collection_modifyitems(items):
    """Puts the folders of the longest files first, so that workers, which get a file at a time, end together."""
    order = {folder: number for number, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))


@pytest.fixture(scope="module", autouse=True)
def swept():
    """Takes what is imported and kept by now out of what the garbage collector walks through.

    With TensorFlow, these are a million objects, and Keras collects garbage once for each layer that it quantizes.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_gradients_on_torch():
    """Tests read outputs as NumPy arrays, which PyTorch refuses for tensors that record gradients."""
    if os.environ.get("KERAS_BACKEND") != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield


def pytest_terminal_summary(terminalreporter):
    """Writes the seconds that the tests of each folder took, in sum over the workers."""
    seconds = collections.Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.split("::")[0].rpartition("/")[0]] += report.duration
    if len(seconds) > 1:
        terminalreporter.section("seconds of each folder")
        for folder, number in (*seconds.most_common(), ("in sum", sum(seconds.values()))):
            terminalreporter.write_line(f"{number:7.0f} {folder}")


def _load(name):
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def oracle():
    """The reference numbers: the module oracle.py."""
    return _load("oracle")


@pytest.fixture(scope="session")
def words():
    """Tiny checkpoints with a text tower: the module words/checkpoints.py."""
    return _load("words/checkpoints")


@pytest.fixture(scope="session")
def measured_once():
    """Returns `latency_and_memory`, but reuses the result of an earlier file of the same kind.

    Each measuring starts a process, and a SavedModel's imports TensorFlow in it; what is done with the figures does not
    depend on the file that they are of.
    """
    from keras_vit.export.proof import latency_and_memory

    figures = {}

    def measured_once(path):
        kind = pathlib.Path(path).suffix
        if kind not in figures:
            figures[kind] = latency_and_memory(path)
        return figures[kind]

    return measured_once


@pytest.fixture(scope="session")
def regression_once():
    """Returns `logistic_regression`, but reuses the result of the same images: it takes seconds."""
    from keras_vit.commands.verdict import logistic_regression

    results = {}

    def regression_once(source, channels):
        if source.digest not in results:
            results[source.digest] = logistic_regression(source, channels)
        return results[source.digest]

    return regression_once


@pytest.fixture(scope="session")
def run_python():
    """Runs a program in a new Python and returns the last line that it prints, read as JSON."""

    def run(*arguments, **environment):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def run_warm():
    """Runs a program as `run_python` does, in a fork of a process that has imported Keras and the backend already.

    Not for what a start of Python or an import has to show.
    """
    servers, lock = {}, threading.Lock()
    with tempfile.TemporaryDirectory() as folder:

        def address_of(backend):
            with lock:
                if backend in servers and servers[backend].poll() is not None:  # killed, as for want of memory
                    pathlib.Path(folder, backend).unlink(missing_ok=True)
                    del servers[backend]
                address = os.path.join(folder, backend)
                if backend not in servers:
                    servers[backend] = subprocess.Popen(
                        [sys.executable, str(pathlib.Path(__file__).with_name("warm.py")), address],
                        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                    )
            return address

        def connected(backend):
            address, deadline = address_of(backend), time.monotonic() + 300
            while True:
                connection = socket.socket(socket.AF_UNIX)
                try:
                    connection.connect(address)
                    return connection
                except (FileNotFoundError, ConnectionRefusedError):  # it imports still
                    connection.close()
                    assert servers[backend].poll() is None and time.monotonic() < deadline
                    time.sleep(0.05)

        def run(*arguments, **environment):
            environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", **environment}
            with tempfile.TemporaryDirectory() as place, connected(environment["KERAS_BACKEND"]) as connection:
                output, errors = (pathlib.Path(place, name) for name in ("output", "errors"))
                request = {
                    "arguments": list(map(str, arguments)),
                    "environment": environment,
                    "folder": os.getcwd(),
                    "output": str(output),
                    "errors": str(errors),
                }
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile() as reply:
                    status = reply.read()
                assert status == "0", f"status {status or 'of a signal'}\n{errors.read_text()}"
                return json.loads(output.read_text().splitlines()[-1])

        yield run
        for server in servers.values():
            server.terminate()
            server.wait()
