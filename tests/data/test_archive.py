import tracemalloc
import zipfile

import pytest

from keras_vit.data import archive
from keras_vit.data.decoding import FileRange, decode
from keras_vit.data.listing import SPLITS
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")
FOLDERS = {f"{c}/{index}.png": 20 * ord(c) + index for c in "ab" for index in range(10)}
SPLIT_FOLDERS = {
    f"{split}/{name}": n + 500 * k for k, split in enumerate(("train", "val")) for name, n in FOLDERS.items()
}
MORE = {"README.md": b"hello", "a/notes.txt": b"x", "__MACOSX/a/._0.png": b"x", "a/.hidden.png": b"x"}


@pytest.fixture
def pack(write, tmp_path):
    """Writes files into a folder and a zip of it; returns both paths."""

    def pack(files, top="", method=zipfile.ZIP_DEFLATED):
        root = write(files)
        path = tmp_path / "flowers.zip"
        with zipfile.ZipFile(path, "w", method) as file:
            for name in files:
                file.write(root / name, top + name)
        return root, path

    return pack


@pytest.mark.parametrize("files", [FOLDERS | MORE, SPLIT_FOLDERS | MORE])
@pytest.mark.parametrize("top", ["", "flowers/", "deep-1.0/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_the_source_that_its_folder_is(pack, files, top, method):
    root, path = pack(files, top, method)
    folder, zipped = open_source(root), open_source(path)
    assert (zipped.name, zipped.class_names, zipped.digest) == (folder.name, folder.class_names, folder.digest)
    for split in SPLITS:
        one, other = getattr(folder, split), getattr(zipped, split)
        assert one.names == other.names
        assert (one.labels == other.labels).all()
        for here, there in zip(one.images, other.images, strict=True):
            assert (decode(here) == decode(there)).all()
            assert isinstance(there, FileRange if method == zipfile.ZIP_STORED else bytes)


def test_a_file_beside_the_one_folder_does_not_count(pack):
    root, path = pack(FOLDERS, "flowers-main/")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("LICENSE.txt", b"free")
    assert open_source(path).digest == open_source(root).digest


def test_a_member_behind_other_data_is_found(pack):
    root, path = pack(FOLDERS, method=zipfile.ZIP_STORED)
    path.write_bytes(b"#!/bin/sh\nexit\n" + path.read_bytes())  # as a self-extracting file has it
    assert open_source(path).digest == open_source(root).digest


@pytest.mark.parametrize(
    "files, top, message",
    [
        ({"1.png": 1}, "", "1 image outside any class folder"),
        ({"a/1.png": 1}, "", "one class alone, 'a'"),
        ({"a/1.png": 1}, "top/", "one class alone, 'a'"),
        ({"notes.txt": b""}, "", "there is no image in it"),
        ({"test/a/1.png": 1, "test/b/1.png": 2}, "", "no train/ folder next to test/"),
    ],
)
def test_layouts_that_are_refused(pack, files, top, message):
    with pytest.raises(ValueError, match=f"flowers.zip cannot be trained on:\n  - .*{message}"):
        open_source(pack(files, top)[1])


def test_images_that_cannot_be_read(pack):
    _, path = pack(FOLDERS | {"a/bad.png": b"", "b/page.jpg": b"<!DOCTYPE html>"})
    with pytest.raises(ValueError, match="2 images in .*flowers.zip cannot be read"):
        open_source(path)
    assert dict(open_source(path, on_bad_image="skip").bad).keys() == {"a/bad.png", "b/page.jpg"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_named(pack, method):
    _, path = pack(FOLDERS, method=method)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("b/3.png").header_offset
    data[start : start + 80] = bytes(80)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="1 image in .*\n  b/3.png: damaged in the zip file"):
        open_source(path)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_torn_zip(pack, keep):
    path = pack(FOLDERS)[1]
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ValueError, match="is not a whole zip file .* again, or unpack it"):
        open_source(path)


def test_an_encrypted_zip(pack):
    path = pack(FOLDERS)[1]
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\1\2")
    data[entry + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="flowers.zip is not read; unpack it.*\n  'a/0.png' is encrypted"):
        open_source(path)


@pytest.mark.parametrize(
    "name, why",
    [
        ("../a/1.png", "not a path inside"),
        ("a/../../1.png", "not a path inside"),
        ("/etc/1.png", "not a path inside"),
        ("a\\1.png", "not a path inside"),
        ("C:/1.png", "not a path inside"),
        ("a//1.png", "not a path inside"),
        ("a/0.png/1.png", "is a file and a folder"),
        ("a/" * 30_000 + "1.png", "is in more than 100 folders"),
        ("a/" + "x" * 5_000 + ".png", "over 4,096 characters"),
    ],
)
def test_names_that_play_tricks(pack, name, why):
    path = pack(FOLDERS)[1]
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"x")
    with pytest.raises(ValueError, match=f"flowers.zip is not read.*\n.*{why}"):
        open_source(path)


def test_links_doubles_and_other_compressions(pack, image):
    path = pack(FOLDERS)[1]
    with zipfile.ZipFile(path, "a") as file:
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a/0.png", b"another")
        file.writestr("b/tight.png", image(1), zipfile.ZIP_LZMA)
    with pytest.raises(ValueError) as caught:
        open_source(path)
    for fault in (
        "'a/link.png' is a link or a device",
        "'a/0.png' is listed more than once",
        "'b/tight.png' is compressed in a way that is not read",
    ):
        assert fault in str(caught.value)


def test_bombs(pack, monkeypatch):
    path = pack(FOLDERS | {"a/bomb.bmp": b"BM" + bytes(2_000_000)})[1]
    monkeypatch.setattr(archive, "_BOMB", 1_000_000)
    with pytest.raises(ValueError, match="would expand from .* to 2,0.* bytes, which images do not"):
        open_source(path)
    monkeypatch.setattr(archive, "_MEMORY", 1_000_000)
    with pytest.raises(ValueError, match="at most 1,000,000 are held in memory. Unpack it"):
        open_source(path)


def test_a_member_that_is_longer_than_its_header_says(pack):
    path = pack(FOLDERS | {"a/long.bmp": b"BM" + bytes(100_000)})[1]
    with zipfile.ZipFile(path) as file:
        place = path.read_bytes().rindex(b"PK\1\2", 0, path.read_bytes().rindex(b"a/long.bmp"))
        assert file.getinfo("a/long.bmp").file_size == 100_002
    data = bytearray(path.read_bytes())
    data[place + 24 : place + 28] = (500).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="a/long.bmp: damaged in the zip file"):
        open_source(path)


@pytest.mark.parametrize("marked", [True, False])
def test_names_outside_ascii_are_those_of_the_folder(pack, marked):
    """Programs of Linux and macOS write UTF-8 without saying so; old archives hold Latin-1."""
    files = {f"{name}/{n}.png": 10 * i + n for i, name in enumerate(("café", "tea")) for n in range(5)}
    root, path = pack(files)
    if not marked:
        data = path.read_bytes()
        assert data.count("café".encode()) == 10
        for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            parts = data.split(header)
            data = header.join(
                [
                    parts[0],
                    *(p[: flags - 4] + b"\0\0" + p[flags - 2 :] if "café".encode() in p else p for p in parts[1:]),
                ]
            )
        path.write_bytes(data)
    assert open_source(path).class_names == ("café", "tea")
    assert open_source(path).digest == open_source(root).digest


def test_names_that_are_no_text_stay_apart(tmp_path, image):
    path = tmp_path / "old.zip"
    with zipfile.ZipFile(path, "w") as file:
        for n in range(10):
            file.writestr(f"cafXX{n % 2}/{n}.png", image(n))
    data = path.read_bytes().replace(b"cafXX0", b"caf\xe8  ").replace(b"cafXX1", b"caf\xe9  ")
    path.write_bytes(data.replace(b"\xe8  ", b"\xe8_0").replace(b"\xe9  ", b"\xe9_1"))
    assert open_source(path).class_names == (r"caf\xe8_0", r"caf\xe9_1")


def test_folders_around_them_all_do_not_count(pack):
    root, path = pack(FOLDERS, "one/two/three/")
    assert open_source(path).digest == open_source(root).digest


def changed(path, name, place, value):
    """Changes bytes of a member's entry in the directory at the end of a zip file."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    data[at + place : at + place + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize(
    "place, value, message",
    [
        (6, b"\xff", "is not a whole zip file .zip file version 25.5"),
        (8, b"\x20", "'b/9.png' is encrypted or a patch"),
        (42, bytes(4), "'b/9.png' lies where another member does|'a/0.png' lies where"),
        (42, b"\xff\xff\xff\x7f", "b/9.png: damaged in the zip file .no member where"),
        (46, bytes(7), "'' is not a path inside"),
        (-21, b"\x35", "19 members are listed, and 20 counted"),  # the comment before it, which then has this entry
        (46, b"b.9", "is not a whole zip file .'b.9.png' has another name in its own header"),
    ],
)
def test_entries_that_zipfile_fails_on(pack, place, value, message):
    path = pack(FOLDERS)[1]
    changed(path, "b/9.png", place, value)
    with pytest.raises(ValueError, match=message) as caught:
        open_source(path)
    assert str(path) in str(caught.value)


def test_damage_in_a_stored_image_is_found_by_its_checksum(pack):
    _, path = pack({name: b"BM" + bytes(9) if name == "a/0.png" else n for name, n in FOLDERS.items()}, method=0)
    image = open_source(path, on_bad_image="skip").train.images[0]
    data = bytearray(path.read_bytes())
    data[image.offset + image.length - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged: its bytes are not those that .*flowers.zip was made with"):
        decode(image)


def test_a_member_expands_to_no_more_than_its_size(pack):
    path = pack(FOLDERS | {"b/z.png": bytes(50_000_000)})[1]
    changed(path, "b/z.png", 24, (100).to_bytes(4, "little"))
    tracemalloc.start()
    with pytest.raises(ValueError, match="b/z.png: damaged in the zip file .Bad CRC-32"):
        open_source(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_faults_of_many_members_are_five_and_a_count(tmp_path):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as file:
        for index in range(400):
            file.writestr(f"../{index}\x1b{'x' * 1000}.png", b"")
    with pytest.raises(ValueError, match="and 395 more") as caught:
        open_source(path)
    assert len(str(caught.value)) < 2000 and str(caught.value).replace("\n", "").isprintable()
