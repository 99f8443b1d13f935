"""Measures the latency and the memory of exported files; run as a script, in a process of its own a file.

    python measure.py FILE [REPEATS]

Prints {"milliseconds": {threads: median of the repeats}, "peak_memory": bytes} as JSON. The inputs are zeros: no layer
of ours takes longer for other numbers. Imports nothing of ours, so that the memory is the file's and its runtime's.
"""

import json
import os
import statistics
import sys
import time

import numpy as np

_THREADS = (1, 2)
REPEATS = 30


def measure_tflite(path, threads):
    """Returns a function that runs a .tflite file once."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        interpreter.set_tensor(entry["index"], np.zeros(entry["shape"], entry["dtype"]))
    return interpreter.invoke


def measure_onnx(path, threads):
    """Returns a function that runs an .onnx file once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    kind = np.uint8 if "uint8" in entry.type else np.float32
    inputs = {entry.name: np.zeros([1, *entry.shape[1:]], kind)}
    return lambda: session.run(None, inputs)


def measure_savedmodel(path, threads):
    """Returns a function that runs a SavedModel's version folder once."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() == 0:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    model = tf.saved_model.load(path)
    run = model.signatures["serving_default"]
    (entry,) = run.structured_input_signature[1].values()
    images = tf.zeros([1, *entry.shape[1:]], entry.dtype)
    return lambda: (model, run(images))


def measure(path, repeats=REPEATS):
    """Returns what is printed."""
    kind = {".tflite": measure_tflite, ".onnx": measure_onnx}.get(os.path.splitext(path)[1], measure_savedmodel)
    milliseconds = {}
    # TensorFlow's threads cannot be changed once it runs: a SavedModel is measured with as many as the first.
    for threads in _THREADS if kind is not measure_savedmodel else (max(_THREADS),):
        run = kind(path, threads)
        run()
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        milliseconds[str(threads)] = 1000 * statistics.median(times)
    return {"milliseconds": milliseconds, "peak_memory": peak_memory()}


def peak_memory():
    """Returns the most memory that this process has held, bytes; None where the system does not tell."""
    try:
        # Not getrusage on Linux: what it tells begins with the memory of the process that started this one.
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
    print(json.dumps(measure(sys.argv[1], *map(int, sys.argv[2:]))))
