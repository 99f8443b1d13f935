import contextlib
import errno
import inspect
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from keras_vit._atomic import write_text
from keras_vit.training.logs import Logs


def row(step, **values):
    return {"epoch": step // 7, "step": step, "loss": 1 / (step + 1), "accuracy": step / 100, **values}


def drawn(folder):
    """Returns what TensorBoard reads from a folder, [(step, tag, value)], file after file."""
    points = []
    for path in sorted((folder / "tensorboard").glob("*tfevents*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                points.append((event.step, value.tag, tf.make_ndarray(value.tensor).item()))
    return points


def curves(rows):
    return [(r["step"], name, float(np.float32(r[name]))) for r in rows for name in r if name != "step"]


def assert_logged(folder, rows):
    assert Logs(folder).rows() == rows
    assert drawn(folder) == curves(rows)


def test_rows_stand_in_both_files_as_soon_as_they_are_written(tmp_path):
    logs = Logs(tmp_path / "run")
    for step in (7, 14, 21):
        logs.append(row(step))
        assert_logged(tmp_path / "run", [row(done) for done in range(7, step + 1, 7)])
    text = (tmp_path / "run" / "history.csv").read_text()
    assert text.splitlines()[:2] == ["epoch,step,loss,accuracy", "1,7,0.125,0.07"]
    logs.close()


def test_a_value_that_is_missing_is_an_empty_cell_even_in_the_first_row(tmp_path):
    logs = Logs(tmp_path, tensorboard=False)
    logs.append(row(7, loss=None))
    logs.append(row(14))
    assert "loss" not in logs.rows()[0] and logs.rows()[1] == row(14)
    assert (tmp_path / "history.csv").read_text().splitlines()[1] == "1,7,,0.07"


def test_numbers_come_back_exactly(tmp_path):
    logs = Logs(tmp_path, tensorboard=False)
    values = {"step": np.int64(3), "loss": np.float32(0.1), "rate": 1e-300, "big": 2**60, "mean": float("inf")}
    logs.append(values)
    assert logs.rows() == [values]
    assert [type(value) for value in logs.rows()[0].values()] == [int, float, float, int, float]
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_a_later_row_may_leave_values_out_and_not_bring_new_ones(tmp_path):
    logs = Logs(tmp_path)
    rows = [row(1, **{"top-5, validation": 0.5}), row(2), {"step": 3, "loss": 2.5}]
    for values in rows:
        logs.append(values)
    assert_logged(tmp_path, rows)
    assert (tmp_path / "history.csv").read_text().splitlines()[-1] == ",3,2.5,,"
    with pytest.raises(ValueError, match="Expected the columns .*Received: unknown .*'f1'"):
        logs.append(row(4, f1=0.5))
    assert_logged(tmp_path, rows)


@pytest.mark.parametrize(
    "values", [{"loss": 1.0}, {"step": 1.5}, {"step": 4, "loss": "low"}, {"step": None, "loss": 1.0}]
)
def test_values_that_are_not_numbers_are_refused(tmp_path, values):
    with pytest.raises(ValueError, match="Expected numbers, and a step"):
        Logs(tmp_path / "run").append(values)
    assert not (tmp_path / "run" / "history.csv").exists()


def test_a_row_twice_is_refused(tmp_path):
    logs = Logs(tmp_path)
    logs.append(row(7))
    for step in (7, 6):
        with pytest.raises(ValueError, match=f"Expected a step after 7.*Received: step={step}"):
            logs.append(row(step))
        with pytest.raises(ValueError, match="Expected a step after 7"):
            Logs(tmp_path).append(row(step))
    assert_logged(tmp_path, [row(7)])


@pytest.mark.parametrize("step, kept", [(0, 0), (6, 0), (7, 1), (20, 2), (21, 3), (99, 3)])
def test_a_resumed_run_drops_the_rows_after_its_checkpoint(tmp_path, step, kept):
    for done in (7, 14, 21):
        Logs(tmp_path).append(row(done))
    logs = Logs(tmp_path)
    logs.resume(step)
    assert_logged(tmp_path, [row(done) for done in (7, 14, 21)[:kept]])
    logs.append(row(100))
    logs.append(row(101))
    assert_logged(tmp_path, [row(done) for done in (*(7, 14, 21)[:kept], 100, 101)])


def test_a_run_may_go_back_and_on_again_with_the_text_of_its_checkpoint(tmp_path):
    logs = Logs(tmp_path)
    assert logs.text == ""
    for step in (7, 14):
        logs.append(row(step))
    text = logs.text
    logs.resume(7)  # the checkpoint of step 14 could not be read
    logs.append(row(14, loss=9.0))
    logs.resume(14, text)
    assert_logged(tmp_path, [row(7), row(14)])
    assert logs.text == text
    logs.resume(14, "")
    assert_logged(tmp_path, [])


def test_the_same_run_may_go_back(tmp_path):
    logs = Logs(tmp_path)
    for step in (1, 2, 3):
        logs.append(row(step))
    logs.resume(1)
    logs.append(row(2, loss=9.0))
    assert_logged(tmp_path, [row(1), row(2, loss=9.0)])


def test_columns_are_free_again_where_no_row_stays(tmp_path):
    logs = Logs(tmp_path)
    logs.append(row(5))
    logs.resume(0)
    assert logs.rows() == [] and drawn(tmp_path) == []
    logs.append({"step": 1, "f1": 0.5})
    assert_logged(tmp_path, [{"step": 1, "f1": 0.5}])


def test_foreign_files_beside_the_events_stay(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "notes.txt").write_text("mine")
    (tmp_path / "tensorboard" / "events.out.tfevents.1.host.2.0.v2").write_bytes(b"torn")
    Logs(tmp_path).append(row(5))
    assert_logged(tmp_path, [row(5)])
    assert (tmp_path / "tensorboard" / "notes.txt").read_text() == "mine"


def test_a_line_torn_anywhere_is_harmless(tmp_path):
    whole = Logs(tmp_path / "whole", tensorboard=False)
    for step in (1, 2):
        whole.append(row(step))
    text = whole.path.read_bytes()
    first_row, second_row = text.index(b"\n") + 1, text.index(b"\n0,2") + 1
    for end in range(len(text)):
        logs = Logs(tmp_path / str(end), tensorboard=False)
        logs.path.parent.mkdir()
        logs.path.write_bytes(text[:end])
        kept = [] if end < second_row else [row(1)]
        assert logs.rows() == kept
        logs.append(row(2))
        assert logs.rows() == [*kept, row(2)]
        assert logs.path.read_bytes().count(b"\n") == 2 + len(kept)
    assert first_row < second_row


def test_lines_that_are_not_rows_are_named_and_skipped(tmp_path, caplog):
    (tmp_path / "history.csv").write_text("step,loss\n1,0.5\n\0\0\0\n2,low\n,0.5\n3,0.25,7\n4,0.125\n")
    assert Logs(tmp_path).rows() == [{"step": 1, "loss": 0.5}, {"step": 4, "loss": 0.125}]
    assert [line for line in (3, 4, 5, 6) if f"line {line} is not a row" in caplog.text] == [3, 4, 5, 6]
    assert len(caplog.records) == 4


@pytest.mark.parametrize("step", ["nan", "inf", "1.5", "9" * 30, "9" * 5000, "", "x", '"9'])
def test_a_step_that_is_no_step_is_skipped(tmp_path, step):
    (tmp_path / "history.csv").write_text(f"epoch,step,loss\n1,7,0.5\n2,{step},0.4\n3,21,0.3\n")
    logs = Logs(tmp_path)
    logs.resume(30)
    assert [row["step"] for row in logs.rows()] == [7, 21]
    logs.append({"epoch": 4, "step": 28, "loss": 0.2})
    assert_logged(tmp_path, logs.rows())


@pytest.mark.parametrize("head", ["", "{}", "[1]", '"step', "\0", "a" * 200_000, "epoch,\x1b,step" * 9_000 + "s"])
def test_a_damaged_head_is_refused_in_a_short_message(tmp_path, head):
    (tmp_path / "history.csv").write_text(f"{head}\n1,7,0.5\n")
    with pytest.raises(ValueError, match="history.csv") as error:
        Logs(tmp_path).resume(7)
    assert len(str(error.value)) < 1000


def test_another_file_of_that_name_is_refused(tmp_path):
    (tmp_path / "history.csv").write_text("name,year\nViT,2020\n")
    for use in (Logs(tmp_path).rows, lambda: Logs(tmp_path).resume(0), lambda: Logs(tmp_path).append(row(1))):
        with pytest.raises(ValueError, match="history.csv to be a training log"):
            use()
    assert (tmp_path / "history.csv").read_text() == "name,year\nViT,2020\n"


@contextlib.contextmanager
def largest_file(size):
    """Lets no file of this process grow beyond so many bytes; the write that would fails, as on a full disk."""
    old, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (old, hard))


@pytest.mark.parametrize("room", [0, 1, 9])
def test_a_full_disk_is_named_and_leaves_the_history(tmp_path, room):
    logs = Logs(tmp_path, tensorboard=False)
    logs.append(row(1))
    with pytest.raises(OSError, match="history.csv could not be written: File too large. Free some space") as error:
        with largest_file(logs.path.stat().st_size + room):
            logs.append(row(2))
    assert error.value.errno == errno.EFBIG
    assert logs.rows() == [row(1)]
    with pytest.raises(OSError, match="history.csv could not be written"), largest_file(room):
        logs.resume(1)
    assert logs.rows() == [row(1)]
    logs.append(row(2))
    assert logs.rows() == [row(1), row(2)]


def test_a_disk_too_full_for_the_events_is_named(tmp_path):
    logs = Logs(tmp_path)
    logs.append(row(1))
    size = max(path.stat().st_size for path in (tmp_path / "tensorboard").iterdir())
    with pytest.raises(OSError, match="tensorboard could not be written"), largest_file(size + 5):
        logs.append(row(2))
    again = Logs(tmp_path)
    again.resume(1)
    again.append(row(2))
    assert_logged(tmp_path, [row(1), row(2)])


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(OSError, match="history.csv could not be written: Read-only file system"):
        Logs(tmp_path / "run").append(row(1))


def run(folder, last, report=lambda step: None):
    """Resumes from its state, and writes the row of a step before the state."""
    state = folder / "state.txt"
    first = int(state.read_text()) if state.exists() else 0
    logs = Logs(folder)
    logs.resume(first)
    for step in range(first + 1, last + 1):
        logs.append({"step": step, "loss": 1 / step})
        report(step)
        if step % 3 == 0:
            write_text(state, str(step))


# TensorFlow takes seconds to import, so one process does it and each run to be killed is a fork of it.
KILLS = """
import os, pathlib, signal, sys
from keras_vit._atomic import write_text
from keras_vit.training.logs import Logs

{run}
for lines in (20, 31, 42, 53, 64):
    reading, writing = os.pipe()
    if not (child := os.fork()):
        run(pathlib.Path(sys.argv[1]), 10**6, lambda step: os.write(writing, b"."))
    os.close(writing)
    while lines:
        read = os.read(reading, lines)
        assert read, "the run ended by itself"
        lines -= len(read)
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


@pytest.mark.soak
def test_a_run_killed_again_and_again_logs_as_one_that_was_not(tmp_path):
    subprocess.run([sys.executable, "-c", KILLS.format(run=inspect.getsource(run)), tmp_path], check=True)
    last = int((tmp_path / "state.txt").read_text()) + 5
    assert last > 150
    run(tmp_path, last)
    assert_logged(tmp_path, [{"step": step, "loss": 1 / step} for step in range(1, last + 1)])
