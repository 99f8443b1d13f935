import contextlib
import errno
import inspect
import json
import logging
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import pytest

from keras_vit._atomic import aside_of
from keras_vit.training.checkpoints import MANIFEST, STATE, TrainingCheckpoints, _seal


def state(step, size):
    return {"kernel": np.arange(size, dtype="float32") + step, "momentum": np.full(7, step, "int64")}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def steps(folder):
    return [int(name.split("_")[1]) for name in names(folder)]


def assert_holds(checkpoint, step, size):
    assert (checkpoint.step, checkpoint.notes) == (step, {"step": step})
    arrays = checkpoint.arrays()
    expected = state(step, size)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


@pytest.fixture
def warned(caplog):
    """The warnings so far."""
    caplog.set_level(logging.WARNING, logger="keras_vit")
    return lambda: [record.getMessage() for record in caplog.records]


def test_every_dtype_comes_back_exactly(tmp_path):
    random = np.random.default_rng(3)
    arrays = {
        "block_00/attention/query/kernel": random.normal(size=(5, 7, 3)).astype("float32"),
        "momentum": random.normal(size=(11, 2)).astype(ml_dtypes.bfloat16),
        "narrow": random.normal(size=13).astype(ml_dtypes.float8_e5m2),
        "scale": np.array(2.5, ml_dtypes.bfloat16),
        "every other": np.arange(12).astype(ml_dtypes.bfloat16).reshape(3, 4)[:, ::2],
        "half": np.array([6e-8, 65504, -0.0], "float16"),
        "seed": np.array([0, 2**32 - 1], "uint32"),
        "iterations": np.array(2**53 + 1),
        "empty": np.zeros((0, 3), "float32"),
        "turned": np.asfortranarray(random.normal(size=(3, 5))),
        "big-endian": np.arange(3, dtype=">i4"),
        "chosen": np.array([True, False]),
        "file": np.array(["cat", "Löwe"]),  # a name that np.savez takes for its own
        "file.npy": np.array([1 + 2j]),
    }
    TrainingCheckpoints(tmp_path / "run" / "checkpoints").save(17, arrays, {})
    read = TrainingCheckpoints(tmp_path / "run" / "checkpoints").newest().arrays()
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape), name
        assert read[name].tobytes() == array.tobytes(), name


def test_a_checkpoint_is_a_folder_of_two_plain_files(tmp_path):
    saved = TrainingCheckpoints(tmp_path).save(123, state(123, 5), {"rate": 0.1, "names": ("a", "b")}, best=True)
    assert saved.path == tmp_path / "step_00000123"
    assert names(saved.path) == [MANIFEST, STATE]
    with np.load(saved.path / STATE, allow_pickle=False) as file:  # no tool of ours is needed
        np.testing.assert_array_equal(file["kernel"], state(123, 5)["kernel"])
    result = TrainingCheckpoints(tmp_path).newest()
    assert result == saved  # what JSON makes of the notes, at once
    assert result.notes == {"rate": 0.1, "names": ["a", "b"]} and result.best


def test_nothing_is_found_where_nothing_was_saved(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path / "none")
    assert checkpoints.newest() is None and checkpoints.best() is None
    assert not (tmp_path / "none").exists()


def test_values_that_are_not_finite_are_refused_by_name(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path / "checkpoints")
    arrays = {
        "good": np.ones(3),
        "head/kernel": np.array([[1, np.nan], [np.inf, 2]], "float32"),
        "momentum": np.array([-np.inf, 1], ml_dtypes.bfloat16),
        "what": np.array([None]),
    }
    with pytest.raises(ValueError, match="at step 5, which is not saved") as error:
        checkpoints.save(5, arrays, {})
    assert "head/kernel: 2 of 4 values are NaN or infinite" in str(error.value)
    assert "momentum: 1 of 2" in str(error.value) and "what: object" in str(error.value)
    assert "good" not in str(error.value)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("notes", [{"best": float("inf")}, {"rate": np.float32(1)}, {"path": object()}])
def test_notes_that_json_cannot_hold_are_refused(tmp_path, notes):
    with pytest.raises(ValueError, match="Expected notes that JSON can hold"):
        TrainingCheckpoints(tmp_path / "checkpoints").save(5, state(5, 3), notes)
    assert not (tmp_path / "checkpoints").exists()


def test_keep_and_step_are_checked(tmp_path):
    with pytest.raises(ValueError, match="Received: keep=0"):
        TrainingCheckpoints(tmp_path, keep=0)
    with pytest.raises(ValueError, match="Received: step=-1"):
        TrainingCheckpoints(tmp_path).save(-1, {}, {})


# ---- which are kept


def test_the_newest_and_the_best_stay(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path, keep=2)
    stood = []
    for step in range(7):
        checkpoints.save(step, state(step, 3), {"step": step}, best=step in (1, 3))
        stood.append(steps(tmp_path))
    assert stood == [[0], [0, 1], [1, 2], [2, 3], [3, 4], [3, 4, 5], [3, 5, 6]]
    assert_holds(checkpoints.newest(), 6, 3)
    assert_holds(checkpoints.best(), 3, 3)


def test_another_process_continues_with_the_same_checkpoints(tmp_path):
    for step in range(4):
        TrainingCheckpoints(tmp_path, keep=2).save(step, state(step, 3), {"step": step}, best=step == 0)
    assert steps(tmp_path) == [0, 2, 3]


def test_a_step_is_replaced_by_its_newer_checkpoint(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path, keep=2)
    for step, size in [(1, 3), (2, 3), (2, 5), (2, 7)]:
        checkpoints.save(step, state(step, size), {"step": step})
    assert names(tmp_path) == ["step_00000001", "step_00000002_3"]
    assert_holds(TrainingCheckpoints(tmp_path).newest(), 2, 7)
    checkpoints.save(2, state(2, 11), {"step": 2}, best=True)
    checkpoints.save(2, state(2, 13), {"step": 2})  # and yet the best stays
    assert_holds(checkpoints.newest(), 2, 13)
    assert_holds(checkpoints.best(), 2, 11)


def test_a_step_behind_the_newest_is_refused(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path)
    checkpoints.save(7, state(7, 3), {"step": 7})
    with pytest.raises(ValueError, match="Expected a step at or after 7.*Received: step=5"):
        checkpoints.save(5, state(5, 3), {"step": 5})
    assert steps(tmp_path) == [7]


def ended_process():
    """Returns the number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_removal_that_is_cut_off_leaves_no_half_checkpoint(tmp_path, monkeypatch, warned):
    checkpoints = TrainingCheckpoints(tmp_path, keep=1)
    checkpoints.save(1, state(1, 3), {"step": 1})

    def cut_off(path):
        (path / STATE).unlink()
        raise OSError(errno.EIO, "cut off")

    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", ended_process)
        patch.setattr(shutil, "rmtree", cut_off)
        checkpoints.save(2, state(2, 3), {"step": 2})
    hidden, newest = names(tmp_path)
    assert re.fullmatch(r"\.\d+-[0-9a-f]{8}\.step_00000001\.old", hidden) and newest == "step_00000002"
    assert "step_00000001 could not be removed" in warned()[0]
    assert_holds(TrainingCheckpoints(tmp_path, keep=1).newest(), 2, 3)
    TrainingCheckpoints(tmp_path, keep=1).save(3, state(3, 3), {"step": 3})
    assert names(tmp_path) == ["step_00000003"]


def test_leftovers_are_cleared_by_the_first_save_and_not_by_reading(tmp_path, monkeypatch):
    foreign = [".DS_Store", ".18.step_4", ".step_00000004", aside_of(tmp_path / "written_now").name]
    monkeypatch.setattr(os, "getpid", ended_process)
    leftovers = [aside_of(tmp_path / name).name for name in ("step_00000004", "step_00000001.old")]
    for name in leftovers + foreign:
        (tmp_path / name).mkdir()
        (tmp_path / name / STATE).write_bytes(b"half")
    checkpoints = TrainingCheckpoints(tmp_path)
    assert checkpoints.newest() is None
    assert names(tmp_path) == sorted(leftovers + foreign)
    checkpoints.save(5, state(5, 3), {"step": 5})
    assert names(tmp_path) == sorted([*foreign, "step_00000005"])


# ---- torn, altered, foreign


def cut(path):
    os.truncate(path / STATE, (path / STATE).stat().st_size - 1)


def flip(name):
    def damage(path):
        content = bytearray((path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (path / name).write_bytes(content)

    return damage


def another_step(path):
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(manifest | {"notes": {"step": 4}}))


def sealed(**fields):
    """Returns a damage: a manifest with other fields, or without those of None, whose seal is right."""

    def damage(path):
        manifest = json.loads((path / MANIFEST).read_text()) | fields
        manifest = {name: value for name, value in manifest.items() if value is not None and name != "seal"}
        (path / MANIFEST).write_text(json.dumps(manifest | {"seal": _seal(manifest)}))

    return damage


def removed(name):
    return lambda path: (path / name).unlink()


def written(text):
    return lambda path: (path / MANIFEST).write_text(text)


DAMAGES = {
    "truncated": (cut, "state.npz has"),
    "empty": (lambda path: os.truncate(path / STATE, 0), "state.npz has 0 bytes"),
    "flipped": (flip(STATE), "state.npz was altered"),
    "no state": (removed(STATE), "No such file"),
    "no manifest": (removed(MANIFEST), "No such file"),
    "no JSON": (written("{"), "manifest.json is not the manifest"),
    "no text": (lambda path: (path / MANIFEST).write_bytes(b"\xff"), "manifest.json is not the manifest"),
    "no manifest's JSON": (written("[1]"), "manifest.json is not the manifest"),
    "deep JSON": (written("[" * 100_000), "manifest.json is not the manifest"),
    "sealed without its step": (sealed(step=None), "manifest.json lacks step"),
    "sealed with other types": (sealed(notes=[], dtypes=3, best="yes"), "manifest.json lacks best, notes, dtypes"),
    "other notes": (another_step, "manifest.json was altered"),
    "renamed": (lambda path: path.rename(path.with_name("step_00000009")), "manifest.json is that of step 3"),
}


@pytest.mark.parametrize("damage, reason", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_skipped_with_a_warning_and_left(tmp_path, warned, damage, reason):
    for step in (1, 2, 3):
        TrainingCheckpoints(tmp_path).save(step, state(step, 1000), {"step": step}, best=True)
    damage(tmp_path / "step_00000003")
    before = names(tmp_path)
    checkpoints = TrainingCheckpoints(tmp_path, keep=1)
    assert_holds(checkpoints.newest(), 2, 1000)
    assert_holds(checkpoints.best(), 2, 1000)
    (warning,) = warned()  # once
    assert before[-1] in warning and reason in warning
    assert names(tmp_path) == before

    saved = checkpoints.save(3, state(3, 1000), {"step": 3})  # as the run that goes on will
    assert_holds(saved, 3, 1000)
    assert {before[-1], "step_00000002", saved.path.name} == set(names(tmp_path))  # 2 is the best still
    if before[-1] == "step_00000003":
        assert_holds(TrainingCheckpoints(tmp_path).newest(), 3, 1000)


def test_a_state_that_changes_later_is_seen(tmp_path, warned):
    checkpoints = TrainingCheckpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, state(step, 1000), {"step": step})
    newest = checkpoints.newest()
    flip(STATE)(newest.path)
    os.utime(newest.path / STATE, ns=(5, 5))  # two writes within one tick of a coarse clock look alike
    assert_holds(checkpoints.newest(), 1, 1000)
    with pytest.raises(ValueError, match="state.npz was altered"):
        newest.arrays()
    shutil.rmtree(newest.path)
    with pytest.raises(FileNotFoundError):
        newest.arrays()


def test_other_files_are_named_and_left(tmp_path, warned):
    checkpoints = TrainingCheckpoints(tmp_path, keep=1)
    (tmp_path / "step_00000007").mkdir()
    (tmp_path / "step_00000007" / "thesis.tex").write_text("years")
    (tmp_path / "step_00000008").write_text("a file")
    (tmp_path / "notes.txt").write_text("hello")
    for step in (1, 2, 7):
        checkpoints.save(step, state(step, 3), {"step": step})
    assert names(tmp_path) == ["notes.txt", "step_00000007", "step_00000007_2", "step_00000008"]
    assert_holds(checkpoints.newest(), 7, 3)
    assert {re.search(r"(\w+(\.txt)?) is not an intact checkpoint", warning)[1] for warning in warned()} == {
        "notes.txt",
        "step_00000007",
        "step_00000008",
    }


# ---- disks


@contextlib.contextmanager
def largest_file(size):
    """Lets no file of this process grow beyond so many bytes; the write that would fails, as on a full disk."""
    old, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (old, hard))


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.write_text("a file")
    with pytest.raises(OSError, match="Step 1 could not be saved in .* Move the file .*checkpoints away"):
        TrainingCheckpoints(folder).save(1, state(1, 3), {"step": 1})
    assert folder.read_text() == "a file"


def assert_kept(folder, checkpoints, error):
    assert names(folder) == ["step_00000001", "step_00000002"]
    message = str(error.value)
    assert f"Step 3 could not be saved in {folder}" in message
    assert f"{folder / 'step_00000002'}, of step 2. Free some space (0.4 MB a checkpoint)" in message
    assert "run the same command again" in message
    assert_holds(TrainingCheckpoints(folder).newest(), 2, 100_000)
    checkpoints.save(3, state(3, 100_000), {"step": 3})  # there is room again
    assert_holds(checkpoints.newest(), 3, 100_000)


@pytest.fixture
def two(tmp_path):
    """A folder with the checkpoints of steps 1 and 2, and their `TrainingCheckpoints`."""
    checkpoints = TrainingCheckpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, state(step, 100_000), {"step": step})
    return tmp_path, checkpoints


@pytest.mark.parametrize("room", [0, 100, 200_000, -1])
def test_a_disk_that_fills_up_leaves_the_old_ones(two, room):
    folder, checkpoints = two
    whole = (folder / "step_00000002" / STATE).stat().st_size
    with pytest.raises(OSError) as error, largest_file(room % whole):
        checkpoints.save(3, state(3, 100_000), {"step": 3})
    assert error.value.errno == errno.EFBIG
    assert_kept(folder, checkpoints, error)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("synced", [0, 1, 2])
def test_a_disk_that_fails_late_leaves_the_old_ones(two, monkeypatch, code, synced):
    folder, checkpoints = two
    calls = []

    def fail_at_last(file):
        calls.append(file)
        if len(calls) > synced:
            raise OSError(code, os.strerror(code))

    with pytest.raises(OSError, match=os.strerror(code)) as error, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_at_last)
        checkpoints.save(3, state(3, 100_000), {"step": 3})
    assert error.value.errno == code
    assert_kept(folder, checkpoints, error)


def test_a_folder_that_is_read_only_is_named(two, monkeypatch):
    folder, checkpoints = two

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.raises(OSError, match="Read-only file system") as error, monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        checkpoints.save(3, state(3, 100_000), {"step": 3})
    assert_kept(folder, checkpoints, error)


def test_the_first_checkpoint_may_fail_too(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="There is no checkpoint yet"):
        TrainingCheckpoints(tmp_path / "file" / "checkpoints").save(3, state(3, 3), {})


def test_a_drive_that_cannot_sync_folders_serves(tmp_path, monkeypatch):
    sync = os.fsync

    def files_only(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(file)

    monkeypatch.setattr(os, "fsync", files_only)
    assert_holds(TrainingCheckpoints(tmp_path).save(3, state(3, 3), {"step": 3}), 3, 3)


# ---- processes

# What the programs begin with. After its command, the package imports no Keras, which would take seconds each time.
PROGRAM = f"""
import keras_vit_command
import sys
import numpy as np
from keras_vit.training.checkpoints import TrainingCheckpoints

{inspect.getsource(state)}
"""

WRITER = """
folder, size = sys.argv[1], int(sys.argv[2])
checkpoints = TrainingCheckpoints(folder, keep=2)
for step in range(checkpoints.newest().step + 1, 10**6):
    checkpoints.save(step, state(step, size), {"step": step}, best=step % 5 == 0)
    print(step, flush=True)
"""

READER = """
import json, logging
heard = []
logging.getLogger("keras_vit").addFilter(lambda record: heard.append(record.getMessage()))
folder, size = sys.argv[1], int(sys.argv[2])
checkpoints, seen = TrainingCheckpoints(folder), [0]
while len(seen) < 6:
    newest = checkpoints.newest()
    try:
        arrays = newest.arrays()
    except FileNotFoundError:
        continue  # a save was faster, and there are newer ones
    expected = state(newest.step, size)
    assert newest.notes == {"step": newest.step} and all((arrays[name] == expected[name]).all() for name in expected)
    assert newest.step >= seen[-1]
    seen += [newest.step] if newest.step > seen[-1] else []
print(json.dumps(heard))
"""


def start(program, *arguments):
    command = [sys.executable, "-c", PROGRAM + program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def written_so_far(folder, writer):
    """Returns the bytes of the state that a process is writing just now, or None."""
    for path in folder.glob(f".{writer.pid}-*.step_*[0-9]/{STATE}"):
        with contextlib.suppress(FileNotFoundError):  # it got its name meanwhile
            return path.stat().st_size


def kill_at(folder, writer, size):
    """Kills a process once the state that it writes has so many bytes; returns how many it has then, None if whole."""
    deadline = time.monotonic() + 60
    while (written_so_far(folder, writer) or -1) < size:
        assert writer.poll() is None and time.monotonic() < deadline
        time.sleep(0.0005)
    writer.kill()
    assert writer.wait() == -signal.SIGKILL
    return written_so_far(folder, writer)


def test_kills_in_the_middle_of_a_write_lose_nothing(tmp_path, warned):
    size = 4_000_000  # 16 MB: a write takes long enough to be met
    TrainingCheckpoints(tmp_path).save(0, state(0, size), {"step": 0}, best=True)
    stood, inside = 0, []
    for _ in range(30):
        with start(WRITER, tmp_path, size) as writer:
            saved = int(writer.stdout.readline())
            inside.append(kill_at(tmp_path, writer, len(inside) % 6 / 5 * 4 * size))
            saved = max(saved, *map(int, writer.stdout), saved)
        newest = TrainingCheckpoints(tmp_path).newest()
        assert newest.step >= saved > stood
        stood = newest.step
        assert_holds(newest, stood, size)
        assert TrainingCheckpoints(tmp_path).best().step == stood // 5 * 5
        inside = [bytes for bytes in inside if bytes is not None]  # another kill does not count
        if len(inside) == 7:
            break
    assert len(inside) == 7
    assert len({*inside}) > 3  # at different parts of it
    assert not warned()  # no partial checkpoint ever had a name
    TrainingCheckpoints(tmp_path).save(stood + 1, state(stood + 1, 3), {"step": stood + 1})
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_processes_read_while_another_writes(tmp_path):
    size = 50_000
    TrainingCheckpoints(tmp_path).save(0, state(0, size), {"step": 0})
    with start(WRITER, tmp_path, size) as writer:
        with start(READER, tmp_path, size) as one, start(READER, tmp_path, size) as other:
            said = [reader.communicate(timeout=300)[0] for reader in (one, other)]
        writer.kill()
        assert int(list(writer.stdout)[-1]) >= 5
    assert said == ["[]\n", "[]\n"]  # five different ones each, intact, and none skipped
