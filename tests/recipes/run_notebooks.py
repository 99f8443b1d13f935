"""Runs notebooks in a real kernel and stores their outputs in them.

    .venv/bin/python tests/recipes/run_notebooks.py recipes/*.ipynb

The outputs are stored as they look at the end: of an overwritten line its last text, and nothing of what TensorFlow
writes about the machine when it is imported.
"""

import pathlib
import re
import sys
import tempfile
import time

import nbformat
from nbclient import NotebookClient

# What TensorFlow and its libraries write to the error stream.
NOISE = re.compile(
    r"^(WARNING: All log messages before absl|[IWEF]0000 |To enable the following instructions).*\n?", re.M
)


class Client(NotebookClient):
    """Runs a notebook and keeps when each message arrived.

    Args:
        notebook: the notebook; its cells get the outputs.
        folder: working folder of the kernel.
        show: whether to print what the cells print, as it arrives.
    """

    def __init__(self, notebook, folder, show=False):
        super().__init__(
            notebook,
            timeout=1800,
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
            allow_errors=False,
        )
        self.show, self.messages = show, []  # (seconds, index of the cell, message)

    def process_message(self, message, cell, cell_index):
        self.messages.append((time.monotonic(), cell_index, message))
        if self.show and message["msg_type"] == "stream":
            print(message["content"]["text"], end="", flush=True)
        return super().process_message(message, cell, cell_index)


def with_parameters(notebook, parameters):
    """Adds a cell after the parameters, which sets some of them."""
    (place,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(parameters))
    return notebook


def as_seen(text):
    """Returns a stream's text as a screen shows it: "\\r" returns to the start of the line."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return "\n".join(lines)


def tidy(notebook):
    """Stores the outputs as they look at the end, without TensorFlow's notes."""
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.metadata.pop("execution", None)
        streams, kept = {}, []
        for output in cell.outputs:
            if output.output_type != "stream":
                kept.append(output)
            elif output.name in streams:
                streams[output.name].text += output.text
            else:
                streams[output.name] = output
                kept.append(output)
        for name, output in streams.items():
            output.text = as_seen(NOISE.sub("", output.text) if name == "stderr" else output.text)
        cell.outputs = [output for output in kept if output.output_type != "stream" or output.text.strip()]
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def main(paths):
    for path in map(pathlib.Path, paths):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            Client(notebook, folder, show=True).execute()
        nbformat.write(tidy(notebook), path)
        print(f"\n{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
