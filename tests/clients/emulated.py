"""Runs .tflite files with nothing but LiteRT and NumPy: `python emulated.py PIXELS.npy ANSWERS.npz FILE...`."""

import pathlib
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def answers(path, pixels):
    """Returns the first output of a file for images of its size, (images, ...)."""
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    (entry,), (end, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    result = []
    for image in pixels:
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        result.append(interpreter.get_tensor(end["index"])[0])
    return np.stack(result)


if __name__ == "__main__":
    pixels, to, *files = sys.argv[1:]
    np.savez(to, **{pathlib.Path(file).name: answers(file, np.load(pixels)) for file in files})
