"""Measures the latency and the peak memory of an exported file; run as a script, in a process for each file.

    python -P measure.py FILE [PRECISION]

Prints {"latency_ms": {threads: median of 30 runs}, "peak_memory": bytes} as JSON. The inputs are zeros: the layers
of keras_vit take the same time for all values. Imports nothing of keras_vit, so that the memory is that of the file and
of its runtime.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np

_THREADS = (1, 2)
_REPEATS = 30


def measure_tflite(path: str, threads: int) -> Callable[[], Any]:
    """Returns a function that runs a .tflite file once."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        interpreter.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
    return interpreter.invoke


def measure_onnx(path: str, threads: int) -> Callable[[], Any]:
    """Returns a function that runs an .onnx file once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    kind = np.uint8 if "uint8" in entry.type else np.float32
    inputs = {entry.name: np.zeros([1, *entry.shape[1:]], kind)}
    return lambda: session.run(None, inputs)


def measure_openvino(path: str, threads: int, precision: str) -> Callable[[], Any]:
    """Returns a function that runs the .xml file of an OpenVINO model once."""
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))  # without it, nothing is reported over the network
    import openvino

    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    run = openvino.Core().compile_model(path, "CPU", options)
    (entry,) = run.inputs
    shape = [axis.get_length() for axis in list(entry.partial_shape)[1:]]
    images = np.zeros([1, *shape], entry.element_type.to_dtype())
    return lambda: run(images)


def measure_savedmodel(path: str, threads: int) -> Callable[[], Any]:
    """Returns a function that runs the version folder of a SavedModel once."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() == 0:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    model = tf.saved_model.load(path)
    run = model.signatures["serving_default"]
    (entry,) = run.structured_input_signature[1].values()
    images = tf.zeros([1, *entry.shape[1:]], entry.dtype)
    return lambda: (model, run(images))


def measure(path: str, precision: str = "float32") -> dict[str, Any]:
    """Returns {"latency_ms": {threads: median milliseconds for one image}, "peak_memory": bytes}.

    Args:
        path: of the file, or of the version folder of a SavedModel.
        precision: in which OpenVINO computes, "float32" or "bfloat16".
    """
    kinds: dict[str, Callable[[str, int], Callable[[], Any]]]
    kinds = {
        ".tflite": measure_tflite,
        ".onnx": measure_onnx,
        ".xml": functools.partial(measure_openvino, precision=precision),
    }
    kind = kinds.get(os.path.splitext(path)[1], measure_savedmodel)
    latency = {}
    # TensorFlow's number of threads cannot change once it runs: a SavedModel is measured with one.
    for threads in _THREADS if kind is not measure_savedmodel else (max(_THREADS),):
        run = kind(path, threads)
        run()
        times = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        latency[str(threads)] = 1000 * statistics.median(times)
    return {"latency_ms": latency, "peak_memory": peak_memory()}


def peak_memory() -> int | None:
    """Returns the peak memory of this process, bytes; None where the operating system does not report it."""
    try:
        # Not getrusage on Linux: its figure includes the memory of the process that started this one.
        with open("/proc/self/status") as status:
            return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
