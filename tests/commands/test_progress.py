"""Progress messages, without and with logging that the user has set up."""

import io
import logging
import subprocess
import sys

import pytest

from keras_vit._progress import seconds_between_updates, show_progress
from keras_vit.training import display
from keras_vit.training.schedules import Plan

OURS, TENSORFLOW = logging.getLogger("keras_vit"), logging.getLogger("tensorflow")


@pytest.fixture(autouse=True)
def untouched():
    """Each test meets loggers as a new process has them, and leaves them as they were."""
    root = logging.getLogger()
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in (OURS, root, TENSORFLOW)]
    OURS.handlers, root.handlers, OURS.propagate = [], [], True
    OURS.setLevel(logging.NOTSET)
    TENSORFLOW.setLevel(logging.INFO)
    root.setLevel(logging.WARNING)
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def heard(logger, level=logging.NOTSET):
    """Adds a handler to a logger, and returns the stream that it writes to."""
    handler = logging.StreamHandler(io.StringIO())
    logger.addHandler(handler)
    logger.setLevel(level)
    return handler.stream


@show_progress()
def work():
    OURS.info("step 1")
    OURS.warning("a torn file")


def test_where_nobody_set_up_logging_it_is_printed_while_the_work_runs(capsys):
    logging.getLogger().handlers = []  # pytest's own
    work()
    assert capsys.readouterr() == ("step 1\na torn file\n", "")
    OURS.info("later")
    assert capsys.readouterr() == ("", "")
    assert (OURS.handlers, OURS.level, OURS.propagate) == ([], logging.NOTSET, True)


def test_work_inside_work_is_printed_once(capsys):
    with show_progress():
        work()
        work()
    assert capsys.readouterr().out.count("step 1") == 2


def test_an_error_leaves_the_loggers_as_they_were(capsys):
    with pytest.raises(KeyError), show_progress():
        raise KeyError
    assert (OURS.handlers, OURS.level, OURS.propagate) == ([], logging.NOTSET, True)


def test_logging_that_hears_it_stays_alone(capsys):
    stream = heard(logging.getLogger(), logging.INFO)
    work()
    assert stream.getvalue() == "step 1\na torn file\n" and capsys.readouterr() == ("", "")


def test_a_handler_of_our_logger_stays_alone(capsys):
    stream = heard(OURS, logging.WARNING)
    work()
    assert stream.getvalue() == "a torn file\n" and capsys.readouterr().out == ""


def test_a_root_logger_with_a_handler_that_nobody_chose_is_told_warnings_alone(capsys):
    """As a notebook's kernel has it."""
    stream = heard(logging.getLogger(), logging.WARNING)
    work()
    assert stream.getvalue() == "a torn file\n" and capsys.readouterr() == ("step 1\n", "")


@pytest.mark.parametrize("logger", [OURS, logging.getLogger()])
def test_who_asks_for_less_gets_less(capsys, logger):
    logger.setLevel(logging.ERROR)
    work()
    assert capsys.readouterr().out == ""


def test_tensorflow_names_no_folders_meanwhile(capsys):
    with show_progress():
        assert TENSORFLOW.level == logging.WARNING
    assert TENSORFLOW.level == logging.INFO


# The line that is written over


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Notebook(io.StringIO):
    """What a notebook's kernel puts in the place of the screen, told by its module."""


Notebook.__module__ = "ipykernel.iostream"


@pytest.mark.parametrize("stream, seconds", [(Terminal, 0.5), (Notebook, 2.0), (io.StringIO, None)])
def test_how_often_a_line_is_written_over(monkeypatch, stream, seconds):
    monkeypatch.setattr(sys, "stdout", stream())
    with show_progress():
        assert seconds_between_updates() == seconds
    OURS.setLevel(logging.WARNING)
    assert seconds_between_updates() is None


def test_no_time_is_left_before_ten_steps(monkeypatch):
    """A step a second, after one of a minute that compiles; 16 images each."""
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(display, "_peak_memory", lambda: "")
    monkeypatch.setattr(sys, "stdout", Notebook())
    with show_progress():
        shows = display.Display(Plan(30, 15, 0), 16)
        clock[0] += 60
        for step in range(1, 31):
            shows.step(step, {"loss": 0.5, "accuracy": 0.25})
            if step % 15 == 0:
                row = {"epoch": step // 15, "step": step, "loss": 0.5, "accuracy": 0.25, "images_per_second": 3.2}
                shows.epoch(row)
            clock[0] += 1
    written = [line.strip() for line in sys.stdout.getvalue().replace("\n", "\r").split("\r") if line.strip()]
    moving = {int(line.split()[1]): line for line in written if line.startswith("step")}
    assert moving[1] == "step 1 of 30: loss 0.5000, accuracy 25.0%"
    assert moving[9] == "step 9 of 30: loss 0.5000, accuracy 25.0%, 16 images/s"
    assert [step for step, line in moving.items() if "left" not in line] == [1, 3, 5, 7, 9]
    assert moving[11].endswith("16 images/s, 0 min 19 s left")
    assert [line for line in written if line.startswith("epoch")] == [
        "epoch 1/2: loss 0.5000, accuracy 25.0%, 3 images/s, 0 min 15 s left",
        "epoch 2/2: loss 0.5000, accuracy 25.0%, 3 images/s",
    ]


# As a script of a user's runs it

SCRIPT = """
import sys
import keras_vit
print("imported")
from keras_vit.commands.export import export
from keras_vit.commands.fit import fit
from keras_vit.commands.lr import find_learning_rate
from keras_vit.training.recipe import Recipe
from keras_vit.models.config import Variant

recipe = Recipe(data="digits", variant=Variant(4, 16, 1, 2, 24), image_size=8, epochs=1, warmup_epochs=0)
find_learning_rate(recipe, 10)
print("found")
fit(Recipe(**{**vars(recipe), "exports": ("tflite-float32",)}), sys.argv[1])
print("fitted")
export(sys.argv[1], ["tflite-int8"])
"""


@pytest.mark.soak
def test_each_long_stretch_is_announced_once(tmp_path):
    folder = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("imported\n")  # the import alone says nothing
    searched, rest = done.stdout.split("found\n")
    fitted, exported = rest.split("fitted\n")
    assert searched.count("trying learning rates in at most 10 steps") == searched.count("step 1 of 10: loss") == 1
    lines = [
        "the first step compiles the training",
        "epoch 1/1: loss",
        "evaluates the model on 360 test images",
        "runs the model on 360 images",
        f"exports {folder}/model_float32.tflite",
        "runs it on 360 images as a client does",
        "writes the report and the model card",
    ]
    assert [fitted.count(line) for line in lines] == [1] * len(lines)
    assert sorted(map(fitted.index, lines)) == list(map(fitted.index, lines))
    assert exported.count(f"exports {folder}/model_int8.tflite") == 1
