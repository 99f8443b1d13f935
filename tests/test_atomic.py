import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from keras_vit._atomic import aside_of, locked, move, named_errors, write_text, written_aside


class Interrupted(Exception):
    pass


def contents(folder):
    """Returns every file below a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_appears_whole_when_the_block_is_done(tmp_path):
    path = tmp_path / "file.txt"
    with written_aside(path) as aside:
        aside.write_text("new")
        assert not path.exists()
        assert (aside.parent, aside.suffix) == (path.parent, ".txt")
    assert contents(tmp_path) == {"file.txt": "new"}


def test_an_older_file_is_replaced_only_then(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with written_aside(str(path)) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
    assert contents(tmp_path) == {"file.txt": "new"}


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt])
@pytest.mark.parametrize("old", [{}, {"file.txt": "old"}])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, old, error):
    for name, text in old.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error), written_aside(tmp_path / "file.txt") as aside:
        aside.write_text("half")
        raise error
    assert contents(tmp_path) == old
    assert list(tmp_path.iterdir()) == [tmp_path / name for name in old]


def test_a_failure_before_anything_was_written(tmp_path):
    with pytest.raises(Interrupted), written_aside(tmp_path / "file.txt"):
        raise Interrupted
    assert list(tmp_path.iterdir()) == []


def make(folder, text):
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file.txt").write_text(text)


def test_a_folder_appears_whole_and_replaces_an_older_one_with_all_that_was_in_it(tmp_path):
    with written_aside(tmp_path / "folder") as aside:
        make(aside, "old")
        (aside / "stale.txt").write_text("stale")
    assert contents(tmp_path) == {"folder/inner/file.txt": "old", "folder/stale.txt": "stale"}
    with written_aside(tmp_path / "folder") as aside:
        make(aside, "new")
    assert contents(tmp_path) == {"folder/inner/file.txt": "new"}


def test_a_failure_leaves_an_older_folder(tmp_path):
    make(tmp_path / "folder", "old")
    with pytest.raises(Interrupted), written_aside(tmp_path / "folder") as aside:
        make(aside, "half")
        raise Interrupted
    assert contents(tmp_path) == {"folder/inner/file.txt": "old"}
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_block_that_wrote_nothing_fails_and_leaves_the_old_file(tmp_path):
    make(tmp_path / "folder", "old")
    (tmp_path / "file.txt").write_text("old")
    for name in ("folder", "file.txt"):
        with pytest.raises(FileNotFoundError), written_aside(tmp_path / name):
            pass
    assert contents(tmp_path) == {"folder/inner/file.txt": "old", "file.txt": "old"}


def test_a_file_does_not_replace_a_folder_nor_the_reverse(tmp_path):
    make(tmp_path / "folder", "old")
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(OSError), written_aside(tmp_path / "folder") as aside:
        aside.write_text("a file")
    with pytest.raises(OSError), written_aside(tmp_path / "file.txt") as aside:
        make(aside, "a folder")
    assert contents(tmp_path) == {"folder/inner/file.txt": "old", "file.txt": "old"}
    assert len(list(tmp_path.iterdir())) == 2


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "file.txt", "text")
    assert contents(tmp_path) == {"a/b/file.txt": "text"}


def test_text_is_utf_8(tmp_path):
    write_text(tmp_path / "file.txt", "Löwe 猫\n")
    assert (tmp_path / "file.txt").read_bytes() == "Löwe 猫\n".encode()


def test_two_files_at_once_do_not_meet(tmp_path):
    with written_aside(tmp_path / "one.txt") as one, written_aside(tmp_path / "two.txt") as two:
        assert isinstance(one, pathlib.Path)
        one.write_text("1")
        two.write_text("2")
    assert contents(tmp_path) == {"one.txt": "1", "two.txt": "2"}


# ---- power cuts, killed processes, full disks


def test_what_is_written_is_on_the_disk_before_it_has_its_name_and_the_name_after(tmp_path, monkeypatch):
    events, sync, replace = [], os.fsync, os.replace

    def synced(opened):
        events.append(os.stat(opened).st_ino)
        sync(opened)

    def replaced(source, target):
        events.append("renamed")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    with written_aside(tmp_path / "folder") as aside:
        make(aside, "new")
        inner = [path.stat().st_ino for path in (aside, aside / "inner", aside / "inner" / "file.txt")]
    assert events == [*inner, "renamed", tmp_path.stat().st_ino]
    events.clear()
    (tmp_path / "part").write_text("downloaded")
    move(tmp_path / "part", tmp_path / "file")
    assert events == [(tmp_path / "file").stat().st_ino, "renamed", tmp_path.stat().st_ino]


@pytest.fixture
def ended():
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_leftovers_of_ended_processes_are_removed_by_the_next_write(tmp_path, monkeypatch, ended):
    own = aside_of(tmp_path / "saved_model")
    names = {
        own.name.replace(str(os.getpid()), str(ended)): False,
        own.name.replace(str(os.getpid()), str(ended)) + ".old": False,
        own.name.replace(str(os.getpid()), "9" * 30): False,  # no process has this number
        aside_of(tmp_path / "page.html").name: True,  # of this process
        own.name.replace(str(os.getpid()), str(os.getppid())): True,
        f".{ended}-01234567.saved_model": True,  # of another host
        f".{ended}.saved_model": True,
        f".{ended}-notes.txt": True,
    }
    for name in names:
        make(tmp_path / name, "half")
    write_text(tmp_path / "labels.txt", "")
    assert {name: (tmp_path / name).exists() for name in names} == names
    stat = os.stat
    monkeypatch.setattr(
        "keras_vit._atomic.time.time", lambda: stat(tmp_path).st_ctime + 90_000
    )  # a day later, no host writes them
    write_text(tmp_path / "labels.txt", "")
    assert {path.name for path in tmp_path.iterdir()} == {"labels.txt", f".{ended}.saved_model", f".{ended}-notes.txt"}


def test_an_own_leftover_is_replaced(tmp_path):
    make(aside_of(tmp_path / "folder"), "stale")  # of a process that had the number of this one
    with written_aside(tmp_path / "folder") as aside:
        aside.mkdir()
    assert contents(tmp_path) == {}


class Library(Exception):
    """As TensorFlow reports a full disk."""


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "error, code",
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (OSError(errno.EINVAL, "Invalid argument"), errno.EINVAL),
        (OSError("Unable to write (errno = 28, error message = 'No space left on device')"), errno.ENOSPC),
        (Library("/tmp/x/variables.data; No space left on device"), errno.ENOSPC),
        (Library("/tmp/x/variables.data; Permission denied"), errno.EACCES),
    ],
)
def test_errors_of_the_disk_name_the_file_and_what_to_do(tmp_path, error, code):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with pytest.raises(OSError) as raised, written_aside(tmp_path / "outer"), written_aside(path) as aside:
        aside.write_text("half")
        raise error
    assert raised.value.errno == code
    words = f" ({error})" if isinstance(error, Library) else ""
    assert str(raised.value).startswith(f"{path} could not be written: {os.strerror(code)}{words}. Free some space")
    assert contents(tmp_path) == {"model.keras": "old"}


def test_errors_about_other_files_stay(tmp_path):
    for error in (FileNotFoundError(errno.ENOENT, "No such file", "image.jpg"), OSError("damaged"), ValueError("x")):
        with pytest.raises(type(error)) as raised, named_errors(tmp_path / "file"):
            raise error
        assert raised.value is error


def test_a_disk_that_is_full_at_the_sync_is_named_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=r"page.html could not be written: No space"):
        write_text(tmp_path / "page.html", "page")
    assert contents(tmp_path) == {}


# ---- locks

HOLD = """
import sys, time
from keras_vit_command import main
from keras_vit._atomic import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_writes_until_that_one_is_killed(tmp_path):
    folder = tmp_path / "runs" / "digits"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ValueError) as error, locked(folder):
            pass
        holder = json.loads((folder / ".lock.json").read_text())
        assert holder["process"] == str(process.pid)
        for value in (str(folder), *holder.values()):
            assert value in str(error.value)
        for damaged in ("", "[]", "{}", "[" * 100_000, '{"process": {}}'):
            (folder / ".lock.json").write_text(damaged)
            with pytest.raises(ValueError, match="to which another process writes"), locked(folder):
                pass
        process.send_signal(signal.SIGKILL)
    with locked(folder):
        with locked(str(folder)):  # the same run's export
            write_text(folder / "file.txt", "x")
        assert json.loads((folder / ".lock.json").read_text())["process"] == str(os.getpid())
    assert contents(tmp_path) == {"runs/digits/file.txt": "x"}


def test_a_folder_that_stays_empty_is_not_left(tmp_path):
    with pytest.raises(Interrupted), locked(tmp_path / "runs" / "digits"):
        raise Interrupted
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "own").mkdir()
    with locked(tmp_path / "own"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_a_folder_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file/run could not be written: Not a directory"), locked(tmp_path / "file/run"):
        pass
