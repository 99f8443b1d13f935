import pathlib

import pytest

from keras_vit._atomic import write_text, written_aside


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
