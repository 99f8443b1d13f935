import os
import time
import zipfile

import pytest

from keras_vit.data import listing, reading_cache
from keras_vit.data.check import check_folder
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")
LONG_AGO = time.time_ns() - 10**12


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of the cache, in which even a short reading is kept."""
    monkeypatch.setenv("KERAS_VIT_IMAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "WORTH_SECONDS", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that are decoded, in order."""
    names, read = [], listing._read_image
    monkeypatch.setattr(
        listing, "_read_image", lambda image, channels: names.append(image.name) or read(image, channels)
    )
    return names


@pytest.fixture
def root(write):
    root = write({f"{name}/{n}.png": 10 * ord(name) + n for name in "ab" for n in range(5)})
    return aged(root)


def aged(root):
    for path in root.rglob("*.*"):
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return root


def test_unchanged_images_are_read_once(root, decoded, cache):
    first, text = open_source(root), check_folder(root).text()
    assert len(decoded) == 10
    assert open_source(root).digest == first.digest and check_folder(root).text() == text
    assert len(decoded) == 10
    assert len(list(cache.iterdir())) == 1 and {path.suffix for path in root.rglob("*.*")} == {".png"}


def test_a_changed_image_is_read_again(root, decoded, image):
    first = open_source(root).digest
    del decoded[:]
    one, other = root / "a/0.png", root / "a/1.png"
    one.write_bytes(image(7000))
    other.write_bytes(other.read_bytes()[::-1])  # of the same size and, by force, time
    os.utime(other, ns=(LONG_AGO, LONG_AGO))
    (root / "b/new.png").write_bytes(image(7001))
    (root / "b/0.png").unlink()
    with pytest.raises(ValueError, match="a/1.png: not an image"):
        open_source(root)
    assert sorted(decoded) == ["a/0.png", "a/1.png", "b/new.png"]
    assert open_source(root, on_bad_image="skip").digest != first


def test_the_other_readings_stay_when_some_images_are_read_again(root, decoded, image):
    open_source(root)
    for name in ("a/0.png", "b/new.png"):
        (root / name).write_bytes(image(7000 + len(name)))
        os.utime(root / name, ns=(LONG_AGO, LONG_AGO))
    del decoded[:]
    texts = [check_folder(root).text() for _ in range(3)]
    assert sorted(decoded) == ["a/0.png", "b/new.png"] and len(set(texts)) == 1


def test_images_that_cannot_be_read_or_have_just_been_written_are_read_again(root, decoded, image):
    (root / "a/bad.png").write_bytes(b"")
    os.utime(root / "a/bad.png", ns=(LONG_AGO, LONG_AGO))
    (root / "a/young.png").write_bytes(image(7000))
    for _ in range(2):
        del decoded[:]
        open_source(root, on_bad_image="skip")
    assert sorted(decoded) == ["a/bad.png", "a/young.png"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data.replace(b"PNG", b"GIF"), lambda data: b""]
)
def test_a_damaged_cache_is_not_used(root, decoded, cache, damage):
    first = check_folder(root)
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert check_folder(root) == first and len(decoded) == 20
    assert check_folder(root) == first and len(decoded) == 20


def test_other_versions_read_again(root, decoded, monkeypatch):
    open_source(root)
    monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", "34")
    with pytest.raises(ValueError, match="10 images"):
        open_source(root)
    monkeypatch.setenv("KERAS_VIT_MAX_PIXELS", "36")
    monkeypatch.setattr(reading_cache, "_FORMAT", 0)
    open_source(root)
    assert len(decoded) == 30


def test_members_of_a_zip_file(root, decoded, tmp_path):
    path = tmp_path / "flowers.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in sorted(root.rglob("*.png")):
            file.write(name, name.relative_to(root))
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    digest = open_source(path).digest
    assert open_source(path).digest == digest and len(decoded) == 10


@pytest.mark.parametrize("place", ["0", "inside", "a file"])
def test_where_nothing_is_written(root, decoded, monkeypatch, tmp_path, place):
    (tmp_path / "file").write_text("")
    setting = {"0": "0", "inside": str(root / "cache"), "a file": str(tmp_path / "file")}[place]
    monkeypatch.setenv("KERAS_VIT_IMAGE_CACHE", setting)
    before = set(tmp_path.rglob("*"))
    for _ in range(2):
        open_source(root)
    assert len(decoded) == 20 and set(tmp_path.rglob("*")) == before


def test_the_default_folder(root, decoded, monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_VIT_IMAGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    open_source(root)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    open_source(root)
    (one,), (two,) = (list((tmp_path / place / "keras_vit/images").iterdir()) for place in ("own", "home/.cache"))
    assert one.name == two.name and one.name.startswith("flowers-")


def test_a_short_reading_is_not_kept(root, cache, monkeypatch):
    monkeypatch.setattr(listing, "WORTH_SECONDS", 60.0)
    open_source(root)
    assert not cache.exists()
